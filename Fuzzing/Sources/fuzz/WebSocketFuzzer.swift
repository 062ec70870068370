// Frames of a WebSocket: the same messages in whatever pieces they come, none larger than the limit. The first byte of
// an input is the size of the pieces.

import Rondo

enum WebSocketFuzzer: FuzzTarget {
    private static let masked: [UInt8] = [1, 2, 3, 4]

    private static func frame(_ first: UInt8, _ text: String) -> [UInt8] {
        let payload = Array(text.utf8)
        let length =
            payload.count < 126
            ? [0x80 | UInt8(payload.count)] : [0xFE, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
        return [first] + length + masked + payload.enumerated().map { $1 ^ masked[$0 & 3] }
    }

    static let seeds: [[UInt8]] = [
        [7] + frame(0x81, "hello") + frame(0x82, "bytes") + frame(0x88, "\u{3}\u{E8}bye"),
        [3] + frame(0x01, "he") + frame(0x89, "ping") + frame(0x80, "llo") + frame(0x8A, "pong"),
        [1] + frame(0x82, String(repeating: "x", count: 300)), [9, 0x82, 0xFF, 0x80, 0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4],
        [2] + frame(0x88, ""), [5] + frame(0xC1, "reserved"), [5, 0x81, 5, 0x61],
    ]

    private static let limit = 256

    static func run(_ input: [UInt8]) {
        guard let first = input.first else { return }
        let bytes = Array(input.dropFirst())
        let whole = events(bytes, size: max(bytes.count, 1))
        let pieces = events(bytes, size: Int(first & 31) + 1)
        expect(whole == pieces, "\(whole) in one piece, \(pieces) in several")
    }

    private static func events(_ bytes: [UInt8], size: Int) -> [String] {
        let log = EventLog()
        // Nothing here waits: the task ends before this returns.
        Task.immediate {
            let reader = WebSocketReader(Pieces(bytes, size: size), rest: nil, limit: limit)
            do {
                while true {
                    switch try await reader.next() {
                    case .message(.text(let text)):
                        expect(text.utf8.count <= limit, "a text too large")
                        log.lines.append("text \(Array(text.utf8))")
                    case .message(.binary(let bytes)):
                        expect(bytes.count <= limit, "a message too large")
                        log.lines.append("binary \(bytes)")
                    case .ping(let payload):
                        expect(payload.count <= 125, "a ping too large")
                        log.lines.append("ping \(payload)")
                    case .close(let close): log.lines.append("close \(close.code) \(close.reason)")
                    case .end:
                        log.lines.append("end")
                        log.isOver = true
                        return
                    }
                }
            } catch let problem as WebSocketReader.Problem {
                log.lines.append("problem \(problem.code)")
            } catch {
                log.lines.append("error")
            }
            log.isOver = true
        }
        expect(log.isOver, "it waits")
        return log.lines
    }

    private final class EventLog: @unchecked Sendable {
        // SAFETY: one thread.
        var lines: [String] = []
        var isOver = false
    }

    /// Bytes in pieces of one size.
    private final class Pieces: ServedStream, @unchecked Sendable {
        // SAFETY: one thread.
        private let bytes: [UInt8]
        private let size: Int
        private var position = 0

        init(_ bytes: [UInt8], size: Int) {
            self.bytes = bytes
            self.size = size
        }

        var subject: String { "the input" }

        func read(upTo limit: Int) async throws(IOError) -> ByteChunk? {
            let end = min(position + min(size, limit), bytes.count)
            if position == end { return nil }
            defer { position = end }
            return ByteChunk(Array(bytes[position..<end]))
        }

        func write(_ bytes: RawSpan) async throws(IOError) {}
        func finishWriting() async throws(IOError) {}
        func close() async {}
        func abort() async {}
    }
}
