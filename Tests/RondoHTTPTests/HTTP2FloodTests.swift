// Frames that cost their sender little and a careless server much: each kind of flood ends its connection, the others
// are served on, and memory stays as it is.

import Rondo
import RondoHTTP
import Synchronization
import Testing

/// A kind of flood: what is sent again and again.
struct Flood: Sendable, CustomTestStringConvertible {
    var testDescription: String
    /// Frames before it.
    var before: [Frame] = []
    /// The frames of a round.
    var round: @Sendable (UInt32) -> [Frame]
}

@Suite struct HTTP2FloodTests {
    private static let ping = Frame(.ping, 0, 0, [UInt8](repeating: 7, count: 8))

    /// Is answered if all before it was.
    private static let marker = Frame(.ping, 0, 0, Array("the last".utf8))

    static let floods: [Flood] = [
        // CVE-2023-44487: streams that are opened and taken back.
        Flood(testDescription: "rapid reset") { [.head(1 + 2 * $0), .reset(1 + 2 * $0)] },
        // CVE-2025-8671: the client makes the server reset the streams.
        Flood(testDescription: "streams that are made to fail") {
            [.head(1 + 2 * $0, Frame.post, ends: false), .window(1 + 2 * $0, 0)]
        },
        Flood(testDescription: "malformed requests") { [.head(1 + 2 * $0, [("A", "b")])] },
        // CVE-2024-27316 and its kin: a head that never ends.
        Flood(testDescription: "CONTINUATION", before: [Frame(.headers, 1, 1, Frame.block(Frame.get))]) {
            [Frame(.continuation, 0, 1, Frame.block([("x-\($0)", "y")]))]
        },
        Flood(testDescription: "empty CONTINUATION", before: [Frame(.headers, 1, 1, Frame.block(Frame.get))]) { _ in
            [Frame(.continuation, 0, 1)]
        },
        // CVE-2019-9512, 9515, 9518, and others of that year.
        Flood(testDescription: "PING") { _ in [ping] },
        Flood(testDescription: "SETTINGS") { _ in [.settings((4, 65_535))] },
        Flood(testDescription: "empty SETTINGS") { _ in [.settings()] },
        Flood(testDescription: "empty DATA", before: [.head(1, Frame.post, ends: false)]) { _ in [Frame(.data, 0, 1)] },
        Flood(testDescription: "padding only", before: [.head(1, Frame.post, ends: false)]) { _ in
            [Frame(.data, 8, 1, [0])]
        },
        Flood(testDescription: "PRIORITY") { [Frame(.priority, 0, 1 + 2 * ($0 % 1000), [0, 0, 0, 0, 1])] },
        Flood(testDescription: "DATA of a closed stream", before: [.head(1, Frame.post, ends: false), .reset(1)]) { _ in
            [Frame(.data, 0, 1, [1])]
        },
        Flood(testDescription: "acknowledgements of nothing") { _ in [Frame(.settings, 1)] },
        Flood(testDescription: "answers to no PING") { _ in [Frame(.ping, 1, 0, [UInt8](repeating: 7, count: 8))] },
    ]

    @Test(arguments: floods) func endsTheConnection(_ flood: Flood) throws {
        try servingHTTP2 { address in
            let peer = try await HTTP2Peer(address)
            try await peer.send(flood.before)
            let before = try residentBytes()
            let reading = start {
                while let frame = try await peer.next() {
                    if frame.kind == .ping, frame.payload == Self.marker.payload { return true }
                }
                return false
            }
            for round in 0 as UInt32..<400 {
                try await peer.send((0..<50).flatMap { flood.round(round * 50 + $0) })
                await EventLoop.yield()
            }
            try await peer.send([Self.marker])
            let isTolerated = try await reading.value
            #expect(!isTolerated, "20,000 rounds were taken")
            let grown = try residentBytes() - before
            #expect(grown < 16 << 20, "\(grown >> 10) KiB")
            await peer.close()
            let other = try await HTTP2Peer(address)
            try await other.send([.head(1)])
            let outcome = try await other.outcome(of: 1)
            #expect(outcome == .answer(200))
            await other.close()
        }
    }

    /// What asks for nothing is not counted: it costs what its bytes cost, and leaves nothing behind.
    @Test(arguments: [
        Flood(testDescription: "WINDOW_UPDATE of a closed stream", before: [.head(1), .reset(1)]) { _ in
            [.window(1, 1)]
        },
        Flood(testDescription: "unknown frames") { _ in [Frame(.unknown, 0, 0, [1])] },
    ]) func isHarmless(_ flood: Flood) throws {
        try servingHTTP2 { address in
            let peer = try await HTTP2Peer(address)
            try await peer.send(flood.before)
            let before = try residentBytes()
            for round in 0 as UInt32..<400 { try await peer.send((0..<50).flatMap { flood.round(round * 50 + $0) }) }
            try await peer.send([Self.marker])
            let pong = try await peer.next(.ping)
            #expect(pong?.payload == Self.marker.payload)
            let grown = try residentBytes() - before
            #expect(grown < 16 << 20)
            await peer.close()
        }
    }

    // MARK: Streams

    @Test func thereAreSoManyStreamsAtATime() throws {
        try servingHTTP2 {
            $0.limits.concurrentStreams = 5
        } _: { _, _ in
            try await Task.sleep(for: .seconds(1000))
        } _: { address in
            let peer = try await HTTP2Peer(address)
            let settings = try #require(try await peer.next(.settings) { $0.flags == 0 })
            #expect(settings.payload.starts(with: [0, 3, 0, 0, 0, 5]))
            try await peer.send((0..<6).map { .head(1 + 2 * $0) })
            let outcome = try await peer.outcome(of: 11)
            #expect([.reset(Code.refusedStream), .goAway(Code.protocol)].contains(outcome), "\(outcome)")
            await peer.close()
        }
    }

    /// A client that takes its requests back makes room for more streams; but not for more handlers.
    @Test func handlersAreCountedAndNotStreams() throws {
        let running = Atomic(0)
        let most = Atomic(0)
        let mayEnd = AsyncEvent()
        try servingHTTP2 {
            $0.limits.concurrentStreams = 5
        } _: { _, _ in
            most.max(running.add(1, ordering: .relaxed).newValue, ordering: .relaxed)
            defer { running.subtract(1, ordering: .relaxed) }
            // A cancelled handler takes its time: however fast requests come and go, they meet.
            try await Task { try await mayEnd.wait() }.value
        } _: { address in
            let peer = try await HTTP2Peer(address)
            for id in stride(from: 1 as UInt32, to: 121, by: 2) { try await peer.send([.head(id), .reset(id)]) }
            try await peer.send([Self.ping])
            _ = try await peer.next(.ping)
            #expect(most.load(ordering: .relaxed) == 5)
            mayEnd.set()
            await peer.close()
        }
    }

    // MARK: Heads

    @Test func aHeadThatIsTooLargeIsRefused() throws {
        try servingHTTP2 { address in
            // 30 KB in three frames.
            let fields = (0..<300).map { ("x-\($0)", String(repeating: "y", count: 90)) }
            let block = Frame.block(Frame.get + fields)
            let peer = try await HTTP2Peer(address)
            try await peer.send([
                Frame(.headers, 1, 1, Array(block.prefix(12_000))),
                Frame(.continuation, 0, 1, Array(block.dropFirst(12_000).prefix(12_000))),
                Frame(.continuation, 4, 1, Array(block.dropFirst(24_000))),
            ])
            let outcome = try await peer.outcome(of: 1)
            #expect(
                [.answer(431), .goAway(Code.protocol)].contains(outcome), "\(outcome)")
            await peer.close()
        }
    }

    /// A large field that is put into the table, and then named by a byte, again and again: CVE-2016-6581.
    @Test func aFieldThatIsNamedAgainAndAgainIsCounted() throws {
        try servingHTTP2 { address in
            let value = [UInt8](repeating: 0x79, count: 3900)
            // A literal with a name of its own, which goes into the table. 3,900 is 127 and the rest in 7 bits each.
            let entry: [UInt8] = [0x40, 1, 0x61, 0x7F, 0xBD, 0x1D] + value
            let named = [UInt8](repeating: 0x80 | 62, count: 10_000)
            let peer = try await HTTP2Peer(address)
            let before = try residentBytes()
            try await peer.send([Frame(.headers, 5, 1, Frame.block(Frame.get) + entry + named)])
            let outcome = try await peer.outcome(of: 1)
            #expect(
                [.answer(431), .reset(Code.protocol), .goAway(Code.enhanceYourCalm), .goAway(Code.compression)]
                    .contains(outcome), "\(outcome)")
            let grown = try residentBytes() - before
            #expect(grown < 8 << 20)
            await peer.close()
        }
    }

    @Test func aHeadThatNeverEndsIsCutOff() throws {
        try servingHTTP2({ $0.timeouts.head = .milliseconds(300) }, describe) { address in
            let peer = try await HTTP2Peer(address)
            try await peer.send([Frame(.headers, 1, 1, Frame.block(Frame.get))])
            while let frame = try await peer.next() { #expect(frame.kind != .headers) }
            await peer.close()
        }
    }
}
