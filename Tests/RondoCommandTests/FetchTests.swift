// `rondo fetch` as a user starts it, against servers that behave and servers that do not.

import Crypto
import HTTPOrigins
import Rondo
import Synchronization
import SystemPackage
import Testing

@testable import RondoCommand

@Suite struct FetchTests {
    // MARK: Real servers

    /// As many files as a package mirror has in a folder, and a server that does not last.
    @Test(.enabled(if: Installed.nginx != nil, "nginx is not installed"))
    func fiveThousandFilesWhileNginxIsRestartedTwice() async throws {
        try await withOrigin { folder in
            let origin = try await NginxOrigin(in: folder)
            var list = ""
            var sums: [String: [UInt8]] = [:]
            for number in 0..<5000 {
                let content = Self.content(number, count: number * 37 % 40_000)
                let sum = Array(SHA256.hash(data: content))
                try await File.write(content, to: folder.appending("files").appending("f\(number)"))
                sums["f\(number)"] = sum
                list += "\(origin.url("f\(number)"))  \(FetchList.hexadecimal(sum))\n"
            }
            try await File.write(Array(list.utf8), to: folder.appending("list"))
            let output = folder.appending("out")
            try await Files.makeDirectory(output)
            let child = try await Self.start(
                ["--input", "\(folder)/list", "-o", "\(output)", "-j", "64", "--json", "--retries", "30"])
            // The command can't get far ahead of who reads its lines: the pipe holds a few hundred of them.
            let reader = BufferedReader(child.output!)
            var lines: [String] = []
            var restarts: [Task<Void, any Error>] = []
            while let line = try await reader.readLine() {
                lines.append(line)
                if lines.count == 1200 || lines.count == 3100 {
                    await origin.stop()
                    restarts.append(
                        Task(executorPreference: EventLoop.current!.executor) { try await Self.restart(origin) })
                }
            }
            #expect(try await child.waitUntilExit() == .exited(0))
            for restart in restarts { try await restart.value }
            await child.output?.close()
            await child.errors?.close()
            await origin.stop()
            let names = try await Directory.entries(of: output).map(\.name)
            #expect(Set(names) == Set(sums.keys))
            for (name, sum) in sums {
                #expect(Array(SHA256.hash(data: try await File.contents(of: output.appending(name)))) == sum)
            }
            #expect(lines.count == 5001)
            #expect(lines.last?.contains(#""downloaded":5000,"alreadyThere":0,"failed":0,"interrupted":0"#) == true)
            // The restarts were felt.
            #expect(lines.contains { !$0.contains(#""attempts":1"#) && $0.contains("attempts") })
        }
    }

    @Test(.enabled(if: Installed.python != nil, "python3 is not installed"))
    func pythonServesToo() async throws {
        try await withOrigin { folder in
            let files = folder.appending("files")
            try await Files.makeDirectory(files)
            for number in 0..<40 {
                try await File.write(Self.content(number, count: number * 9000), to: files.appending("\(number).bin"))
            }
            let origin = try await PythonOrigin(serving: files)
            let urls = (0..<40).map { origin.url("\($0).bin") }
            let outcome = try await Self.fetch(["-o", "\(folder)/out"] + urls)
            #expect(outcome.status == 0, "\(outcome.errors)")
            for number in 0..<40 {
                let content = try await File.contents(of: folder.appending("out/\(number).bin"))
                #expect(content == Self.content(number, count: number * 9000))
            }
            let again = try await Self.fetch(["-o", "\(folder)/out", "--json"] + urls)
            #expect(again.status == 0)
            #expect(again.output.contains(#""downloaded":0,"alreadyThere":40"#))
            await origin.stop()
        }
    }

    // MARK: Breaking off and going on

    /// Half of it, then the end; the other half for whoever asks for it rightly.
    private static func halvingOrigin(
        _ content: [UInt8], asked: Notes, isSame: Bool = true
    ) async throws -> ScriptedOrigin {
        try await ScriptedOrigin { request, _, stream in
            let range = request.header("range")
            asked.note("\(range ?? "-") \(request.header("if-range") ?? "-")")
            if range == nil || !isSame {
                let isFirst = asked.count == 1
                let head =
                    "HTTP/1.1 200 OK\r\nETag: \"v\(isFirst ? 1 : 2)\"\r\nContent-Length: \(content.count)\r\n\r\n"
                try await stream.write(
                    Array(head.utf8) + (isFirst ? Array(content.prefix(content.count / 2)) : content))
                if isFirst { try await stream.finishWriting() }
            } else {
                let start = content.count / 2
                let last = content.count - 1
                try await stream.answer(
                    "206 Partial Content", ["ETag: \"v1\"", "Content-Range: bytes \(start)-\(last)/\(content.count)"],
                    body: Array(content.suffix(from: start)))
            }
        }
    }

    @Test(arguments: [true, false])
    func aBrokenDownloadGoesOnIfTheFileIsTheSame(_ isSame: Bool) async throws {
        try await withOrigin { folder in
            let content = Self.content(1, count: 3_000_000)
            let asked = Notes()
            let origin = try await Self.halvingOrigin(content, asked: asked, isSame: isSame)
            let outcome = try await Self.fetch([
                "-o", "\(folder)", "--json", "--sha256", FetchList.hexadecimal(Array(SHA256.hash(data: content))),
                origin.url("file"),
            ])
            #expect(outcome.status == 0, "\(outcome.errors)")
            #expect(asked.all == ["- -", "bytes=1500000- \"v1\""])
            #expect(try await File.contents(of: folder.appending("file")) == content)
            #expect(outcome.output.contains(isSame ? #""resumedFrom":1500000"# : #""resumedFrom":0"#))
            #expect(try await Directory.entries(of: folder).count == 1)
            await origin.stop()
        }
    }

    @Test func controlCLeavesWhatALaterRunGoesOnWith() async throws {
        try await withOrigin { folder in
            let content = Self.content(2, count: 3_000_000)
            let isHalf = AsyncEvent()
            let origin = try await ScriptedOrigin { request, _, stream in
                if request.header("range") == "bytes=1500000-" {
                    return try await stream.answer(
                        "206 Partial Content", ["Content-Range: bytes 1500000-2999999/3000000"],
                        body: Array(content.suffix(1_500_000)))
                }
                let date = "Last-Modified: Sun, 06 Nov 1994 08:49:37 GMT"
                try await stream.write("HTTP/1.1 200 OK\r\n\(date)\r\nContent-Length: 3000000\r\n\r\n")
                try await stream.write(Array(content.prefix(1_500_000)))
                isHalf.set()
                _ = try await stream.readToEnd(limit: 100)
            }
            let arguments = ["-o", "\(folder)", origin.url("file")]
            let child = try await Self.start(arguments)
            try await isHalf.wait()
            // What the server has sent is on its way; it is enough for the client when the file has it.
            while try await Files.exists(folder.appending("file.part")) == false { await EventLoop.yield() }
            while try await Files.status(of: folder.appending("file.part")).size < 1_500_000 { await EventLoop.yield() }
            try child.signal(.interrupt)
            let outcome = try await Self.end(of: child)
            #expect(outcome.status == 130)
            #expect(outcome.errors.contains("1 is kept as .part: the same command goes on with them"))
            #expect(try await Directory.entries(of: folder).map(\.name).sorted() == ["file.part", "file.part.note"])
            let again = try await Self.fetch(arguments)
            #expect(again.status == 0, "\(again.errors)")
            #expect(again.output.contains("from 1,500,000 on"))
            #expect(try await File.contents(of: folder.appending("file")) == content)
            #expect(try await Directory.entries(of: folder).count == 1)
            await origin.stop()
        }
    }

    // MARK: What fails

    @Test func theStatusIsTheNumberOfFailures() async throws {
        try await withOrigin { folder in
            let origin = try await ScriptedOrigin { request, _, stream in
                try await stream.answer(request.path == "/good" ? "200 OK" : "404 Not \u{1B}[31mFound", body: [1])
            }
            let urls = ["a", "good", "b", "c"].map { origin.url($0) }
            let outcome = try await Self.fetch(["-o", "\(folder)"] + urls)
            #expect(outcome.status == 3)
            #expect(try await Directory.entries(of: folder).map(\.name) == ["good"])
            #expect(outcome.errors.contains("the server answered 404 Not"))
            #expect(!outcome.errors.contains("\u{1B}"))
            await origin.stop()
        }
    }

    @Test func aWrongChecksumIsNoFile() async throws {
        try await withOrigin { folder in
            let origin = try await ScriptedOrigin { _, _, stream in try await stream.answer(body: [1, 2, 3]) }
            let sum = String(repeating: "0", count: 64)
            let outcome = try await Self.fetch(["-o", "\(folder)", "--sha256", sum, origin.url("file")])
            #expect(outcome.status == 1)
            #expect(outcome.errors.contains("its SHA-256 is 039058c6f2c0cb49"))
            #expect(try await Directory.entries(of: folder).isEmpty)
            await origin.stop()
        }
    }

    @Test func busyServersAreAskedAgain() async throws {
        try await withOrigin { folder in
            let asked = Notes()
            let origin = try await ScriptedOrigin { request, _, stream in
                asked.note(request.path)
                switch asked.count {
                case 1: try await stream.answer("503 Busy", ["Retry-After: 0"])
                case 2: try await stream.answer("429 Slow", ["Retry-After: Sun, 06 Nov 1994 08:49:37 GMT"])
                default: try await stream.answer(body: [1])
                }
            }
            let outcome = try await Self.fetch(["-o", "\(folder)", "--json", origin.url("x")])
            #expect(outcome.status == 0)
            #expect(outcome.output.contains(#""attempts":3"#))
            let given = try await Self.fetch(["-o", "\(folder)", "--retries", "0", "http://127.0.0.1:1/y"])
            #expect(given.status == 1)
            #expect(given.errors.contains("Connection refused"))
            await origin.stop()
        }
    }

    @Test func aFullDiskSaysSo() async throws {
        try await withOrigin { folder in
            let origin = try await ScriptedOrigin { _, _, stream in
                try await stream.answer(body: [UInt8](repeating: 1, count: 4 << 20))
            }
            let rondo = CommandUnderTest.path
            let limited = ChildProcess.Command(
                "sh",
                ["-c", "ulimit -f 1024; exec \"$0\" fetch -o \"$1\" \"$2\"", rondo, "\(folder)", origin.url("big")])
            let outcome = try await ChildProcess.run(limited)
            #expect(outcome.status == .exited(1))
            let words = String(decoding: outcome.errors, as: UTF8.self)
            #expect(words.contains("big.part: File too large"), "\(words)")
            #expect(try await Files.exists(folder.appending("big")) == false)
            let nowhere = try await Self.fetch(["-o", "/proc/version/x", origin.url("x")])
            #expect(nowhere.status == 126)
            #expect(nowhere.errors.contains("/proc/version/x"))
            await origin.stop()
        }
    }

    @Test func nonsenseInListsIsNamedByLine() async throws {
        try await withOrigin { folder in
            let list = folder.appending("list")
            try await File.write(Array("# a list\n\nhttp://x/ abc\n".utf8), to: list)
            let sum = try await Self.fetch(["--input", "\(list)", "-o", "\(folder)"])
            #expect(sum.status == 126)
            #expect(sum.errors.contains("list:3: “abc” is no SHA-256"))
            try await File.write([0x68, 0xff, 0x0a], to: list)
            let bytes = try await Self.fetch(["--input", "\(list)", "-o", "\(folder)"])
            #expect(bytes.errors.contains("list:1: it is not valid UTF-8"))
        }
    }

    // MARK: Support

    /// Bytes that differ from file to file and place to place.
    static func content(_ seed: Int, count: Int) -> [UInt8] {
        var state = UInt64(truncatingIfNeeded: seed) &* 0x9e37_79b9_7f4a_7c15 | 1
        return (0..<count).map { _ in
            state ^= state << 13
            state ^= state >> 7
            state ^= state << 17
            return UInt8(truncatingIfNeeded: state)
        }
    }

    private func withOrigin(_ body: sending @escaping (FilePath) async throws -> Void) async throws {
        try await withEventLoop { _ in try await TemporaryDirectory.with { folder in try await body(folder) } }
    }

    /// Starts the server again when the command has felt that it is away.
    private static func restart(_ origin: NginxOrigin) async throws {
        let listener = try await TCPListener.listen(on: .loopback(port: origin.port))
        for _ in 0..<3 { await (try await listener.accept()).abort() }
        await listener.close()
        try await origin.start()
    }

    private static func start(_ arguments: [String]) async throws -> ChildProcess {
        var command = ChildProcess.Command(CommandUnderTest.path, ["fetch"] + arguments)
        command.environment = .update(["http_proxy": nil, "all_proxy": nil, "ALL_PROXY": nil])
        command.input = .null
        command.output = .pipe
        command.errors = .pipe
        return try await ChildProcess.start(command)
    }

    private static func end(of child: ChildProcess) async throws -> CommandOutcome {
        async let output = child.output!.readToEnd()
        async let errors = child.errors!.readToEnd()
        let status = try await child.waitUntilExit()
        let outcome = CommandOutcome(
            status: status.shellStatus, output: String(decoding: try await output, as: UTF8.self),
            errors: String(decoding: try await errors, as: UTF8.self))
        await child.output?.close()
        await child.errors?.close()
        return outcome
    }

    private static func fetch(_ arguments: [String]) async throws -> CommandOutcome {
        try await end(of: try await start(arguments))
    }
}

/// Lines that a server's tasks note.
final class Notes: Sendable {
    private let lines = Mutex<[String]>([])
    var all: [String] { lines.withLock { $0 } }
    var count: Int { all.count }
    func note(_ line: String) { lines.withLock { $0.append(line) } }
}
