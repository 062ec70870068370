// `rondo load` against servers that answer, stall, hang up and are not there.

import HTTPOrigins
import Rondo
import Synchronization
import Testing

@testable import RondoCommand

@Suite struct LoadTests {
    @Test func whatTheServerAnsweredIsCounted() throws {
        let answer = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello"
        let (outcome, answers) = try load(["-c", "3", "-d", "1h", "--json"], until: 30) { _ in answer }
        #expect(outcome.status == 0)
        let counted = try #require(outcome.integer("answers"))
        let unanswered = try #require(outcome.integer("unanswered"))
        // The connection that asks for one more has read all that it was given; each of the others, all but one.
        #expect(answers == 30 && (28...30).contains(counted))
        #expect((counted...counted + unanswered).contains(answers))
        #expect(outcome.integer("receivedBytes")! >= counted * answer.utf8.count)
        #expect(outcome.output.contains("\"statuses\":{\"200\":\(counted)}"))
        #expect(outcome.output.contains("\"failures\":{}"))
    }

    @Test func statusesAreToldApart() throws {
        let (outcome, _) = try load(["-c", "1", "-d", "1h"], until: 10) { number in
            let status = number % 2 == 0 ? "200 OK" : "503 Busy"
            return "HTTP/1.1 \(status)\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n0\r\n\r\n"
        }
        #expect(outcome.status == 0)
        #expect(outcome.output.contains("statuses    200 × 5, 503 × 5\n"), "\(outcome.output)")
    }

    /// In an open loop a pause shows in all requests that were due meanwhile, not only in the one that was on its way.
    @Test func aPauseIsFeltByAllThatWereDue() throws {
        let pause = Duration.milliseconds(200)
        let (outcome, _) = try load(["-c", "1", "-d", "1h", "--rate", "1000", "--json"], until: 500) { number in
            if number == 1 { try await Task.sleep(for: pause) }
            return "HTTP/1.1 204 No Content\r\n\r\n"
        }
        #expect(outcome.status == 0)
        #expect(outcome.integer("answers") == 500)
        // However slow the machine is: a hundred requests were due in the first half of the pause, which is a fifth at
        // least of all answers.
        let latency = outcome.output.split(separator: "\"p90\":").last!.prefix { $0.isNumber }
        #expect(Int(latency)! > 99_000_000)
    }

    @Test func failuresAreNamedAndCounted() throws {
        let (outcome, _) = try load(["-c", "1", "-d", "1h", "--json"], until: 3) { _ in nil }
        #expect(outcome.status == 1 && outcome.integer("answers") == 0)
        #expect(outcome.output.contains("{\"the server closed the connection early\":3}"), "\(outcome.output)")
        let (other, _) = try load(["-c", "1", "-d", "1h"], until: 3) { _ in "SSH-2.0-OpenSSH\r\n" }
        #expect(other.status == 1 && other.output.contains("3 × the answer is not HTTP/1.1"), "\(other.output)")
    }

    @Test func nobodyListens() throws {
        let outcome = try CommandUnderTest.run(["load", "http://127.0.0.1:1/", "-d", "100ms"])
        #expect(outcome.status == 1)
        #expect(outcome.output.contains("failed ") && outcome.output.contains("connect to: Connection refused"))
    }

    @Test func aConnectionThatTheServerEndsIsMadeAgain() throws {
        let (outcome, answers) = try load(["-c", "1", "-d", "1h", "--json"], until: 5) { _ in
            "HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: 0\r\n\r\n"
        }
        #expect(outcome.status == 0 && answers == 5 && outcome.integer("answers") == 5)
    }

    @Test(.enabled(if: Installed.nginx != nil, "nginx is not installed"))
    func secureServersToo() async throws {
        try await withEventLoop { _ in
            try await TemporaryDirectory.with { folder in
                let origin = try await NginxOrigin(in: folder, isSecure: true, locations: "keepalive_requests 3;")
                try await File.write([1, 2, 3], to: folder.appending("files").appending("f"))
                let trusting = try await Self.throughDoor(to: origin.securePort, ["-k"])
                #expect(
                    trusting.status == 0 && trusting.output.contains("statuses    200 × "), "\(trusting.output)")
                let careful = try await Self.throughDoor(to: origin.securePort, [])
                #expect(
                    careful.status == 1 && careful.output.contains("CERTIFICATE_VERIFY_FAILED"), "\(careful.output)")
                await origin.stop()
            }
        }
    }

    /// Runs the command with two connections, through a door that interrupts it when a third one is made: by then one
    /// of the first two has had what there was for it.
    private static func throughDoor(to port: Int, _ arguments: [String]) async throws -> CommandOutcome {
        let door = try await TCPListener.listen(on: .loopback(port: 0))
        let counter = Counter()
        let (isThird, interrupt) = AsyncStream.makeStream(of: Void.self)
        let serving = Task(executorPreference: EventLoop.current!.executor) {
            try? await door.serve { stream in
                if counter.take() == 2 { interrupt.yield() }
                let server = try await TCPStream.connect(to: .loopback(port: port))
                _ = try? await relay(stream, server)
                await server.abort()
            }
        }
        let url = "https://127.0.0.1:\(door.localAddress.port)/f"
        let outcome = try await run(["load", url, "-c", "2", "-d", "1h"] + arguments, interruptedBy: isThird)
        serving.cancel()
        await serving.value
        await door.close()
        return outcome
    }

    /// The request is the user's.
    @Test func whatIsSentCanBeChosen() throws {
        let target = try LoadTarget(
            "http://[::1]:81?q", .init(method: "PUT", headers: ["host: other", "X-A: 1"], body: "né"))
        #expect(target.host == "::1" && target.port == 81 && !target.isHead)
        #expect(
            String(decoding: target.request, as: UTF8.self)
                == "PUT /?q HTTP/1.1\r\nUser-Agent: rondo-load\r\nContent-Length: 3\r\nhost: other\r\nX-A: 1\r\n\r\nné")
    }

    @Test(arguments: [
        (["ftp://x/"], 1, "begin with http://"), (["http:///x"], 1, "it has no host"), (["http://x:0/"], 1, "no port"),
        (["http://x/", "-c", "0"], 64, "-c 0"), (["http://x/", "-d", "5"], 64, "write 10s"),
        (["http://x/", "--rate", "-1"], 64, "--rate"), (["http://x/", "-H", "no colon"], 64, "Name: value"),
        (["http://x/", "-H", ": x"], 64, "Name: value"), (["http://x/", "--method", "G T"], 64, "name of a method"),
    ])
    func whatMakesNoSenseIsSaid(arguments: [String], status: Int32, words: String) throws {
        let outcome = try CommandUnderTest.run(["load"] + arguments)
        #expect(outcome.status == status && outcome.errors.contains(words), "\(outcome.errors)")
    }

    @Test func anInterruptEndsItWithTheReport() throws {
        try EventLoop.run {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            var command = ChildProcess.Command(
                CommandUnderTest.path,
                ["load", "http://\(listener.localAddress)/", "-c", "1", "-d", "1h"])
            command.output = .pipe
            let child = try await ChildProcess.start(command)
            let stream = try await listener.accept()
            let reader = BufferedReader(stream)
            for _ in 0..<3 {
                while let line = try await reader.readLine(), !line.isEmpty {}
                try await stream.write("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
            }
            while let line = try await reader.readLine(), !line.isEmpty {}
            _ = try child.signal(.interrupt)
            let output = BufferedReader(try #require(child.output))
            var lines: [String] = []
            while let line = try await output.readLine() { lines.append(line) }
            let status = try await child.waitUntilExit()
            #expect(status == .exited(0))
            #expect(lines.contains { $0.hasPrefix("answers     3, ") }, "\(lines)")
            await stream.close()
            await child.output?.close()
            await listener.close()
        }
    }

    /// Runs the command against a server that answers each request, by its number, with these bytes; nil hangs up.
    ///
    /// - Parameter limit: the command is interrupted instead of being given an answer of this number.
    /// - Returns: what the command has said, and how many answers the server has sent.
    private func load(
        _ arguments: [String], until limit: Int = .max, _ answer: @escaping @Sendable (Int) async throws -> String?
    ) throws -> (CommandOutcome, Int) {
        try EventLoop.run {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let counter = Counter()
            let (limitReached, interrupt) = AsyncStream.makeStream(of: Void.self)
            let serving = Task(executorPreference: EventLoop.current!.executor) {
                try? await listener.serve { stream in
                    let reader = BufferedReader(stream)
                    while let line = try await reader.readLine() {
                        if !line.isEmpty { continue }
                        if counter.count == limit {
                            interrupt.yield()
                            continue
                        }
                        guard let text = try await answer(counter.take()) else { return }
                        try await stream.write(text)
                    }
                }
            }
            let outcome = try await Self.run(
                ["load", "http://\(listener.localAddress)/"] + arguments, interruptedBy: limitReached)
            serving.cancel()
            await serving.value
            await listener.close()
            return (outcome, counter.count)
        }
    }

    /// Runs the command to its end, and interrupts it once if it is said so.
    private static func run(
        _ arguments: [String], interruptedBy interrupts: AsyncStream<Void>
    ) async throws -> CommandOutcome {
        var command = ChildProcess.Command(CommandUnderTest.path, arguments)
        command.output = .pipe
        let child = try await ChildProcess.start(command)
        let interrupting = Task(executorPreference: EventLoop.current!.executor) {
            for await _ in interrupts.prefix(1) { _ = try child.signal(.interrupt) }
        }
        let output = try await child.output!.readToEnd(limit: 1 << 20)
        let status = try await child.waitUntilExit()
        await child.output?.close()
        interrupting.cancel()
        try await interrupting.value
        let text = String(decoding: output, as: UTF8.self)
        return CommandOutcome(status: status.shellStatus, output: text, errors: "")
    }

    /// Numbers requests and connections.
    private final class Counter: Sendable {
        private let value = Mutex(0)
        var count: Int { value.withLock { $0 } }
        func take() -> Int {
            value.withLock {
                $0 += 1
                return $0 - 1
            }
        }
    }
}
