// A client of HTTP/2 that sends exactly the frames that it is told to.

import struct NIOCore.ByteBuffer
import struct NIOCore.ByteBufferAllocator
import NIOHPACK
import Rondo
import RondoHTTP
import Testing

/// A frame (RFC 9113, 4.1).
struct Frame: Equatable, CustomStringConvertible {
    enum Kind: UInt8 {
        case data, headers, priority, reset, settings, pushPromise, ping, goAway, windowUpdate, continuation
        case unknown = 0xFA
    }

    static let endStream: UInt8 = 1
    static let acknowledges: UInt8 = 1
    static let endHeaders: UInt8 = 4
    static let padded: UInt8 = 8

    var kind: Kind
    var flags: UInt8 = 0
    var stream: UInt32 = 0
    var payload: [UInt8] = []

    init(_ kind: Kind, _ flags: UInt8 = 0, _ stream: UInt32 = 0, _ payload: [UInt8] = []) {
        self.kind = kind
        self.flags = flags
        self.stream = stream
        self.payload = payload
    }

    var bytes: [UInt8] {
        let count = payload.count
        return Self.number(UInt32(count)).suffix(3) + [kind.rawValue, flags] + Self.number(stream) + payload
    }

    var description: String { "\(kind) flags \(flags) stream \(stream) of \(payload.count) bytes" }

    static func number(_ value: UInt32) -> [UInt8] { unsafe withUnsafeBytes(of: value.bigEndian) { unsafe Array($0) } }

    /// A number at the end of a payload's first `4 + start` bytes.
    func number(at start: Int = 0) -> UInt32 {
        payload.dropFirst(start).prefix(4).reduce(0) { $0 << 8 | UInt32($1) }
    }

    // MARK: Kinds

    static func settings(_ pairs: (UInt16, UInt32)...) -> Frame {
        var payload: [UInt8] = []
        for (name, value) in pairs { payload += number(UInt32(name)).suffix(2) + number(value) }
        return Frame(.settings, 0, 0, payload)
    }

    static func window(_ stream: UInt32, _ increment: UInt32) -> Frame {
        Frame(.windowUpdate, 0, stream, number(increment))
    }

    static func reset(_ stream: UInt32) -> Frame { Frame(.reset, 0, stream, number(8)) }

    /// Field lines without compression: each name and value has less than 127 bytes.
    static func block(_ fields: [(String, String)]) -> [UInt8] {
        var block: [UInt8] = []
        for (name, value) in fields {
            block += [0, UInt8(name.utf8.count)]
            block += Array(name.utf8)
            block.append(UInt8(value.utf8.count))
            block += Array(value.utf8)
        }
        return block
    }

    static let get = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "x")]
    static let post = [(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "x")]

    /// A whole head; with it the request ends, unless a body follows.
    static func head(_ stream: UInt32, _ fields: [(String, String)] = get, ends: Bool = true) -> Frame {
        Frame(.headers, endHeaders | (ends ? endStream : 0), stream, block(fields))
    }
}

/// What becomes of a stream.
enum Outcome: Equatable {
    case goAway(UInt32)
    case reset(UInt32)
    case answer(Int)
    /// The connection has ended without a word.
    case closed
}

/// Codes of errors (RFC 9113, 7).
enum Code {
    static let none: UInt32 = 0
    static let `protocol`: UInt32 = 1
    static let flowControl: UInt32 = 3
    static let streamClosed: UInt32 = 5
    static let frameSize: UInt32 = 6
    static let refusedStream: UInt32 = 7
    static let cancel: UInt32 = 8
    static let compression: UInt32 = 9
    static let enhanceYourCalm: UInt32 = 11
}

/// One connection.
final class HTTP2Peer: @unchecked Sendable {
    // SAFETY: used on the loop of its test. One task reads.

    static let preface = Array("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".utf8)

    let stream: TCPStream
    private let reader: BufferedReader
    private var decoder = HPACKDecoder(allocator: ByteBufferAllocator())

    /// - Parameter greets: whether it begins as it should, with its preface and empty settings.
    init(_ address: SocketAddress, greets: Bool = true) async throws {
        stream = try await TCPStream.connect(to: address)
        reader = BufferedReader(stream)
        if greets { try await send([.settings()], before: Self.preface) }
    }

    /// Sends frames, in one piece. That the server has gone is no error here: it may have said why.
    func send(_ frames: [Frame], before: [UInt8] = []) async throws {
        try? await stream.write(before + frames.flatMap(\.bytes))
    }

    /// The next frame; nil at the end.
    func next() async throws -> Frame? {
        guard let head = try? await reader.readExactly(9) else { return nil }
        let count = Int(head[0]) << 16 | Int(head[1]) << 8 | Int(head[2])
        guard let payload = count == 0 ? [] : try? await reader.readExactly(count) else { return nil }
        let kind = try #require(Frame.Kind(rawValue: head[3]))
        return Frame(kind, head[4], Array(head[5..<9]).reduce(0) { $0 << 8 | UInt32($1) }, payload)
    }

    /// The next frame of a kind; nil at the end.
    func next(_ kind: Frame.Kind, where matches: (Frame) -> Bool = { _ in true }) async throws -> Frame? {
        while let frame = try await next() {
            if frame.kind == .headers { _ = try status(frame) }
            if frame.kind == kind, matches(frame) { return frame }
        }
        return nil
    }

    /// Reads until it is known what becomes of a stream, or of the connection.
    func outcome(of id: UInt32) async throws -> Outcome {
        while let frame = try await next() {
            switch frame.kind {
            case .goAway: return .goAway(frame.number(at: 4))
            case .reset where frame.stream == id: return .reset(frame.number())
            case .headers:
                let status = try status(frame)
                if frame.stream == id { return .answer(status) }
            default: break
            }
        }
        return .closed
    }

    /// The status that a head says. All heads must pass through here, in order.
    func status(_ frame: Frame) throws -> Int {
        var buffer = ByteBuffer(bytes: frame.payload)
        let fields = try decoder.decodeHeaders(from: &buffer)
        return fields.first(name: ":status").flatMap { Int($0) } ?? 0
    }

    func close() async { await stream.abort() }
}

/// Runs `body` while a server answers HTTP/2 without TLS.
func servingHTTP2(
    _ adjust: (inout HTTPServerConfiguration) -> Void,
    _ handler: @escaping @Sendable (ServerRequest, ServerResponse) async throws -> Void,
    _ body: sending @escaping (SocketAddress) async throws -> Void
) throws {
    var configuration = HTTPServerConfiguration()
    configuration.http2WithoutTLS = true
    adjust(&configuration)
    try serving(configuration, handler, body)
}

func servingHTTP2(
    _ handler: @escaping @Sendable (ServerRequest, ServerResponse) async throws -> Void = describe,
    _ body: sending @escaping (SocketAddress) async throws -> Void
) throws {
    try servingHTTP2({ _ in }, handler, body)
}
