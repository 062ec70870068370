// Two readers of the same bytes: ours, and llhttp as NIOHTTP1 has it. A request that both accept must be the same
// request for both, or something can be smuggled between servers that use them.

import NIOCore
import NIOEmbedded
import NIOHTTP1
import Testing

@testable import RondoHTTP

@Suite struct DifferentialTests {
    private struct Numbers: RandomNumberGenerator {
        var state: UInt64
        mutating func next() -> UInt64 {
            state &+= 0x9E37_79B9_7F4A_7C15
            var value = state
            value = (value ^ (value >> 30)) &* 0xBF58_476D_1CE4_E5B9
            value = (value ^ (value >> 27)) &* 0x94D0_49BB_1331_11EB
            return value ^ (value >> 31)
        }
    }

    private static let templates = [
        "GET / HTTP/1.1\r\nHost: example.com\r\n\r\n",
        "POST /a?b=c HTTP/1.1\r\nHost: x\r\nContent-Length: 5\r\nAccept: */*\r\n\r\nhello",
        "PUT /x HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nX-A: b\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
        "DELETE /y HTTP/1.0\r\nConnection: keep-alive\r\nContent-Length: 0\r\n\r\n",
        "OPTIONS * HTTP/1.1\r\nHost: x\r\nConnection: close, x\r\nX: \t a b \t\r\nY:\r\n\r\n",
    ].map { Array($0.utf8) }

    private static let bytes: [UInt8] = Array("\r\n \t:,;0159aZ-+\"".utf8) + [0, 1, 0x7F, 0x80, 0xC3, 0xA5, 0xFF]

    private static let lines: [[UInt8]] = [
        "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n", "Host: y\r\n", " folded\r\n",
        "content-length : 3\r\n",
        "Transfer-Encoding: identity\r\n", "X: y\n", "\r\n", "X\r\n",
    ].map { Array($0.utf8) }

    private func mutated(_ numbers: inout Numbers) -> [UInt8] {
        var request = Self.templates.randomElement(using: &numbers)!
        for _ in 0..<Int.random(in: 0...3, using: &numbers) {
            let place = Int.random(in: 0..<request.count, using: &numbers)
            switch Int.random(in: 0..<5, using: &numbers) {
            case 0: request[place] = Self.bytes.randomElement(using: &numbers)!
            case 1: request.insert(Self.bytes.randomElement(using: &numbers)!, at: place)
            case 2: request.remove(at: place)
            case 3:
                let ends = request.indices.filter { request[$0] == 10 }
                guard let end = ends.randomElement(using: &numbers) else { continue }
                request.insert(contentsOf: Self.lines.randomElement(using: &numbers)!, at: end + 1)
            default: request[place] ^= 0x20
            }
        }
        return request
    }

    /// The head as llhttp reads it; nil if it refuses it, or waits for more.
    private func llhttp(_ bytes: [UInt8]) -> HTTPRequestHead? {
        let channel = EmbeddedChannel()
        defer { _ = try? channel.finish(acceptAlreadyClosed: true) }
        let decoder = ByteToMessageHandler(HTTPRequestDecoder(leftOverBytesStrategy: .dropBytes))
        guard (try? channel.pipeline.syncOperations.addHandler(decoder)) != nil else { return nil }
        guard (try? channel.writeInbound(ByteBuffer(bytes: bytes))) != nil else { return nil }
        guard case .head(let head)? = try? channel.readInbound(as: HTTPServerRequestPart.self) else { return nil }
        return head
    }

    @Test(arguments: 0..<4) func bothReadTheSameRequest(_ seed: Int) {
        var numbers = Numbers(state: UInt64(seed))
        var both = 0
        var refused = 0
        for _ in 0..<2000 {
            let bytes = mutated(&numbers)
            var ours = HTTP1Head()
            guard ours.parse(bytes.span, HTTPLimits()) == .complete else {
                refused += 1
                continue
            }
            guard let theirs = llhttp(bytes) else { continue }
            both += 1
            let shown = String(decoding: bytes, as: UTF8.self).debugDescription
            func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }
            #expect(text(ours.method) == theirs.method.rawValue, "\(shown)")
            #expect(text(ours.target) == theirs.uri, "\(shown)")
            #expect(ours.minorVersion == theirs.version.minor, "\(shown)")
            #expect(ours.fields.map { text($0.name) } == theirs.headers.map(\.name), "\(shown)")
            // NIOHTTP1 leaves tabs behind a value, which are none of it (RFC 9110, 5.5).
            let values = theirs.headers.map { String($0.value.reversed().drop { " \t".contains($0) }.reversed()) }
            #expect(ours.fields.map { text($0.value) } == values, "\(shown)")
            let length = theirs.headers.first(name: "content-length").flatMap { Int($0) } ?? 0
            let isChunked = theirs.headers.contains(name: "transfer-encoding")
            #expect(ours.framing == (isChunked ? .chunked : .length(length)), "\(shown)")
            #expect(ours.keepsAlive == theirs.isKeepAlive, "\(shown)")
        }
        #expect(both > 400 && refused > 400)
    }

    /// In whatever pieces a chunked body comes, it is the same body.
    @Test func chunksInPieces() throws {
        let bytes = Array("5;ext=\"x\"\r\nhello\r\n10\r\n0123456789abcdef\r\n0\r\nA: b\r\n\r\nrest".utf8)
        for size in 1...bytes.count {
            var body = ChunkedBody(overheadLimit: 1000, dataLimit: 1000)
            var (data, position, hasEnded): ([UInt8], Int, Bool) = ([], 0, false)
            while !hasEnded {
                let end = min(position + size, bytes.count)
                switch try body.advance(bytes.span.extracting(position..<end)) {
                case .used(let count): position += count
                case .end(let used):
                    position += used
                    hasEnded = true
                case .data(let used, let count):
                    data += bytes[position + used..<position + used + count]
                    position += used + count
                }
            }
            #expect(String(decoding: data, as: UTF8.self) == "hello0123456789abcdef")
            #expect(String(decoding: bytes[position...], as: UTF8.self) == "rest")
        }
    }
}
