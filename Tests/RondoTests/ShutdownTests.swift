// How a server ends: by itself in a world, and as a program that is sent signals under load.

import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct ShutdownTests {
        // MARK: In a world

        @Test(arguments: World.allCases) func handlersGoOnAndNewConnectionsAreRefused(world: World) throws {
            try world.run {
                let shutdown = Shutdown()
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let address = listener.localAddress
                let gate = Gate()
                let serving = start {
                    try await listener.serve(until: shutdown) { stream in
                        await gate.wait()
                        try await stream.write([42])
                    }
                }
                let client = try await TCPStream.connect(to: address)
                // One that was not even accepted when the end came.
                let late = try await TCPStream.connect(to: address)
                #expect(!shutdown.isRequested)
                shutdown.request()
                shutdown.request()
                while true {
                    do {
                        await (try TCPStream.connect(to: address)).close()
                        await EventLoop.yield()
                    } catch let error as IOError {
                        #expect([.connectionRefused, .connectionReset].contains(error.errno))
                        if error.errno == .connectionRefused { break }
                    }
                }
                gate.open()
                for stream in [client, late] {
                    #expect(try await stream.bytesOfOneRead() == [42])
                    await stream.close()
                }
                try await serving.value
            }
        }

        @Test(arguments: World.allCases) func aUnixListenerServesUntilThen(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("a.sock")
                let shutdown = Shutdown()
                let listener = try await UnixListener.listen(on: .path(path))
                let serving = start {
                    try await listener.serve(until: shutdown) { stream in
                        await shutdown.wait()
                        try await stream.write([42])
                    }
                }
                let client = try await UnixStream.connect(to: .path(path))
                shutdown.request()
                #expect(try await client.readToEnd(limit: 10) == [42], "a connection that had come is served")
                try await serving.value
                #expect(try await !Files.exists(path), "the file is removed")
                await client.close()
            }
        }

        @Test(arguments: World.allCases) func theDeadlineCancelsWhatIsLeft(world: World) throws {
            try world.run {
                let ended = Journal(String.self)
                let connected = Gate()
                let clientEnded = Gate()
                let running = start {
                    try await withGracefulShutdown(on: [.user1], deadline: .milliseconds(20)) { shutdown in
                        let listener = try await TCPListener.listen(on: .loopback(port: 0))
                        let address = listener.localAddress
                        start {
                            let client = try await TCPStream.connect(to: address)
                            connected.open()
                            #expect(try await client.bytesOfOneRead().isEmpty)
                            await client.close()
                            clientEnded.open()
                        }
                        start {
                            await connected.wait()
                            shutdown.request()
                        }
                        try await listener.serve(until: shutdown) { stream in
                            do { _ = try await stream.read() } catch { ended.add("\(error)") }
                        }
                    }
                }
                #expect(await ioError(of: running)?.isCancellation == true)
                await clientEnded.wait()
                #expect(ended.count == 1 && ended.all[0].hasSuffix("the task was cancelled"))
            }
        }

        @Test(arguments: World.allCases) func waitingForShutdown(world: World) throws {
            try world.run {
                let shutdown = Shutdown()
                let waiting = start { await shutdown.wait() }
                let cancelled = start { await shutdown.wait() }
                await settle()
                cancelled.cancel()
                #expect(try await cancelled.value == false)
                shutdown.request()
                #expect(try await waiting.value == true)
                #expect(await shutdown.wait(), "and at once from then on")
                let value = try await withGracefulShutdown(on: [.user1]) { _ in 7 }
                #expect(value == 7)
            }
        }

        // MARK: As a program

        private static func startProbe(
            _ world: World, deadline: Int
        ) async throws -> (server: ChildProcess, address: SocketAddress) {
            var command = ChildProcess.Command(try programPath("ShutdownProbe"), ["\(deadline)"])
            command.environment = .update(["RONDO_DRIVER": world.driver!.rawValue])
            command.output = .pipe
            command.errors = .sameAsOutput
            let server = try await ChildProcess.start(command)
            let line = String(decoding: try await server.output!.read() ?? [], as: UTF8.self)
            let port = try #require(Int(line.dropLast()), "\(line)")
            return (server, .loopback(port: port))
        }

        /// Asks for one answer; nil if the server was not there to accept.
        private static func ask(_ address: SocketAddress, _ question: String) async throws -> String? {
            let stream: TCPStream
            do { stream = try await TCPStream.connect(to: address) } catch { return nil }
            var answer: [UInt8] = []
            do {
                try await stream.write(Array("\(question)\n".utf8))
                while let chunk = try await stream.read() { answer += Array(chunk) }
            } catch {
                // The listening socket was closed before this connection was accepted.
                #expect(answer.isEmpty && error.errno == .connectionReset)
            }
            await stream.close()
            return answer.isEmpty ? nil : String(decoding: answer, as: UTF8.self)
        }

        @Test(arguments: World.real, [Signal.terminate, .interrupt]) func everyAcceptedRequestIsAnswered(
            world: World, signal: Signal
        ) throws {
            try world.run {
                let (server, address) = try await Self.startProbe(world, deadline: 3_600_000)
                let answers = Counter()
                let clients = (0..<8).map { number in
                    start {
                        while let answer = try await Self.ask(address, "client \(number)") {
                            #expect(answer == "answer to client \(number)\n")
                            if answers.add() == 300 { try server.signal(signal) }
                            if answers.value > 5000 { break }
                        }
                    }
                }
                for client in clients { try await client.value }
                #expect(try await server.waitUntilExit() == .exited(0))
                let report = String(decoding: try await server.output!.readToEnd(), as: UTF8.self)
                #expect(report == "\(answers.value) of \(answers.value)\n")
                #expect((300...5000).contains(answers.value))
                await server.output!.close()
            }
        }

        @Test(arguments: World.real) func heldRequestsAreAnsweredToo(world: World) throws {
            try world.run {
                let (server, address) = try await Self.startProbe(world, deadline: 3_600_000)
                let stream = try await Self.hold(address)
                try server.signal(.terminate)
                while try await Self.ask(address, "still there?") != nil {}
                #expect(await server.exitStatus == nil)
                try await stream.write(Array("go\n".utf8))
                #expect(try await stream.bytesOfOneRead() == Array("answer to hold\n".utf8))
                #expect(try await server.waitUntilExit() == .exited(0))
                await stream.close()
                await server.output!.close()
            }
        }

        @Test(arguments: World.real) func afterTheDeadlineTheProgramFails(world: World) throws {
            try world.run {
                let (server, address) = try await Self.startProbe(world, deadline: 30)
                let stream = try await Self.hold(address)
                try server.signal(.terminate)
                #expect(try await stream.bytesOfOneRead().isEmpty, "its handler was cancelled")
                #expect(try await server.waitUntilExit() == .exited(1))
                let report = String(decoding: try await server.output!.readToEnd(), as: UTF8.self)
                #expect(report.hasSuffix("error: accept on \(address): the task was cancelled\n"), "\(report)")
                await stream.close()
                await server.output!.close()
            }
        }

        @Test(arguments: World.real) func theSecondSignalEndsAtOnce(world: World) throws {
            try world.run {
                let (server, address) = try await Self.startProbe(world, deadline: 3_600_000)
                let stream = try await Self.hold(address)
                try server.signal(.interrupt)
                while try await Self.ask(address, "still there?") != nil {}
                try server.signal(.terminate)
                #expect(try await server.waitUntilExit() == .exited(128 + 15))
                await stream.close()
                await server.output!.close()
            }
        }

        /// Services of swift-service-lifecycle, with signals of ours: nothing else has a thread.
        @Test(arguments: World.real) func servicesRunOnTheLoop(world: World) throws {
            try world.run {
                var command = ChildProcess.Command(try programPath("ServicesProbe"))
                command.environment = .update(["RONDO_DRIVER": world.driver!.rawValue])
                command.output = .pipe
                let server = try await ChildProcess.start(command)
                let line = String(decoding: try await server.output!.read() ?? [], as: UTF8.self)
                let address = SocketAddress.loopback(port: try #require(Int(line.dropLast())))
                for number in 0..<10 {
                    #expect(try await Self.ask(address, "question \(number)") == "question \(number)\n")
                }
                try server.signal(.terminate)
                #expect(try await server.waitUntilExit() == .exited(0))
                let report = String(decoding: try await server.output!.readToEnd(), as: UTF8.self)
                #expect(report == "10 answered with 1 threads\n")
                await server.output!.close()
            }
        }

        /// A connection that the server has accepted and will not answer before a second line comes.
        private static func hold(_ address: SocketAddress) async throws -> TCPStream {
            let stream = try await TCPStream.connect(to: address)
            try await stream.write(Array("hold\n".utf8))
            // Accepted in order: when a later one is answered, this one has its handler.
            #expect(try await ask(address, "accepted?") != nil)
            return stream
        }
    }
}

extension TCPStream {
    /// What the next read brings; nothing at the end.
    fileprivate func bytesOfOneRead() async throws(IOError) -> [UInt8] {
        guard let chunk = try await read() else { return [] }
        return Array(chunk)
    }
}
