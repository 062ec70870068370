// What RFC 9113 wants of a server, case by case, in frames as they are on the wire. NIOHTTP2 does the framing: this
// holds that what the two make of it together is right.

import HTTPTypes
import Rondo
import RondoHTTP
import Testing

/// Frames behind the greeting, and what may become of stream 1 or of the connection.
struct HTTP2Case: Sendable, CustomTestStringConvertible {
    var name: String
    var frames: [Frame]
    var outcomes: [Outcome]
    var stream: UInt32 = 1
    var testDescription: String { name }

    init(_ name: String, _ frames: [Frame], _ outcomes: Outcome..., stream: UInt32 = 1) {
        self.name = name
        self.frames = frames
        self.outcomes = outcomes
        self.stream = stream
    }

    /// What the standard calls an error of the connection.
    static func connection(_ name: String, _ code: UInt32, _ frames: Frame...) -> HTTP2Case {
        HTTP2Case(name, frames, .goAway(code))
    }

    /// What it calls an error of the stream; to end the connection is allowed, too.
    static func stream(_ name: String, _ code: UInt32, _ frames: Frame...) -> HTTP2Case {
        HTTP2Case(name, frames, .reset(code), .goAway(code))
    }

    /// A request that is malformed (8.1.1).
    static func head(_ name: String, _ fields: [(String, String)]) -> HTTP2Case {
        HTTP2Case("8.2 \(name)", [.head(1, fields)], .reset(Code.protocol), .goAway(Code.protocol))
    }
}

@Suite struct HTTP2Tests {
    private static let large = [UInt8](repeating: 0, count: 16_385)

    static let frames: [HTTP2Case] = [
        // Frames, 4.
        .connection(
            "4.2 DATA of more than the size", Code.frameSize, .head(1, Frame.post, ends: false),
            Frame(.data, 1, 1, large)),
        .connection("4.2 HEADERS of more than the size", Code.frameSize, Frame(.headers, 5, 1, large)),
        .connection("4.2 SETTINGS of more than the size", Code.frameSize, Frame(.settings, 0, 0, large)),
        .connection(
            "4.3 a block that is none", Code.compression, Frame(.headers, 5, 1, [0xFF, 0xFF, 0xFF, 0xFF, 0xFF])),
        .connection("4.3 an index that is not there", Code.compression, Frame(.headers, 5, 1, [0xBE])),
        .connection("4.3 index 0", Code.compression, Frame(.headers, 5, 1, [0x80])),
        .connection(
            "4.3 a table larger than is allowed", Code.compression,
            Frame(.headers, 5, 1, [0x3F, 0xE2, 0x1F] + Frame.block(Frame.get))),
        .connection(
            "4.3 a table's size behind a field", Code.compression,
            Frame(.headers, 5, 1, Frame.block(Frame.get) + [0x20])),
        .connection(
            "4.3 padding in Huffman's code of more than 7 bits", Code.compression,
            Frame(.headers, 5, 1, [0, 1, 0x61, 0x81 + 1, 0xFF, 0xFF] + Frame.block(Frame.get))),
        // Streams, 5.
        .connection("5.1 DATA on an idle stream", Code.protocol, Frame(.data, 1, 1, [1])),
        .connection("5.1 RST_STREAM on an idle stream", Code.protocol, .reset(1)),
        .connection("5.1 WINDOW_UPDATE on an idle stream", Code.protocol, .window(1, 5)),
        .stream("5.1 DATA behind the end", Code.streamClosed, .head(1), Frame(.data, 1, 1, [1])),
        // STREAM_CLOSED, by the standard; NIO looks at what the fields mean first.
        .stream("5.1 HEADERS behind the end", Code.protocol, .head(1), .head(1)),
        .connection("5.1.1 an even stream", Code.protocol, .head(2)),
        .connection("5.1.1 HEADERS without a stream", Code.protocol, .head(0)),
        HTTP2Case(
            "5.1.1 streams that go backwards", [.head(5), .head(3)], .goAway(Code.protocol), .goAway(Code.streamClosed),
            stream: 3),
        // Kinds of frames, 6.
        .connection("6.1 DATA without a stream", Code.protocol, Frame(.data, 0, 0, [1])),
        .connection(
            "6.1 more padding than frame", Code.protocol, .head(1, Frame.post, ends: false),
            Frame(.data, 9, 1, [5, 1, 2])),
        .connection(
            "6.2 more padding than head", Code.protocol, Frame(.headers, 0xD, 1, [200] + Frame.block(Frame.get))),
        .connection("6.3 PRIORITY without a stream", Code.protocol, Frame(.priority, 0, 0, [0, 0, 0, 3, 1])),
        .stream("6.3 PRIORITY of 4 bytes", Code.frameSize, Frame(.priority, 0, 1, [0, 0, 0, 3])),
        .connection("6.4 RST_STREAM without a stream", Code.protocol, .reset(0)),
        .connection(
            "6.4 RST_STREAM of 3 bytes", Code.frameSize, .head(1, Frame.post, ends: false),
            Frame(.reset, 0, 1, [0, 0, 8])),
        .connection(
            "6.5 SETTINGS that acknowledge with settings", Code.frameSize, Frame(.settings, 1, 0, [0, 3, 0, 0, 0, 1])),
        .connection("6.5 SETTINGS of a stream", Code.protocol, Frame(.settings, 0, 1)),
        .connection("6.5 SETTINGS of 5 bytes", Code.frameSize, Frame(.settings, 0, 0, [0, 3, 0, 0, 0])),
        .connection("6.5.2 ENABLE_PUSH 2", Code.protocol, .settings((2, 2))),
        .connection("6.5.2 a window too large", Code.flowControl, .settings((4, 1 << 31))),
        .connection("6.5.2 frames too small", Code.protocol, .settings((5, 16_383))),
        .connection("6.5.2 frames too large", Code.protocol, .settings((5, 1 << 24))),
        .connection(
            "6.6 PUSH_PROMISE from a client", Code.protocol,
            Frame(.pushPromise, 4, 1, [0, 0, 0, 2] + Frame.block(Frame.get))),
        .connection("6.7 PING of a stream", Code.protocol, Frame(.ping, 0, 1, [UInt8](repeating: 7, count: 8))),
        .connection("6.7 PING of 7 bytes", Code.frameSize, Frame(.ping, 0, 0, [UInt8](repeating: 7, count: 7))),
        .connection("6.8 GOAWAY of a stream", Code.protocol, Frame(.goAway, 0, 1, [UInt8](repeating: 0, count: 8))),
        .connection("6.9 a window that grows by 0", Code.protocol, .window(0, 0)),
        .stream(
            "6.9 a stream's window that grows by 0", Code.protocol, .head(1, Frame.post, ends: false), .window(1, 0)),
        .connection("6.9 WINDOW_UPDATE of 3 bytes", Code.frameSize, Frame(.windowUpdate, 0, 0, [0, 0, 1])),
        .connection("6.9.1 a window that overflows", Code.flowControl, .window(0, 0x7FFF_FFFF)),
        .stream(
            "6.9.1 a stream's window that overflows", Code.flowControl, .head(1, Frame.post, ends: false),
            .window(1, 0x7FFF_FFFF)),
        .connection(
            "6.10 CONTINUATION without HEADERS", Code.protocol, Frame(.continuation, 4, 1, Frame.block(Frame.get))),
        .connection(
            "6.10 CONTINUATION behind the end of the head", Code.protocol, .head(1, Frame.post, ends: false),
            Frame(.continuation, 4, 1, Frame.block([("a", "b")]))),
        .connection(
            "6.10 CONTINUATION of another stream", Code.protocol, Frame(.headers, 1, 1, Frame.block(Frame.get)),
            Frame(.continuation, 4, 3)),
        .connection(
            "6.10 something between HEADERS and CONTINUATION", Code.protocol,
            Frame(.headers, 1, 1, Frame.block(Frame.get)), Frame(.ping, 0, 0, [UInt8](repeating: 7, count: 8))),
        .connection(
            "6.10 an unknown frame between HEADERS and CONTINUATION", Code.protocol,
            Frame(.headers, 1, 1, Frame.block(Frame.get)), Frame(.unknown, 0, 0, [1])),
    ]

    static let requests: [HTTP2Case] = [
        .stream(
            "8.1 fields behind the body without its end", Code.protocol, .head(1, Frame.post, ends: false),
            .head(1, [("a", "b")], ends: false)),
        .stream(
            "8.1 a pseudo-field behind the body", Code.protocol, .head(1, Frame.post, ends: false),
            .head(1, [(":path", "/b")])),
        .head("a name in upper case", Frame.get + [("X-a", "b")]),
        // NIO's HPACK takes it for an error of its own.
        .connection("8.2 an empty name", Code.compression, .head(1, Frame.get + [("", "b")])),
        .head("a name with a space", Frame.get + [("a b", "c")]),
        .head("a value with a line feed", Frame.get + [("a", "b\nc")]),
        .head("a value with a zero", Frame.get + [("a", "b\0c")]),
        .head("a name with a colon", Frame.get + [("a:b", "c")]),
        .head("Connection", Frame.get + [("connection", "keep-alive")]),
        .head("Transfer-Encoding", Frame.get + [("transfer-encoding", "chunked")]),
        .head("Keep-Alive", Frame.get + [("keep-alive", "5")]),
        .head("Upgrade", Frame.get + [("upgrade", "h2c")]),
        .head("TE of something else", Frame.get + [("te", "gzip")]),
        .head("an unknown pseudo-field", Frame.get + [(":test", "x")]),
        .head("a status", Frame.get + [(":status", "200")]),
        .head("a pseudo-field behind a field", [("a", "b")] + Frame.get),
        .head("no method", [(":scheme", "http"), (":path", "/")]),
        .head("no scheme", [(":method", "GET"), (":path", "/")]),
        .head("no path", [(":method", "GET"), (":scheme", "http")]),
        .head("an empty path", [(":method", "GET"), (":scheme", "http"), (":path", "")]),
        .head("two methods", Frame.get + [(":method", "GET")]),
        .head("two schemes", Frame.get + [(":scheme", "http")]),
        .head("two paths", Frame.get + [(":path", "/")]),
        .stream(
            "8.1.1 less than its Content-Length", Code.protocol,
            .head(1, Frame.post + [("content-length", "4")], ends: false), Frame(.data, 1, 1, [1])),
        .stream(
            "8.1.1 more than its Content-Length", Code.protocol,
            .head(1, Frame.post + [("content-length", "1")], ends: false), Frame(.data, 0, 1, [1]),
            Frame(.data, 1, 1, [1])),
        .stream(
            "8.1.1 a Content-Length without a body", Code.protocol, .head(1, Frame.post + [("content-length", "4")])),
        .stream(
            "8.1.1 two Content-Lengths", Code.protocol,
            .head(1, Frame.post + [("content-length", "1"), ("content-length", "2")], ends: false),
            Frame(.data, 1, 1, [1])),
        HTTP2Case(
            "8.1.1 a Content-Length that is no number",
            [.head(1, Frame.post + [("content-length", "+1")], ends: false), Frame(.data, 1, 1, [1])], .answer(400)),
    ]

    /// What is unusual, and right.
    static let accepted: [HTTP2Case] = [
        HTTP2Case("a request", [.head(1)], .answer(200)),
        HTTP2Case("a padded head", [Frame(.headers, 0xD, 1, [3] + Frame.block(Frame.get) + [0, 0, 0])], .answer(200)),
        HTTP2Case(
            "a head with a priority", [Frame(.headers, 0x25, 1, [0, 0, 0, 3, 5] + Frame.block(Frame.get))], .answer(200)
        ),
        HTTP2Case(
            "a head in pieces",
            [
                Frame(.headers, 1, 1, Array(Frame.block(Frame.get).prefix(20))),
                Frame(.continuation, 0, 1, Array(Frame.block(Frame.get).dropFirst(20))), Frame(.continuation, 4, 1),
            ], .answer(200)),
        HTTP2Case(
            "an unknown frame", [Frame(.unknown, 0xFF, 0, [1]), .head(1), Frame(.unknown, 0xFF, 1, [1])], .answer(200)),
        HTTP2Case("an unknown setting", [.settings((0xFA, 1)), .head(1)], .answer(200)),
        HTTP2Case("no window for the answer's body", [.settings((4, 0)), .head(1)], .answer(200)),
        HTTP2Case("PRIORITY of an idle stream", [Frame(.priority, 0, 7, [0, 0, 0, 3, 5]), .head(1)], .answer(200)),
        HTTP2Case(
            "fields behind the body",
            [
                .head(1, Frame.post, ends: false), Frame(.data, 0, 1, [65]), .head(1, [("x-sum", "1")]),
            ], .answer(200)),
        HTTP2Case(
            "padded data", [.head(1, Frame.post, ends: false), Frame(.data, 9, 1, [2, 65, 0, 0])], .answer(200)),
        HTTP2Case("TE of trailers", [.head(1, Frame.get + [("te", "trailers")])], .answer(200)),
        HTTP2Case(
            "WINDOW_UPDATE of a closed stream", [.head(1), .reset(1), .window(1, 1), .head(3)], .answer(200),
            stream: 3),
        HTTP2Case("RST_STREAM twice", [.head(1), .reset(1), .reset(1), .head(3)], .answer(200), stream: 3),
        HTTP2Case(
            "GOAWAY, and an answer to what is under way",
            [.head(1), Frame(.goAway, 0, 0, [UInt8](repeating: 0, count: 8))], .answer(200)),
    ]

    @Test(arguments: frames + requests + accepted) func isTreatedAsTheStandardSays(_ item: HTTP2Case) throws {
        try servingHTTP2 { address in
            let peer = try await HTTP2Peer(address)
            try await peer.send(item.frames)
            let outcome = try await peer.outcome(of: item.stream)
            #expect(item.outcomes.contains(outcome), "\(outcome)")
            // What ends the connection must end it for good.
            if case .goAway = outcome { #expect(try await peer.next() == nil) }
            await peer.close()
        }
    }

    // MARK: The beginning

    @Test(arguments: [
        "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\r", "PRI * HTTP/2.0\r\n\r\nXX\r\n\r\n", "PRI * HTTP/2.1\r\n\r\nSM\r\n\r\n",
        "PRI * HTTP/2.0\n\nSM\n\n________",
    ]) func whatOnlyBeginsLikeHTTP2IsRefused(_ text: String) throws {
        try servingHTTP2 { address in
            let peer = try await HTTP2Peer(address, greets: false)
            try await peer.send([.settings(), .head(1)], before: Array(text.utf8))
            let outcome = try await peer.outcome(of: 1)
            #expect([.closed, .goAway(Code.protocol)].contains(outcome), "\(outcome)")
            await peer.close()
        }
    }

    @Test func settingsComeFirst() throws {
        try servingHTTP2 { address in
            for frame in [Frame.head(1), Frame(.ping, 0, 0, [UInt8](repeating: 7, count: 8)), .window(0, 1)] {
                let peer = try await HTTP2Peer(address, greets: false)
                try await peer.send([frame], before: HTTP2Peer.preface)
                let outcome = try await peer.outcome(of: 1)
                #expect(outcome == .goAway(Code.protocol), "\(frame)")
                await peer.close()
            }
        }
    }

    /// The preface may come in any pieces; and HTTP/1 is spoken beside it.
    @Test func theBeginningComesInPieces() throws {
        try servingHTTP2 { address in
            let greeting = HTTP2Peer.preface + Frame.settings().bytes + Frame.head(1).bytes
            for size in [1, 3, 13, 14, 23, 24, 25] {
                let peer = try await HTTP2Peer(address, greets: false)
                var rest = greeting[...]
                while !rest.isEmpty {
                    try await peer.stream.write(Array(rest.prefix(size)))
                    rest = rest.dropFirst(size)
                    for _ in 0..<3 { await EventLoop.yield() }
                }
                let outcome = try await peer.outcome(of: 1)
                #expect(outcome == .answer(200), "\(size)")
                await peer.close()
            }
            let answer = try await ask(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(parts(answer).status == 200)
            let later = try await ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\nPRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            #expect(later.hasPrefix("HTTP/1.1 200") && later.contains("HTTP/1.1 505"))
        }
    }

    @Test func curlKnowsBefore() throws {
        try servingHTTP2 { address in
            let url = "http://127.0.0.1:\(address.port)/a"
            let output = try await ChildProcess.run(
                ChildProcess.Command(
                    "curl", ["-s", "--http2-prior-knowledge", "-d", "x", "-w", " %{http_version}", url]))
            #expect(output.text == "POST /a x 2")
        }
    }

    // MARK: What is not about errors

    @Test func pingsAreAnswered() throws {
        try servingHTTP2 { address in
            let peer = try await HTTP2Peer(address)
            let payload: [UInt8] = [1, 2, 3, 4, 5, 6, 7, 8]
            // One that is an answer itself gets none.
            try await peer.send([Frame(.ping, 1, 0, [UInt8](repeating: 9, count: 8)), Frame(.ping, 0, 0, payload)])
            let pong = try #require(try await peer.next(.ping))
            #expect(pong.payload == payload && pong.flags == Frame.acknowledges)
            await peer.close()
        }
    }

    @Test func settingsAreAcknowledged() throws {
        try servingHTTP2 { address in
            let peer = try await HTTP2Peer(address)
            let acknowledgement = try await peer.next(.settings) { $0.flags == Frame.acknowledges }
            #expect(acknowledgement?.payload == [])
            await peer.close()
        }
    }

    /// The answer's body comes as the window grows, byte by byte.
    @Test func theWindowIsKeptTo() throws {
        try servingHTTP2 { _, response in
            try await response.send("hello")
        } _: { address in
            let peer = try await HTTP2Peer(address)
            try await peer.send([.settings((4, 1)), .head(1)])
            var body = ""
            while body.count < 5, let data = try await peer.next(.data) {
                #expect(data.payload.count == 1)
                body += String(decoding: data.payload, as: UTF8.self)
                try await peer.send([.window(1, 1)])
            }
            #expect(body == "hello")
            await peer.close()
        }
    }

    /// A window that was used and then made smaller is below zero; nothing comes before it is above.
    @Test func aWindowMayBeBelowZero() throws {
        try servingHTTP2 { _, response in
            try await response.send("0123456789")
        } _: { address in
            let peer = try await HTTP2Peer(address)
            try await peer.send([.settings((4, 3)), .head(1)])
            let first = try await peer.next(.data)
            #expect(first?.payload.count == 3)
            // 0 - 2 + 2 + 1
            try await peer.send([.settings((4, 1)), .window(1, 2), .window(1, 1)])
            let second = try await peer.next(.data)
            #expect(second?.payload.count == 1)
            await peer.close()
        }
    }

    @Test func fieldsBehindTheAnswer() throws {
        try servingHTTP2 { _, response in
            try await response.write(Array("body".utf8))
            try await response.finish(trailers: [.init("X-Sum")!: "4"])
        } _: { address in
            let peer = try await HTTP2Peer(address)
            try await peer.send([.head(1)])
            let head = try await peer.next(.headers)
            let trailers = try await peer.next(.headers)
            #expect(head?.flags == Frame.endHeaders && trailers?.flags == Frame.endHeaders | Frame.endStream)
            await peer.close()
        }
    }
}
