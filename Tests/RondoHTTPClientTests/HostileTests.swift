// Answers that mean harm, or are nonsense: each is refused with a clear error, and costs no memory.

import Glibc
import HTTPOrigins
import HTTPTypes
import Rondo
import SystemPackage
import Testing

@testable import RondoHTTPClient

@Suite struct HostileTests {
    /// Answers byte for byte, and what is said of them.
    static let answers: [(name: String, answer: String, says: String)] = [
        ("no HTTP", "SSH-2.0-OpenSSH_9.2\r\n", "not HTTP"),
        ("HTTP/0.9", "<html>hello</html>\n\n", "not HTTP"),
        ("a status of words", "HTTP/1.1 two hundred\r\n\r\n", "not HTTP"),
        (
            "an absurd chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffffff\r\nx",
            "not HTTP"
        ),
        (
            "a negative chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-5\r\nhello\r\n0\r\n\r\n",
            "not HTTP"
        ),
        (
            "no chunk size", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzzzz\r\nhello\r\n0\r\n\r\n",
            "not HTTP"
        ),
        ("a chunk that ends early", "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\nhello", "closed"),
        ("a header that is not UTF-8", "HTTP/1.1 200 OK\r\nX-Name: \u{FFFD}\r\nContent-Length: 0\r\n\r\n", "UTF-8"),
        ("a header without a colon", "HTTP/1.1 200 OK\r\nnonsense\r\nContent-Length: 0\r\n\r\n", "colon"),
        ("a header's name with a space", "HTTP/1.1 200 OK\r\nX Name: 1\r\nContent-Length: 0\r\n\r\n", "no name"),
        ("a length of words", "HTTP/1.1 200 OK\r\nContent-Length: many\r\n\r\nhello", "ontent-Length"),
        ("a negative length", "HTTP/1.1 200 OK\r\nContent-Length: -7\r\n\r\nhello", "ontent-Length"),
        ("a body that ends early", "HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nhello", "closed"),
        ("nothing at all", "", "without an answer"),
        ("an end within the head", "HTTP/1.1 200 OK\r\nX-Name: 1\r\n", "closed"),
        (
            "gzip that is none", "HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 5\r\n\r\nhello",
            "unpacked"
        ),
        (
            "a redirect to a file", "HTTP/1.1 302 Found\r\nLocation: file:///etc/passwd\r\nContent-Length: 0\r\n\r\n",
            "file"
        ),
        (
            "a redirect to nowhere", "HTTP/1.1 302 Found\r\nLocation: http://\r\nContent-Length: 0\r\n\r\n",
            "redirects to"
        ),
    ]

    @Test(arguments: answers.indices)
    func nonsenseIsRefused(_ index: Int) async throws {
        let (name, answer, says) = Self.answers[index]
        try await withClient { client in
            let origin = try await ScriptedOrigin { _, _, stream in
                // No valid UTF-8 can be written in a Swift string.
                let bytes = Array(answer.utf8).split(separator: [0xef, 0xbf, 0xbd]).joined(separator: [0xff, 0xfe])
                try await stream.write(Array(bytes))
                try await stream.finishWriting()
                _ = try await stream.readToEnd(limit: 1 << 16)
            }
            let error = await failure { try await client.get(origin.url()).body.collect(limit: 1 << 20) }
            #expect(error?.description.contains(says) == true, "\(name): \(error.map { "\($0)" } ?? "no error")")
            #expect(error?.description.hasPrefix("GET http://127.0.0.1:") == true)
            await origin.stop()
        }
    }

    @Test(arguments: ["one long field", "many fields", "an endless line", "endless interim answers"])
    func headerBombsAreRefused(_ kind: String) async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { _, _, stream in
                let start = kind == "endless interim answers" ? "" : "HTTP/1.1 200 OK\r\n"
                let piece =
                    switch kind {
                    case "one long field": "X-Long: " + String(repeating: "a", count: 70_000) + "\r\n"
                    case "many fields": (0..<1000).map { "X-\($0): 1\r\n" }.joined()
                    case "an endless line": String(repeating: "a", count: 60_000)
                    default: String(repeating: "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n", count: 100)
                    }
                try await stream.write(start)
                while true { try await stream.write(piece) }
            }
            let before = residentBytes()
            let error = await failure { try await client.get(origin.url()) }
            guard case .headerLimit = error?.cause else {
                Issue.record("\(kind): \(error.map { "\($0)" } ?? "no error")")
                return await origin.stop()
            }
            #expect(residentBytes() - before < 32 << 20)
            await origin.stop()
        }
    }

    /// 256 MB of zeros, in 256 KB: as much memory as anything else, however long it is read.
    @Test(arguments: [1 << 20, .max])
    func zipBombsTakeNoMemory(_ limit: Int) async throws {
        let bomb = try await withEventLoop { _ in
            try await ChildProcess.run(.init("sh", ["-c", "head -c 268435456 /dev/zero | gzip -1"])).output
        }
        #expect((200_000..<4_000_000).contains(bomb.count))
        try await withClient(testConfiguration { $0.limits.bodyBytes = limit }) { client in
            let origin = try await ScriptedOrigin { _, _, stream in
                try await stream.answer("200 OK", ["Content-Encoding: gzip"], body: bomb)
            }
            let before = residentBytes()
            var (count, most, chunks) = (0, 0, 0)
            let error = await failure {
                let response = try await client.get(origin.url())
                #expect(response.fields[.contentEncoding] == nil)
                for try await chunk in response.body {
                    count += chunk.count
                    chunks += 1
                    if chunks % 64 == 0 { most = max(most, residentBytes()) }
                }
            }
            #expect(most - before < 16 << 20)
            if limit == .max {
                #expect(error == nil)
                #expect(count == 256 << 20)
            } else {
                guard case .bodyLimit(limit) = error?.cause else {
                    Issue.record("\(error.map { "\($0)" } ?? "no error")")
                    return await origin.stop()
                }
                #expect(count <= limit)
            }
            await origin.stop()
        }
    }

    @Test func anEndlessBodyIsRefusedAtItsLimit() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { _, _, stream in
                try await stream.write("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
                let chunk = "10000\r\n" + String(repeating: "x", count: 0x10000) + "\r\n"
                while true { try await stream.write(chunk) }
            }
            let before = residentBytes()
            let error = await failure { try await client.get(origin.url()).body.collect(limit: 4 << 20) }
            guard case .bodyLimit(let limit) = error?.cause, limit == 4 << 20 else {
                Issue.record("\(error.map { "\($0)" } ?? "no error")")
                return await origin.stop()
            }
            #expect(residentBytes() - before < 32 << 20)
            await origin.stop()
        }
    }

    @Test func redirectsInACircleEnd() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { _, _, stream in
                try await stream.answer("302 Found", ["Location: /again"])
            }
            let error = await failure { try await client.get(origin.url()) }
            guard case .tooManyRedirects(10) = error?.cause else {
                Issue.record("\(error.map { "\($0)" } ?? "no error")")
                return await origin.stop()
            }
            await origin.stop()
        }
    }

    @Test func aBodyThatIsNoTextIsRefusedAsText() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { _, _, stream in
                try await stream.answer(body: [0x61, 0xff, 0x62])
            }
            let error = await failure { try await client.get(origin.url()).body.text(limit: 100) }
            #expect(error?.description.contains("not valid UTF-8") == true)
            await origin.stop()
        }
    }
}

/// The error of `body`; nil if it throws none.
func failure<Value>(_ body: () async throws -> Value) async -> HTTPClientError? {
    do {
        _ = try await body()
        return nil
    } catch let error as HTTPClientError {
        return error
    } catch {
        Issue.record("threw \(error)")
        return nil
    }
}

/// Memory of this process that is in use now.
func residentBytes() -> Int {
    var buffer = [UInt8](repeating: 0, count: 128)
    let file = unsafe open("/proc/self/statm", O_RDONLY)
    let count = unsafe read(file, &buffer, buffer.count)
    close(file)
    let words = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).split(separator: " ")
    return (words.count > 1 ? Int(words[1]) ?? 0 : 0) * 4096
}

/// Descriptors of this process.
func openDescriptors() -> Int {
    var count = 0
    for number in 0..<4096 where fcntl(Int32(number), F_GETFD) >= 0 { count += 1 }
    return count
}
