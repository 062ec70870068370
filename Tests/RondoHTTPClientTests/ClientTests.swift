import Glibc
import HTTPOrigins
import HTTPTypes
import Rondo
import SystemPackage
import Synchronization
import Testing

@testable import RondoHTTPClient

@Suite struct ClientTests {
    @Test func anAnswerHasStatusFieldsAndBody() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { request, _, stream in
                try await stream.answer("203 Sure", ["X-Path: \(request.path)"], body: Array("hello".utf8))
            }
            let response = try await client.get(origin.url("a/b?c=d#e"))
            #expect(response.status.code == 203)
            #expect(response.status.reasonPhrase == "Sure")
            #expect(response.fields[.init("X-Path")!] == "/a/b?c=d")
            #expect(response.contentLength == 5)
            #expect(response.version == "1.1")
            #expect(try await response.body.text(limit: 100) == "hello")
            await origin.stop()
        }
    }

    @Test func aConnectionServesManyRequests() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { request, _, stream in
                try await stream.answer(body: Array("\(request.connection)".utf8))
            }
            for _ in 0..<50 { #expect(try await client.get(origin.url()).body.text(limit: 10) == "0") }
            let statistics = await client.statistics
            #expect(statistics.requests == 50)
            #expect(statistics.connections == 1)
            #expect(statistics.running == 0)
            await origin.stop()
        }
    }

    @Test func fieldsAndMethodsGoOut() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { request, _, stream in
                let text = ([request.line] + request.headers.sorted()).joined(separator: "\n")
                if request.line.hasPrefix("HEAD") { return try await stream.answer() }
                try await stream.answer(body: Array(text.utf8))
            }
            let fields: HTTPFields = [.init("X-One")!: "1", .init("X-Empty")!: ""]
            let text = try await client.execute(.delete, origin.url("x"), fields).body.text(limit: 1000)
            let lines = text.split(separator: "\n").map(String.init)
            #expect(lines.first == "DELETE /x HTTP/1.1")
            #expect(lines.contains("X-One: 1"))
            #expect(lines.contains("X-Empty:"))
            #expect(lines.contains("User-Agent: rondo"))
            #expect(lines.contains("Accept-Encoding: gzip, deflate"))
            let post = try await client.execute(.post, origin.url()).body.text(limit: 1000)
            #expect(post.contains("Content-Length: 0"))
            #expect(!post.contains("Content-Type"))
            #expect(try await client.execute(.head, origin.url()).body.collect(limit: 10) == [])
            let request = HTTPRequest(
                method: .options, scheme: "http", authority: "127.0.0.1:\(origin.port)", path: "/p")
            #expect(try await client.execute(request).body.text(limit: 1000).hasPrefix("OPTIONS /p HTTP/1.1"))
            await origin.stop()
        }
    }

    @Test func bodiesGoOut() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { request, reader, stream in
                var count = 0
                if let length = request.header("content-length").flatMap({ Int($0) }) {
                    count = try await reader.readExactly(length).count
                } else {
                    while let line = try await reader.readLine(), let size = Int(line, radix: 16) {
                        count += try await reader.readExactly(size).count
                        try await reader.skip(2)
                        if size == 0 { break }
                    }
                }
                try await stream.answer(body: Array("\(count)".utf8))
            }
            let bytes = [UInt8](repeating: 7, count: 3_000_000)
            #expect(try await client.execute(.put, origin.url(), body: .bytes(bytes)).body.text(limit: 10) == "3000000")
            let chunks = AsyncStream<[UInt8]> { continuation in
                for _ in 0..<100 { continuation.yield([UInt8](repeating: 1, count: 10_001)) }
                continuation.finish()
            }
            #expect(
                try await client.execute(.post, origin.url(), body: .stream(chunks)).body.text(limit: 10) == "1000100")
            #expect(try await client.execute(.post, origin.url(), body: .text("")).body.text(limit: 10) == "0")
            await origin.stop()
        }
    }

    /// The server reads nothing: of an endless body no more is made than the buffers on the way hold.
    @Test func aBodyWaitsForItsServer() async throws {
        struct Endless: AsyncSequence, AsyncIteratorProtocol, Sendable {
            let made: Made
            func makeAsyncIterator() -> Endless { self }
            mutating func next() async -> [UInt8]? {
                made.add(1)
                return [UInt8](repeating: 0, count: 65_536)
            }
        }
        try await withClient { client in
            let isReading = AsyncEvent()
            let origin = try await ScriptedOrigin { _, _, stream in
                isReading.set()
                // Whoever reads nothing only notices that the client has gone.
                try await Task.sleep(for: .seconds(3600))
                _ = stream
            }
            let made = Made()
            let upload = Task {
                await failure { try await client.execute(.put, origin.url(), body: .stream(Endless(made: made))) }
            }
            try await isReading.wait()
            // In so many turns of the loop a client that did not care would make far more, one piece in each at least.
            for _ in 0..<3000 { try await Task.sleep(for: .microseconds(1)) }
            #expect(made.value * 65_536 < 64 << 20)
            upload.cancel()
            #expect(await upload.value?.isCancellation == true)
            await origin.stop()
        }
    }

    @Test func redirectsAreFollowedWithoutSecrets() async throws {
        try await withClient { client in
            let other = try await ScriptedOrigin { request, _, stream in
                try await stream.answer(body: Array((request.header("authorization") ?? "none").utf8))
            }
            let target = other.url("end")
            let origin = try await ScriptedOrigin { request, _, stream in
                let location = request.path == "/start" ? "next?x" : target
                try await stream.answer("302 Found", ["Location: \(location)"], body: Array("moved".utf8))
            }
            let response = try await client.get(origin.url("start"), [.authorization: "Bearer x"])
            #expect(response.url == target)
            #expect(response.redirects == 2)
            #expect(try await response.body.text(limit: 10) == "none")
            #expect(await client.statistics.connections == 2)
            await origin.stop()
            await other.stop()
        }
    }

    @Test func aRefusedConnectionSaysSo() async throws {
        try await withClient { client in
            let error = await failure { try await client.get("http://127.0.0.1:1/x") }
            #expect(error?.description == "GET http://127.0.0.1:1/x: Connection refused (is the server running?)")
            #expect(error?.isTransient == true)
            let unknown = await failure { try await client.get("http://no-such-host.invalid/") }
            guard case .unresolved = unknown?.cause else { _ = Issue.record("\(unknown as Any)"); return }
            let invalid = await failure { try await client.get("gopher://x/") }
            guard case .invalidRequest = invalid?.cause else { _ = Issue.record("\(invalid as Any)"); return }
        }
    }

    @Test func aProxyIsAskedForTheWholeURL() async throws {
        try await withEventLoop { _ in
            let proxy = try await ScriptedOrigin { request, _, stream in
                try await stream.answer(body: Array(request.line.utf8))
            }
            let client = HTTPClient(
                configuration: testConfiguration { $0.proxy = .url("http://localhost:\(proxy.port)") })
            let text = try await client.get("http://no-such-host.invalid/a").body.text(limit: 100)
            #expect(text == "GET http://no-such-host.invalid/a HTTP/1.1")
            await client.close()
            await proxy.stop()
        }
    }

    @Test func otherThreadsMayUseIt() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { _, _, stream in try await stream.answer(body: [1, 2, 3]) }
            let url = origin.url()
            let sum = try await withThrowingTaskGroup(of: Int.self) { group in
                for _ in 0..<50 {
                    group.addTask { @concurrent in try await client.get(url).body.collect(limit: 10).count }
                }
                return try await group.reduce(0, +)
            }
            #expect(sum == 150)
            await origin.stop()
        }
    }
}

/// A count that several tasks share.
final class Made: Sendable {
    private let count = Mutex(0)
    var value: Int { count.withLock { $0 } }
    func add(_ number: Int) { count.withLock { $0 += number } }
}
