// WebSocket (RFC 6455) behind a request of HTTP/1.1.

import HTTPTypes
import Rondo

/// A connection that both sides may send messages on at any time.
///
/// One task receives; any number may send. Pings are answered while somebody receives.
public final class WebSocket: Sendable {
    /// The largest message that is accepted; a larger one ends the connection with 1009.
    public let messageLimit: Int

    private let frames: WebSocketReader
    private let sink: any ServedStream
    private let writing = AsyncMutex(WritingState())

    private struct WritingState {
        var hasSentClose = false
    }

    init(_ stream: any ServedStream, rest: consuming ByteChunk?, messageLimit: Int) {
        sink = stream
        self.messageLimit = messageLimit
        frames = WebSocketReader(stream, rest: rest, limit: messageLimit)
    }

    /// Waits for the next message.
    ///
    /// - Returns: nil when the peer has closed; ``closed`` says why.
    /// - Throws: `IOError`: the connection has broken, or the peer does not keep to the protocol; it is told so.
    public func receive() async throws -> WebSocketMessage? {
        while true {
            let event: WebSocketReader.Event
            do {
                event = try await frames.next()
            } catch let problem as WebSocketReader.Problem {
                try? await close(WebSocketClose(code: problem.code, reason: problem.reason))
                throw IOError("receive from", sink.subject, .invalid(problem.reason))
            }
            switch event {
            case .message(let message): return message
            case .ping(let payload): try await send(opcode: 10, payload)
            case .close(let close):
                try? await self.close(close.code == 1005 ? WebSocketClose() : close)
                return nil
            case .end: return nil
            }
        }
    }

    /// Why the peer has closed; nil as long as it has not, or if it has gone without a word.
    public var closed: WebSocketClose? { get async { await frames.closed } }

    /// Sends a message. A peer that does not read makes this wait.
    public func send(_ message: WebSocketMessage) async throws {
        switch message {
        case .text(let text): try await send(opcode: 1, Array(text.utf8))
        case .binary(let bytes): try await send(opcode: 2, bytes)
        }
    }

    /// Sends text.
    public func send(_ text: String) async throws { try await send(.text(text)) }

    /// Asks the peer for a sign of life; nobody is told of it.
    public func ping() async throws { try await send(opcode: 9, []) }

    /// Says that nothing more is sent, and why. Messages of the peer are still received, up to its own close.
    public func close(_ close: WebSocketClose = WebSocketClose()) async throws {
        let code = [UInt8(close.code >> 8), UInt8(close.code & 255)]
        try await send(opcode: 8, code + Array(close.reason.utf8.prefix(123)))
    }

    private func send(opcode: UInt8, _ payload: [UInt8]) async throws {
        var frame: [UInt8] = [0x80 | opcode]
        frame.reserveCapacity(payload.count + 10)
        switch payload.count {
        case ..<126: frame.append(UInt8(payload.count))
        case ..<65_536: frame += [126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
        default: frame += [127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
        }
        frame += payload
        let bytes = frame
        try await writing.withLock { state in
            if state.hasSentClose {
                if opcode >= 8 { return }
                throw IOError("send to", self.sink.subject, .closed)
            }
            if opcode == 8 { state.hasSentClose = true }
            try await self.sink.write(bytes)
        }
    }
}
