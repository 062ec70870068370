// Files that are compressed on their way, for clients that ask for it: curl and Python unpack them.

import Foundation
import Rondo
import Synchronization
import SystemPackage
import Testing

@testable import RondoHTTP

@Suite struct CompressedFilesTests {
    /// Text that shrinks to about a half, and is not the same everywhere.
    static func text(_ count: Int) -> [UInt8] {
        let digits = Array("0123456789abcdef".utf8)
        var state: UInt64 = 7
        return (0..<count).map { _ in
            state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
            return digits[Int(state >> 60)]
        }
    }

    /// 64 MiB of it.
    private static func writeLargeFile(_ name: String, in root: URL) throws {
        let path = root.appendingPathComponent(name).path
        #expect(FileManager.default.createFile(atPath: path, contents: nil))
        let handle = try FileHandle(forWritingTo: URL(fileURLWithPath: path))
        let block = Data(text(1 << 20))
        for _ in 0..<64 { try handle.write(contentsOf: block) }
        try handle.close()
    }

    /// A folder, and a server of it.
    private static func serving(
        _ configuration: HTTPServerConfiguration = HTTPServerConfiguration(), atOnce: Int = 64,
        _ body: sending @escaping (String, URL) async throws -> Void
    ) throws {
        let root = FileManager.default.temporaryDirectory.path + "/rondo-gzip-\(UInt64.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: root, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(atPath: root) }
        let scheme = configuration.tls == nil ? "http" : "https"
        try EventLoop.run {
            var files = try await StaticFiles(root: FilePath(root))
            files.compressionsAtOnce = atOnce
            let answering = files
            let server = try await HTTPServer.listen(on: .loopback(port: 0), configuration: configuration)
            let serving = start { try await server.serve { try await answering.answer($0, with: $1) } }
            try await body("\(scheme)://127.0.0.1:\(server.localAddress.port)", URL(fileURLWithPath: root))
            await server.stopAccepting()
            try await serving.value
        }
    }

    private static func curl(_ arguments: String...) async throws -> [UInt8] {
        try await ChildProcess.run(ChildProcess.Command("curl", ["-sk", "--max-time", "60"] + arguments)).output
    }

    /// The fields of an answer without the time, in lower case; and its first line.
    private static func head(_ arguments: String...) async throws -> [String: String] {
        let command = ChildProcess.Command("curl", ["-sk", "-D", "-", "-o", "/dev/null"] + arguments)
        let text = try await ChildProcess.run(command).text
        var fields: [String: String] = [:]
        for line in text.split(separator: "\r\n") {
            let parts = line.split(separator: ": ", maxSplits: 1)
            if parts.count == 2 { fields[parts[0].lowercased()] = String(parts[1]) } else { fields[""] = String(line) }
        }
        fields["date"] = nil
        return fields
    }

    private static let gzip = "Accept-Encoding: gzip"

    // MARK: Who gets what

    @Test(
        arguments: [
            (nil, false), ("", false), ("gzip", true), ("GZIP", true), ("x-gzip", true), ("deflate, gzip, br", true),
            ("br", false), ("*", true), ("*;q=0", false), ("gzip;q=0", false), ("gzip;q=0.0", false),
            ("gzip;q=0.001", true),
            ("gzip; q=1.000", true), ("gzip;q=1.5", true), ("gzip;q=2", false), ("gzip;q=", false),
            ("gzip;q=0.", false),
            ("gzip;q=0.0001", false), ("gzip;x=1", false), ("identity", false), ("identity, gzip", true),
            ("identity, gzip;q=0.9", false), ("identity;q=0.5, gzip;q=0.6", true), ("*;q=0.5, gzip;q=0", false),
            ("gzip;q=0, *", false), ("identity;q=0, *", true), ("gzipped", false), (" \tgzip\t , ", true),
            (",;,=;q", false),
            ("gzip;q=0, gzip", true), ("deflate;q=1, *;q=0.1", true),
        ] as [(String?, Bool)]) func wishes(_ field: String?, _ expected: Bool)
    {
        #expect(ContentCoding(field).prefersGzip == expected)
    }

    @Test(arguments: ["--http1.1", "--http2", "--http1.0"]) func whoAsksGetsGzip(_ version: String) throws {
        var configuration = HTTPServerConfiguration()
        configuration.tls = try SecureTests.tls.get()
        try Self.serving(configuration) { url, root in
            for count in [1000, 65_535, 65_536, 65_537, 1_000_003] {
                let bytes = Self.text(count)
                try Data(bytes).write(to: root.appendingPathComponent("\(count).txt"))
                let file = url + "/\(count).txt"
                let packed = try await Self.curl(version, "-H", Self.gzip, file)
                #expect(packed.starts(with: [0x1F, 0x8B]) && packed.count < count * 6 / 10)
                let unpacked = try await Self.curl(version, "--compressed", file)
                #expect(unpacked == bytes, "\(count)")
                let plain = try await Self.curl(version, file)
                #expect(plain == bytes)
            }
        }
    }

    @Test func pythonUnpacksIt() throws {
        try Self.serving { url, root in
            try Data(Self.text(200_000)).write(to: root.appendingPathComponent("a.json"))
            let program = """
                import gzip, sys, urllib.request as u
                r = u.urlopen(u.Request(sys.argv[1], headers={'Accept-Encoding': 'gzip'}))
                assert r.headers['Content-Encoding'] == 'gzip'
                assert gzip.decompress(r.read()) == u.urlopen(sys.argv[1]).read()
                print('same')
                """
            let output = try await ChildProcess.run(
                ChildProcess.Command("python3", ["-c", program, url + "/a.json"]))
            #expect(output.text == "same\n")
        }
    }

    @Test func whatDoesNotShrinkStaysAsItIs() throws {
        try Self.serving { url, root in
            for (name, count) in [("a.png", 5000), ("b", 5000), ("c.gz", 5000), ("small.txt", 999), ("empty.txt", 0)] {
                try Data(Self.text(count)).write(to: root.appendingPathComponent(name))
                let head = try await Self.head("-H", Self.gzip, url + "/" + name)
                #expect(head["content-encoding"] == nil && head["vary"] == nil, "\(name)")
                #expect(head["content-length"] == "\(count)")
            }
        }
    }

    @Test func theHeadIsThatOfTheAnswer() throws {
        try Self.serving { url, root in
            try Data(Self.text(5000)).write(to: root.appendingPathComponent("a.txt"))
            for fields in [Self.gzip, "X: y", "Range: bytes=x"] {
                let got = try await Self.head("-H", fields, url + "/a.txt")
                let asked = try await Self.head("-I", "-H", fields, url + "/a.txt")
                #expect(got == asked && got["vary"] == "Accept-Encoding")
                #expect((got["content-encoding"] == "gzip") == (fields == Self.gzip))
                #expect((got["content-length"] == "5000") == (fields != Self.gzip))
                #expect((got["accept-ranges"] == "bytes") == (fields != Self.gzip))
            }
        }
    }

    // MARK: Ranges and conditions

    @Test func aRangeIsOneOfTheFileAsItIs() throws {
        try Self.serving { url, root in
            let bytes = Self.text(5000)
            try Data(bytes).write(to: root.appendingPathComponent("a.txt"))
            let file = url + "/a.txt"
            let part = try await Self.curl("-H", Self.gzip, "-r", "4000-", file)
            #expect(part == Array(bytes[4000...]))
            let head = try await Self.head("-H", Self.gzip, "-r", "4000-", file)
            #expect(head["content-range"] == "bytes 4000-4999/5000" && head["content-encoding"] == nil)
            #expect(head["vary"] == "Accept-Encoding")
            let packed = try await Self.head("-H", Self.gzip, file)
            #expect(packed["etag"] != head["etag"])
            // Whoever has the beginning of the packed form can't go on with it.
            let goOn = ["-H", Self.gzip, "-r", "40-", "-H", "If-Range: "]
            let whole = try await Self.curl(
                goOn[0], goOn[1], goOn[2], goOn[3], goOn[4], goOn[5] + packed["etag"]!, file)
            #expect(whole.starts(with: [0x1F, 0x8B]))
            let rest = try await Self.curl(goOn[0], goOn[1], goOn[2], goOn[3], goOn[4], goOn[5] + head["etag"]!, file)
            #expect(rest == Array(bytes[40...]))
            let beyond = try await Self.head("-H", Self.gzip, "-r", "5000-", file)
            #expect(beyond[""]?.hasPrefix("HTTP/1.1 416") == true && beyond["content-range"] == "bytes */5000")
        }
    }

    @Test func eachFormHasAValidatorOfItsOwn() throws {
        try Self.serving { url, root in
            try Data(Self.text(5000)).write(to: root.appendingPathComponent("a.txt"))
            let file = url + "/a.txt"
            let plain = try #require(try await Self.head(file)["etag"])
            let packed = try #require(try await Self.head("-H", Self.gzip, file)["etag"])
            #expect(plain != packed && !plain.hasPrefix("W/"))
            for (asked, known, status, tag) in [
                (Self.gzip, packed, "304", packed), (Self.gzip, "W/" + packed, "304", packed),
                (Self.gzip, "\"x\",\(packed)", "304", packed), (Self.gzip, plain, "304", plain),
                ("X: y", plain, "304", plain), ("X: y", packed, "200", plain), (Self.gzip, "*", "304", packed),
                (Self.gzip, "\"x\"", "200", packed),
            ] {
                let head = try await Self.head("-H", asked, "-H", "If-None-Match: \(known)", file)
                #expect(
                    head[""]?.split(separator: " ")[1] == Substring(status) && head["etag"] == tag, "\(asked) \(known)")
                #expect(head["vary"] == "Accept-Encoding")
            }
            for (asked, known, status) in [
                (Self.gzip, packed, "200"), ("X: y", plain, "200"), ("X: y", packed, "412"), ("X: y", "*", "200"),
                ("X: y", "\"x\"", "412"), ("X: y", "W/" + plain, "412"),
            ] {
                let head = try await Self.head("-H", asked, "-H", "If-Match: \(known)", file)
                #expect(head[""]?.split(separator: " ")[1] == Substring(status), "\(asked) \(known)")
            }
        }
    }

    // MARK: What it costs

    /// Some clients take all of a large file, others nothing; meanwhile small requests are answered.
    @Test func memoryStaysFlatAndTheLoopIsFree() throws {
        try Self.serving { url, root in
            try Self.writeLargeFile("large.txt", in: root)
            try Data(Self.text(100_000)).write(to: root.appendingPathComponent("small.txt"))
            _ = try await Self.curl("--compressed", "-o", "/dev/null", url + "/small.txt")
            let before = try residentBytes()
            let address = SocketAddress("127.0.0.1", port: Int(url.split(separator: ":").last!)!)!
            var idle: [TCPStream] = []
            for _ in 0..<20 {
                let stream = try await TCPStream.connect(to: address)
                try await stream.write("GET /large.txt HTTP/1.1\r\nHost: x\r\n\(Self.gzip)\r\n\r\n")
                idle.append(stream)
            }
            let taking = start {
                try await Self.curl("--compressed", "-o", "/dev/null", "-w", "%{http_code}", url + "/large.txt")
            }
            let answers = Atomic(0)
            let asking = start {
                let stream = try await TCPStream.connect(to: address)
                while !taking.isCancelled {
                    try await stream.write("GET /nothing HTTP/1.1\r\nHost: x\r\n\r\n")
                    guard try await stream.read() != nil else { break }
                    answers.add(1, ordering: .relaxed)
                }
                await stream.close()
            }
            let code = try await taking.value
            #expect(String(decoding: code, as: UTF8.self) == "200")
            taking.cancel()
            try await asking.value
            let grown = try residentBytes() - before
            for stream in idle { await stream.abort() }
            #expect(answers.load(ordering: .relaxed) > 20)
            // 21 of half a megabyte each, and what was on its way.
            #expect(grown < 48 << 20, "\(grown >> 20) MiB")
        }
    }

    @Test func soManyAtOnceAndNoMore() throws {
        try Self.serving(atOnce: 1) { url, root in
            try Self.writeLargeFile("a.txt", in: root)
            let address = SocketAddress("127.0.0.1", port: Int(url.split(separator: ":").last!)!)!
            let first = try await TCPStream.connect(to: address, options: [.receiveBuffer(4096)])
            try await first.write("GET /a.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\(Self.gzip)\r\n\r\n")
            guard let begin = try await first.read(upTo: 500) else { return #expect(Bool(false), "no answer") }
            #expect(String(decoding: Array(begin), as: UTF8.self).contains("Content-Encoding: gzip"))
            let second = try await Self.head("-H", Self.gzip, url + "/a.txt")
            #expect(second["content-encoding"] == nil && second["vary"] == "Accept-Encoding")
            _ = try await first.readToEnd(limit: 1 << 26)
            await first.close()
            let third = try await Self.head("-H", Self.gzip, url + "/a.txt")
            #expect(third["content-encoding"] == "gzip")
        }
    }
}
