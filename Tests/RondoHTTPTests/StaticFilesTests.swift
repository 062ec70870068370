// Files of a folder, asked for by curl and by whoever wants to get out of the folder.

import Foundation
import Rondo
import RondoHTTP
import SystemPackage
import Testing

@Suite struct StaticFilesTests {
    /// A folder with something in it, and something beside it that must not be seen.
    private static func world() throws -> String {
        let base = FileManager.default.temporaryDirectory.path + "/rondo-files-\(UInt64.random(in: 0 ... .max))"
        let root = base + "/root"
        try FileManager.default.createDirectory(atPath: root + "/sub dir/deep", withIntermediateDirectories: true)
        try FileManager.default.createDirectory(atPath: root + "/site", withIntermediateDirectories: true)
        func write(_ text: String, _ path: String) {
            #expect(FileManager.default.createFile(atPath: path, contents: Data(text.utf8)))
        }
        write("secret", base + "/secret.txt")
        write("0123456789", root + "/ten.txt")
        write(root + "\n", root + "/where.txt")
        write("", root + "/empty")
        write("hidden", root + "/.hidden")
        write("<a&b>", root + "/sub dir/<a&b>.txt")
        write("<h1>index</h1>", root + "/site/index.html")
        try FileManager.default.createSymbolicLink(atPath: root + "/out.txt", withDestinationPath: base + "/secret.txt")
        try FileManager.default.createSymbolicLink(atPath: root + "/up", withDestinationPath: "..")
        try FileManager.default.createSymbolicLink(
            atPath: root + "/absolute.txt", withDestinationPath: root + "/ten.txt")
        try FileManager.default.createSymbolicLink(atPath: root + "/in.txt", withDestinationPath: "ten.txt")
        return base
    }

    private static func serving(_ body: sending @escaping (SocketAddress, String) async throws -> Void) throws {
        let base = try world()
        defer { try? FileManager.default.removeItem(atPath: base) }
        try EventLoop.run {
            let files = try await StaticFiles(root: FilePath(base + "/root"))
            let server = try await HTTPServer.listen(on: .loopback(port: 0))
            let serving = start { try await server.serve { try await files.answer($0, with: $1) } }
            try await body(server.localAddress, "http://127.0.0.1:\(server.localAddress.port)")
            await server.stopAccepting()
            try await serving.value
        }
    }

    private static func curl(_ arguments: String...) async throws -> String {
        try await ChildProcess.run(ChildProcess.Command("curl", ["-s", "--path-as-is"] + arguments)).text
    }

    @Test func filesAndTheirHeads() throws {
        try Self.serving { _, url in
            let file = try await Self.curl("-i", url + "/ten.txt")
            #expect(file.hasPrefix("HTTP/1.1 200") && file.hasSuffix("\r\n\r\n0123456789"))
            #expect(
                file.contains("Content-Type: text/plain; charset=utf-8\r\n") && file.contains("Content-Length: 10\r\n"))
            let head = try await Self.curl("-I", url + "/ten.txt?x")
            #expect(head.contains("Content-Length: 10\r\n") && head.contains("ETag: \""))
            let empty = try await Self.curl("-w", "%{http_code}", url + "/empty")
            #expect(empty == "200")
            let link = try await Self.curl(url + "/in.txt")
            #expect(link == "0123456789")
            let post = try await Self.curl("-i", "-d", "x", url + "/ten.txt")
            #expect(post.hasPrefix("HTTP/1.1 405") && post.contains("Allow: GET, HEAD"))
        }
    }

    @Test func ranges() throws {
        try Self.serving { _, url in
            for (range, expected) in [
                ("0-0", "0 206"), ("2-4", "234 206"), ("7-", "789 206"), ("-3", "789 206"), ("5-100", "56789 206"),
                ("-100", "0123456789 206"), ("10-", " 416"), ("-0", " 416"), ("4-2", "0123456789 200"),
                ("0-1,3-4", "0123456789 200"),
            ] {
                let answer = try await Self.curl("-w", " %{http_code}", "-H", "Range: bytes=\(range)", url + "/ten.txt")
                #expect(answer == expected, "\(range)")
            }
            let resumed = try await Self.curl("-i", "-r", "8-", url + "/ten.txt")
            #expect(resumed.contains("Content-Range: bytes 8-9/10\r\n"))
            let changed = try await Self.curl("-r", "8-", "-H", "If-Range: \"other\"", url + "/ten.txt")
            #expect(changed == "0123456789")
        }
    }

    /// The kernel sends what is large, but for the little at its end.
    @Test func largeFiles() throws {
        try Self.serving { _, url in
            let root = try await Self.curl(url + "/where.txt").dropLast()
            let bytes = (0..<3_000_017).map { UInt8(truncatingIfNeeded: $0 &* 2_654_435_761 >> 13) }
            try await File.write(bytes, to: FilePath("\(root)/large.bin"))
            let got = (1...2).map { "\(root)/got\($0)" }
            // Over one connection.
            _ = try await Self.curl("-o", got[0], url + "/large.bin", "-o", got[1], url + "/large.bin")
            for path in got {
                let copy = try await File.contents(of: FilePath(path))
                #expect(copy == bytes)
            }
            let moved = await EventLoop.current!.statistics.bytesMoved
            #expect(moved == 2 * 11 * 256 * 1024)
            _ = try await Self.curl("-o", got[0], "-r", "100001-1500000", url + "/large.bin")
            let part = try await File.contents(of: FilePath(got[0]))
            #expect(part == Array(bytes[100_001...1_500_000]))
        }
    }

    @Test func conditions() throws {
        try Self.serving { _, url in
            let head = try await Self.curl("-I", url + "/ten.txt")
            let fields = head.split(separator: "\r\n").map { $0.split(separator: ": ", maxSplits: 1).map(String.init) }
            let tag = try #require(fields.first { $0[0] == "ETag" }?[1])
            let date = try #require(fields.first { $0[0] == "Last-Modified" }?[1])
            for (field, expected) in [
                ("If-None-Match: \(tag)", "304"), ("If-None-Match: \"a\", W/\(tag)", "304"),
                ("If-None-Match: *", "304"),
                ("If-None-Match: \"a\"", "200"), ("If-Modified-Since: \(date)", "304"),
                ("If-Modified-Since: Thu, 01 Jan 1970 00:00:00 GMT", "200"),
            ] {
                let code = try await Self.curl("-o", "/dev/null", "-w", "%{http_code}", "-H", field, url + "/ten.txt")
                #expect(code == expected, "\(field)")
            }
        }
    }

    @Test func folders() throws {
        try Self.serving { _, url in
            let list = try await Self.curl(url + "/")
            #expect(list.contains(#"<a href="./sub%20dir/">sub dir/</a>"#) && list.contains("ten.txt"))
            #expect(!list.contains("hidden"))
            let below = try await Self.curl(url + "/sub%20dir/")
            #expect(below.contains(#"<a href="./%3Ca%26b%3E.txt">&lt;a&amp;b&gt;.txt</a>"#))
            let file = try await Self.curl(url + "/sub%20dir/%3Ca%26b%3E.txt")
            #expect(file == "<a&b>")
            let index = try await Self.curl(url + "/site/")
            #expect(index == "<h1>index</h1>")
            let moved = try await Self.curl("-i", url + "//site?q")
            #expect(moved.hasPrefix("HTTP/1.1 301") && moved.contains("Location: /site/?q\r\n"))
        }
    }

    /// For Swift a bracket with an accent is another character; for a browser, and for the kernel, it is a bracket.
    @Test func accentsHideNothing() throws {
        try Self.serving { _, url in
            let root = try #require(try await Self.curl(url + "/where.txt").split(separator: "\n").first)
            for name in ["<\u{301}i>", ".\u{301}secret"] {
                #expect(FileManager.default.createFile(atPath: root + "/" + name, contents: Data("secret".utf8)))
            }
            let list = try await Self.curl(url + "/")
            #expect(list.contains("&lt;\u{301}i&gt;") && !list.contains("secret"))
            let hidden = try await Self.curl("-w", "%{http_code}", url + "/.%CC%81secret")
            #expect(hidden == "404")
        }
    }

    /// A link to the outside, put in the place of a folder while it is asked for.
    @Test func aFolderThatBecomesALinkLeadsNowhere() throws {
        try Self.serving { address, url in
            let root = String(try await Self.curl(url + "/where.txt").split(separator: "\n")[0])
            let manager = FileManager.default
            try manager.createDirectory(atPath: root + "/turn", withIntermediateDirectories: true)
            #expect(manager.createFile(atPath: root + "/turn/secret.txt", contents: Data("inside".utf8)))
            let swapping = start {
                for _ in 0..<1000 {
                    try manager.moveItem(atPath: root + "/turn", toPath: root + "/away")
                    try manager.createSymbolicLink(atPath: root + "/turn", withDestinationPath: "..")
                    await EventLoop.yield()
                    try manager.removeItem(atPath: root + "/turn")
                    try manager.moveItem(atPath: root + "/away", toPath: root + "/turn")
                    await EventLoop.yield()
                }
            }
            for _ in 0..<500 {
                let answer = try await ask(
                    address, "GET /turn/secret.txt HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
                #expect(parts(answer).status == 404 || parts(answer).body == "inside", "\(answer)")
            }
            try await swapping.value
        }
    }

    /// Ways out of the folder, none of which leads anywhere.
    @Test(arguments: [
        "/../secret.txt", "/sub%20dir/../../secret.txt", "/%2e%2e/secret.txt", "/..%2fsecret.txt",
        "/%2e%2e%2fsecret.txt",
        "/..%5csecret.txt", "/.%00./secret.txt", "/ten.txt%00.html", "/out.txt", "/up/secret.txt", "/up/", "/up",
        "/.hidden", "/sub%20dir/../.hidden", "/%2ehidden", "/%ff", "/%", "/%4", "/%zz", "/%+1", "//secret.txt",
        "/....//secret.txt", "/%252e%252e/secret.txt", "/absolute.txt", "/ten.txt/",
    ]) func nothingLeadsOut(_ path: String) throws {
        try Self.serving { address, _ in
            let answer = try await ask(address, "GET \(path) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect([400, 404].contains(parts(answer).status), "\(answer)")
            #expect(!answer.contains("secret") && !answer.contains("hidden"))
        }
    }
}
