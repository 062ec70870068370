// A Hummingbird application behind RondoHTTP: router, middleware and handlers are Hummingbird's, and everything between
// them and the socket is Rondo's, without a pipeline of NIO's. It answers 2.7 times as many requests as on
// NIO's own loops (docs/decisions/0030).

public import Hummingbird
import HummingbirdCore
import NIOCore
public import Rondo
public import RondoHTTP
import RondoNIO
import ServiceLifecycle
import Synchronization

extension ApplicationProtocol {
    /// Serves the application by `server`, until a signal asks for the end.
    ///
    /// ```
    /// let server = try await HTTPServer.listen(on: .any(port: 8080))
    /// try await application.runService(on: server)
    /// ```
    ///
    /// How HTTP is spoken, with TLS or without, and within which limits, is the server's affair: HTTP/1.1 and HTTP/2,
    /// see `HTTPServerConfiguration`. The end is that of ``runService(on:gracefulShutdownSignals:deadline:channel:)``,
    /// and the same parts of the application play no role. A request's context has a channel that is connected with
    /// nothing: a handler that asks it for the client's address is told none.
    ///
    /// - Throws: what a service throws, or a process that runs before the server starts.
    public func runService(
        on server: HTTPServer, gracefulShutdownSignals signals: [Signal] = [.terminate, .interrupt],
        deadline: Duration = .seconds(30)
    ) async throws {
        try await runGroup(untilSignalled: signals, deadline: deadline) { try await run(on: server) }
    }

    /// Serves the application by `server`, as a part of something greater: until the graceful shutdown of the
    /// `ServiceGroup` that the caller is a service of, or until the task is cancelled. Then every connection is closed,
    /// and this throws.
    public func run(on server: HTTPServer) async throws {
        let answers = try await answersToRequests()
        let channels = ContextChannels()
        defer { channels.close() }
        try await runWithServices {
            let shutdown = Shutdown()
            try await withGracefulShutdownHandler {
                try await server.serve(until: shutdown) { request, response in
                    let body = BodyParts(request.body)
                    defer { body.end() }
                    let answer = try await answers(
                        Request(head: request.head, body: body.asHummingbirdSees), channels.here())
                    response.status = answer.status
                    response.headers = answer.headers
                    let isHead = request.method == .head
                    try await answer.body.write(
                        AnswerWriter(response, whole: isHead ? nil : answer.body.contentLength))
                }
            } onGracefulShutdown: {
                shutdown.request()
            }
        }
    }
}

/// The body of a request, as a handler of Hummingbird's reads it.
@safe
private final class BodyParts: AsyncSequence, @unchecked Sendable {
    // SAFETY: the body belongs to the task of the request, which is where a handler reads it; whatever else it gives
    // it to is stopped by `isOver` when that task has ended. What reading does is done on the connection's loop.
    private let body: RondoHTTP.RequestBody
    private let isOver = Atomic<Bool>(false)

    init(_ body: RondoHTTP.RequestBody) { self.body = body }

    var asHummingbirdSees: HummingbirdCore.RequestBody {
        body.announcedCount == 0 ? .init(buffer: ByteBuffer()) : .init(asyncSequence: self)
    }

    /// The request has been answered.
    func end() { isOver.store(true, ordering: .relaxed) }

    func makeAsyncIterator() -> Iterator { Iterator(parts: self) }

    struct Iterator: AsyncIteratorProtocol {
        let parts: BodyParts

        mutating func next() async throws -> ByteBuffer? {
            if parts.isOver.load(ordering: .relaxed) { throw ChannelError.inputClosed }
            guard let chunk = try await parts.body.read() else { return nil }
            var buffer = ByteBuffer()
            // SAFETY: copied within the call.
            unsafe chunk.bytes.withUnsafeBytes { _ = unsafe buffer.writeBytes($0) }
            return buffer
        }
    }
}

/// Takes what a handler of Hummingbird's answers. A body that comes in one piece, as most do, goes out with its head.
@safe
private final class AnswerWriter: ResponseBodyWriter, @unchecked Sendable {
    // SAFETY: used by the one task that handles the request.
    private let response: ServerResponse
    private let wholeCount: Int?
    private var whole: ByteBuffer?

    /// - Parameter whole: how many bytes the body will have; nil if nobody knows, or none of them go out.
    init(_ response: ServerResponse, whole: Int?) {
        self.response = response
        wholeCount = whole
    }

    func write(_ buffer: ByteBuffer) async throws {
        if buffer.readableBytes == wholeCount, whole == nil, !response.hasBegun {
            whole = buffer
        } else {
            try await response.write([UInt8](buffer: buffer))
        }
    }

    consuming func finish(_ trailers: HTTPFields?) async throws {
        if trailers == nil, wholeCount == 0 || whole != nil, !response.hasBegun {
            return try await response.send([UInt8](buffer: whole ?? ByteBuffer()))
        }
        if let whole { try await response.write([UInt8](buffer: whole)) }
        try await response.finish(trailers: trailers ?? [:])
    }
}

/// What contexts of requests have for a channel: one of each loop, never connected.
private final class ContextChannels: Sendable {
    private let channels = Mutex<[ObjectIdentifier: StreamChannel]>([:])

    /// That of the calling loop.
    func here() -> StreamChannel {
        let loop = NIOLoop.current!
        return channels.withLock { channels in
            if let channel = channels[ObjectIdentifier(loop)] { return channel }
            let channel = StreamChannel(on: loop)
            channels[ObjectIdentifier(loop)] = channel
            return channel
        }
    }

    func close() {
        for channel in channels.withLock({ Array($0.values) }) { channel.close(promise: nil) }
    }
}
