// A request of HTTP/2 and its answer: the last handler of a stream's pipeline.

import HTTPTypes
import NIOCore
import NIOHTTP2
import NIOHTTPTypes
import NIOHTTPTypesHTTP2
import Rondo
import RondoNIO

/// One stream. It belongs to the loop; its task is the handler's.
@safe
final class HTTP2Exchange: ChannelInboundHandler, ResponseExchange, BodySource, @unchecked Sendable {
    // SAFETY: used on the loop's thread only.
    typealias InboundIn = HTTPRequestPart
    typealias OutboundOut = HTTPResponsePart

    let loop: Rondo.EventLoop
    let executor: any TaskExecutor
    private(set) var deadline = Int.max
    private let stream: any Channel
    private unowned let connection: HTTP2Connection
    private var requestDeadline = Int.max

    private var parts = CircularBuffer<ByteBuffer>()
    private var rest: ByteChunk?
    private var received = 0
    private var hasBodyEnded = false
    private var isClosed = false
    private var isLate = false
    private var refusal: HTTPRefusal?
    private var answer = AnswerState()
    /// The handler's task, while it waits for the client.
    private var waiter: CheckedContinuation<Void, Never>?

    init(_ stream: any Channel, _ connection: HTTP2Connection) {
        self.stream = stream
        self.connection = connection
        loop = connection.registry.loop
        executor = connection.registry.executor
    }

    private var configuration: HTTPServerConfiguration { connection.configuration }

    // MARK: The pipeline

    func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { context.read() }
    }

    func channelActive(context: ChannelHandlerContext) {
        context.read()
        context.fireChannelActive()
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        switch unwrapInboundIn(data) {
        case .head(let head): connection.start(self, head)
        case .body(let part):
            received += part.readableBytes
            if received > configuration.limits.bodyBytes {
                refusal = HTTP1Connection.bodyTooLarge
                hasBodyEnded = true
            } else if part.readableBytes > 0 {
                parts.append(part)
            }
        case .end: hasBodyEnded = true
        }
        wake()
    }

    func channelReadComplete(context: ChannelHandlerContext) {
        // The end of a body may already be here: it costs nothing to look.
        if waiter != nil, parts.isEmpty, !hasBodyEnded { context.read() }
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { wake() }
        context.fireChannelWritabilityChanged()
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { context.close(promise: nil) }

    func channelInactive(context: ChannelHandlerContext) {
        isClosed = true
        wake()
        context.fireChannelInactive()
    }

    private func wake() {
        let waiting = waiter
        waiter = nil
        waiting?.resume()
    }

    // MARK: The request

    func run(_ head: HTTPRequest, _ handler: HTTPHandler) async {
        let start = configuration.accessLog == nil ? nil : ContinuousClock.now
        requestDeadline = configuration.timeouts.request.map(connection.registry.deadline(after:)) ?? .max
        deadline = requestDeadline
        answer.isHead = head.method == .head
        let length = head.headerFields[.contentLength]
        // Other readers, NIO's among them, take a sign for a part of a number.
        let isLength = length?.utf8.allSatisfy(\.isDigit) ?? true
        let announced = length.flatMap { Int($0) }
        let body = RequestBody(announcedCount: announced, from: self)
        let request = ServerRequest(head: head, version: "HTTP/2", body: body) { [connection] in
            connection.channel.remoteAddress.map { "\($0.ipAddress ?? ""):\($0.port ?? 0)" } ?? ""
        }
        let response = ServerResponse(self)
        do {
            if !isLength { throw HTTPRefusal(.badRequest, "the Content-Length is no number") }
            if head.headerFields.count > configuration.limits.headerFields { throw HTTP1Head.headTooLarge }
            if announced ?? 0 > configuration.limits.bodyBytes { throw HTTP1Connection.bodyTooLarge }
            try await handler(request, response)
            await comeHome()
            if !response.hasBegun {
                try await response.send("no answer\n", status: .internalServerError)
            } else if !response.hasEnded {
                try await response.finish()
            }
        } catch {
            await comeHome()
            await answerFailure(error, response)
        }
        if let start, let log = configuration.accessLog {
            log(
                HTTPAccess(
                    method: head.method.rawValue, target: head.path ?? "", status: answer.status,
                    bodyBytes: answer.bodyBytes, duration: .now - start, version: "HTTP/2", peer: request.peer))
        }
        // What the client still sends of a body is not wanted.
        if !hasBodyEnded { stream.close(promise: nil) }
        connection.end(self)
    }

    private func answerFailure(_ error: any Error, _ response: ServerResponse) async {
        if answer.hasBegun || isClosed { return stream.close(promise: nil) }
        response.reset()
        var status = HTTPResponse.Status.internalServerError
        if let refusal = refusal ?? (error as? HTTPRefusal) {
            status = refusal.status
        } else if isLate {
            status = .requestTimeout
        } else if let error = error as? Rondo.IOError, case .limitExceeded = error.cause {
            status = .contentTooLarge
        }
        try? await response.send("\(status.reasonPhrase)\n", status: status)
    }

    /// There are too many: the client may ask again, as nobody has seen its request.
    func refuse() {
        isClosed = true
        let codec = HTTP2FramePayloadToHTTPServerCodec.self
        guard let context = try? stream.pipeline.syncOperations.context(handlerType: codec) else { return }
        let frame = HTTP2Frame.FramePayload.rstStream(.refusedStream)
        context.writeAndFlush(NIOAny(frame), promise: nil)
    }

    /// It is late.
    func expire() {
        isLate = true
        deadline = .max
        if answer.hasBegun { stream.close(promise: nil) } else { wake() }
    }

    /// Waits for the client, for a while.
    private func wait(_ time: Duration, _ operation: String) async throws(Rondo.IOError) {
        deadline = min(requestDeadline, connection.registry.deadline(after: time))
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled { return continuation.resume() }
                waiter = continuation
            }
        } onCancel: {
            stream.eventLoop.execute { self.wake() }
        }
        await comeHome()
        deadline = requestDeadline
        if Task.isCancelled { throw Rondo.IOError(operation, "a stream of HTTP/2", .cancelled) }
        if isLate { throw Rondo.IOError(operation, "a stream of HTTP/2", .closed) }
    }

    func readBody(upTo limit: Int) async throws(Rondo.IOError) -> ByteChunk? {
        while true {
            if var chunk = rest.take() ?? nextPart() {
                if chunk.count <= limit { return chunk }
                let first = chunk.splitFirst(limit)
                rest = consume chunk
                return first
            }
            if let refusal { throw Rondo.IOError("read", "the body of a request", .invalid(refusal.reason)) }
            if hasBodyEnded { return nil }
            if isClosed { throw Rondo.IOError("read", "the body of a request", .closed) }
            stream.read()
            if parts.isEmpty, !hasBodyEnded, !isClosed {
                try await wait(configuration.timeouts.body, "read")
            }
        }
    }

    private func nextPart() -> ByteChunk? {
        guard let part = parts.popFirst() else { return nil }
        var chunk: ByteChunk?
        unsafe part.withUnsafeReadableBytesWithStorageManagement { bytes, owner in
            // SAFETY: the buffer's storage stays as it is while somebody else has it too: who changes it copies it.
            chunk = unsafe ByteChunk(bytes, keptBy: owner.takeUnretainedValue())
        }
        return chunk
    }

    // MARK: The answer

    func send(
        _ status: HTTPResponse.Status, _ fields: HTTPFields, _ type: StaticString?, _ body: RawSpan
    ) async throws(Rondo.IOError) {
        var fields = fields
        if let type, body.byteCount > 0 { fields[.contentType] = "\(type)" }
        if status.mayHaveBody { fields[.contentLength] = String(body.byteCount) }
        try begin(status, &fields)
        if body.byteCount > 0, !answer.isHead, status.mayHaveBody { append(body) }
        answer.hasEnded = true
        stream.writeAndFlush(HTTPResponsePart.end(nil), promise: nil)
        // A large body takes its time; a small one is on its way.
        while !stream.isWritable, !isClosed { try await wait(configuration.timeouts.write, "write to") }
    }

    func begin(_ status: HTTPResponse.Status, _ fields: HTTPFields) async throws(Rondo.IOError) {
        var fields = fields
        try begin(status, &fields)
    }

    private func begin(_ status: HTTPResponse.Status, _ fields: inout HTTPFields) throws(Rondo.IOError) {
        if isClosed { throw Rondo.IOError("write to", "a stream of HTTP/2", .closed) }
        // What belongs to a connection of HTTP/1 (RFC 9113, 8.2.2).
        fields[.connection] = nil
        fields[.transferEncoding] = nil
        if fields[.date] == nil { fields[.date] = String(decoding: connection.registry.date, as: UTF8.self) }
        if let name = configuration.serverName { fields[.server] = name }
        answer.hasBegun = true
        answer.status = status
        stream.write(HTTPResponsePart.head(HTTPResponse(status: status, headerFields: fields)), promise: nil)
    }

    func write(_ bytes: RawSpan) async throws(Rondo.IOError) {
        if isClosed { throw Rondo.IOError("write to", "a stream of HTTP/2", .closed) }
        if answer.isHead { return }
        append(bytes)
        stream.flush()
        while !stream.isWritable, !isClosed { try await wait(configuration.timeouts.write, "write to") }
    }

    private func append(_ bytes: RawSpan) {
        answer.bodyBytes += bytes.byteCount
        var buffer = stream.allocator.buffer(capacity: bytes.byteCount)
        // SAFETY: the bytes are copied within the call.
        unsafe bytes.withUnsafeBytes { _ = unsafe buffer.writeBytes($0) }
        stream.write(HTTPResponsePart.body(buffer), promise: nil)
    }

    func end(_ trailers: HTTPFields) async throws(Rondo.IOError) {
        answer.hasEnded = true
        stream.writeAndFlush(HTTPResponsePart.end(trailers.isEmpty ? nil : trailers), promise: nil)
    }

    func flush() async throws(Rondo.IOError) { stream.flush() }
}
