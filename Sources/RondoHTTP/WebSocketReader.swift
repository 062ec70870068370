// Frames of a WebSocket's client, put together to messages. Whatever RFC 6455 forbids ends the connection.

import Rondo
import Synchronization

/// The receiving side of a WebSocket. One task uses it; the reason of the end may be asked for by any.
@safe
final class WebSocketReader: @unchecked Sendable {
    // SAFETY: one task at a time receives; `reason` guards itself.

    enum Event {
        case message(WebSocketMessage)
        case ping([UInt8])
        case close(WebSocketClose)
        /// The connection has ended.
        case end
    }

    /// The peer does not keep to the protocol.
    struct Problem: Error {
        var code: UInt16
        var reason: String
    }

    private struct Header {
        var isLast: Bool
        var opcode: UInt8
        var count: Int
    }

    private let reader: BufferedReader
    private let limit: Int
    /// The opcode of the message whose first frames have come.
    private var opcode: UInt8?
    private var message: [UInt8] = []
    private var hasEnded = false
    private let reason = Mutex<WebSocketClose?>(nil)

    init(_ stream: any ServedStream, rest: consuming ByteChunk?, limit: Int) {
        reader = BufferedReader(PrefixedSource(rest, stream))
        self.limit = limit
    }

    var closed: WebSocketClose? { get async { reason.withLock { $0 } } }

    func next() async throws -> Event {
        while !hasEnded {
            guard let header = try await readHeader() else { break }
            let payload = try await readPayload(header.count)
            if header.opcode >= 8 {
                if let event = try control(header.opcode, payload) { return event } else { continue }
            }
            message += payload
            guard header.isLast else { continue }
            let (whole, kind) = (message, opcode)
            message = []
            opcode = nil
            if kind == 2 { return .message(.binary(whole)) }
            guard let text = String(validating: whole, as: UTF8.self) else {
                throw Problem(code: 1007, reason: "text that is not UTF-8")
            }
            return .message(.text(text))
        }
        hasEnded = true
        return .end
    }

    /// - Returns: nil if the connection has ended between two frames.
    private func readHeader() async throws -> Header? {
        guard let first = try await firstByte() else { return nil }
        let second = try await reader.readExactly(1)[0]
        if first & 0x70 != 0 { throw Problem(code: 1002, reason: "a reserved bit is set") }
        if second & 0x80 == 0 { throw Problem(code: 1002, reason: "a client's frame is not masked") }
        var header = Header(isLast: first & 0x80 != 0, opcode: first & 15, count: Int(second & 127))
        if header.opcode >= 8, !header.isLast || header.count > 125 {
            throw Problem(code: 1002, reason: "a control frame is too long")
        }
        if header.count >= 126 { header.count = try await readCount(header.count == 126 ? 2 : 8) }
        switch header.opcode {
        case 0: if opcode == nil { throw Problem(code: 1002, reason: "nothing is continued") }
        case 1, 2:
            if opcode != nil { throw Problem(code: 1002, reason: "a message begins within another") }
            opcode = header.opcode
        case 8, 9, 10: break
        default: throw Problem(code: 1002, reason: "an unknown kind of frame")
        }
        if header.count > limit - message.count { throw Problem(code: 1009, reason: "a message is too large") }
        return header
    }

    private func firstByte() async throws -> UInt8? {
        guard let chunk = try await reader.read(upTo: 1) else { return nil }
        return Array(chunk)[0]
    }

    private func readCount(_ size: Int) async throws -> Int {
        let bytes = try await reader.readExactly(size)
        let count = bytes.reduce(0 as UInt64) { $0 << 8 | UInt64($1) }
        if count > UInt64(Int.max) { throw Problem(code: 1009, reason: "a message is too large") }
        return Int(count)
    }

    private func readPayload(_ count: Int) async throws -> [UInt8] {
        let key = try await reader.readExactly(4)
        // Memory is taken as bytes arrive, not as they are announced.
        var payload: [UInt8] = []
        while payload.count < count {
            let start = payload.count
            guard let chunk = try await reader.read(upTo: count - start) else {
                throw IOError("receive from", reader.subject, .unexpectedEnd)
            }
            payload.append(copying: chunk.bytes)
            for index in start..<payload.count { payload[index] ^= key[index & 3] }
        }
        return payload
    }

    /// - Returns: nil if nobody need know.
    private func control(_ opcode: UInt8, _ payload: [UInt8]) throws -> Event? {
        switch opcode {
        case 9: return .ping(payload)
        case 10: return nil
        default:
            hasEnded = true
            let close = try Self.close(payload)
            reason.withLock { $0 = close }
            return .close(close)
        }
    }

    private static func close(_ payload: [UInt8]) throws -> WebSocketClose {
        if payload.isEmpty { return WebSocketClose(code: 1005) }
        guard payload.count >= 2 else { throw Problem(code: 1002, reason: "a close frame has half a code") }
        let code = UInt16(payload[0]) << 8 | UInt16(payload[1])
        switch code {
        case 1000...1003, 1007...1014, 3000...4999: break
        default: throw Problem(code: 1002, reason: "a close frame has a code that may not be sent")
        }
        guard let text = String(validating: payload[2...], as: UTF8.self) else {
            throw Problem(code: 1007, reason: "text that is not UTF-8")
        }
        return WebSocketClose(code: code, reason: text)
    }
}

/// What has been read already, and then a stream.
private final class PrefixedSource: ByteSource {
    private var prefix: ByteChunk?
    private let stream: any ServedStream

    init(_ prefix: consuming ByteChunk?, _ stream: any ServedStream) {
        self.prefix = consume prefix
        self.stream = stream
    }

    var subject: String { stream.subject }

    func read(upTo limit: Int) async throws(IOError) -> ByteChunk? {
        guard var chunk = prefix.take() else { return try await stream.read(upTo: limit) }
        if chunk.count <= limit { return chunk }
        let first = chunk.splitFirst(limit)
        prefix = consume chunk
        return first
    }
}
