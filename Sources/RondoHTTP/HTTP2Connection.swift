// A connection of HTTP/2: many requests at once, each on a stream of its own with a task of its own.

import HTTPTypes
import NIOCore
import NIOHTTP2
import NIOHTTPTypes
import NIOHTTPTypesHTTP2
import Rondo
import RondoNIO

/// One connection. It belongs to its loop.
@safe
final class HTTP2Connection: ServedConnection, @unchecked Sendable {
    // SAFETY: used on the loop's thread only.

    let channel: StreamChannel
    let configuration: HTTPServerConfiguration
    let registry: ConnectionRegistry
    private let handler: HTTPHandler
    private var idleDeadline: Int
    private var isDraining = false
    /// The requests under way, and their tasks.
    private var exchanges: [ObjectIdentifier: (exchange: HTTP2Exchange, task: Task<Void, Never>)] = [:]
    private var waiter: CheckedContinuation<Void, Never>?

    init(
        _ channel: StreamChannel, _ configuration: HTTPServerConfiguration, _ registry: ConnectionRegistry,
        _ handler: @escaping HTTPHandler
    ) {
        self.channel = channel
        self.configuration = configuration
        self.registry = registry
        self.handler = handler
        idleDeadline = registry.deadline(after: configuration.timeouts.head)
    }

    /// Serves a connection without TLS.
    ///
    /// - Parameter bytes: what the client has sent so far.
    static func serve(
        _ stream: TCPStream, received bytes: [UInt8], _ configuration: HTTPServerConfiguration,
        _ registry: ConnectionRegistry, _ handler: @escaping HTTPHandler
    ) async throws {
        try await StreamChannel.with(stream) { channel in
            let connection = HTTP2Connection(channel, configuration, registry, handler)
            try channel.pipeline.syncOperations.addHandler(FirstBytes(bytes))
            try connection.addHandlers()
            return connection
        } body: { connection in
            await connection.run()
        }
    }

    func addHandlers() throws {
        var connection = NIOHTTP2Handler.ConnectionConfiguration()
        connection.initialSettings = [
            HTTP2Setting(parameter: .maxConcurrentStreams, value: configuration.limits.concurrentStreams),
            HTTP2Setting(parameter: .maxHeaderListSize, value: configuration.limits.headBytes),
            HTTP2Setting(parameter: .initialWindowSize, value: 1 << 18),
        ]
        connection.targetWindowSize = 1 << 20
        var streams = NIOHTTP2Handler.StreamConfiguration()
        streams.targetWindowSize = 1 << 18
        streams.outboundBufferSizeHighWatermark = 64 * 1024
        streams.outboundBufferSizeLowWatermark = 32 * 1024
        _ = try channel.pipeline.syncOperations.configureHTTP2Pipeline(
            mode: .server, connectionConfiguration: connection, streamConfiguration: streams
        ) { [self] stream in
            stream.eventLoop.makeCompletedFuture {
                try stream.syncOptions?.setOption(.autoRead, value: false)
                try stream.pipeline.syncOperations.addHandlers([
                    HTTP2FramePayloadToHTTPServerCodec(), HTTP2Exchange(stream, self),
                ])
            }
        }
        try channel.pipeline.syncOperations.addHandler(LastErrors())
    }

    /// Waits until the connection has closed and the last handler has ended.
    func run() async {
        registry.add(self)
        if registry.isDraining { await drain() }
        await withTaskCancellationHandler {
            try? await channel.closeFuture.get()
        } onCancel: {
            channel.close(promise: nil)
        }
        for (_, entry) in exchanges { entry.task.cancel() }
        await withCheckedContinuation { continuation in
            if exchanges.isEmpty { continuation.resume() } else { waiter = continuation }
        }
        registry.remove(self)
    }

    // MARK: Requests

    /// A request has come: runs its handler.
    func start(_ exchange: HTTP2Exchange, _ head: HTTPRequest) {
        // A stream that the client has reset makes room for another one, but its handler may still be at work.
        if exchanges.count >= configuration.limits.concurrentStreams { return exchange.refuse() }
        let task = Task(executorPreference: registry.executor) { await exchange.run(head, self.handler) }
        exchanges[ObjectIdentifier(exchange)] = (exchange, task)
    }

    func end(_ exchange: HTTP2Exchange) {
        exchanges[ObjectIdentifier(exchange)] = nil
        guard exchanges.isEmpty else { return }
        idleDeadline = registry.deadline(after: configuration.timeouts.idle)
        waiter?.resume()
        waiter = nil
        if isDraining { channel.close(promise: nil) }
    }

    // MARK: The registry

    var deadline: Int {
        exchanges.values.reduce(exchanges.isEmpty ? idleDeadline : .max) { min($0, $1.exchange.deadline) }
    }

    func expire() async {
        if exchanges.isEmpty { return channel.close(promise: nil) }
        for (_, entry) in exchanges where entry.exchange.deadline < registry.tick { entry.exchange.expire() }
    }

    func drain() async {
        isDraining = true
        let frame = HTTP2Frame(
            streamID: .rootStream,
            payload: .goAway(lastStreamID: .maxID, errorCode: .noError, opaqueData: nil))
        channel.writeAndFlush(frame, promise: nil)
        if exchanges.isEmpty { channel.close(promise: nil) }
    }
}

/// Hands on what was received before there was a channel.
private final class FirstBytes: ChannelInboundHandler, RemovableChannelHandler, Sendable {
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let bytes: [UInt8]

    init(_ bytes: [UInt8]) { self.bytes = bytes }

    func channelActive(context: ChannelHandlerContext) {
        context.fireChannelActive()
        context.fireChannelRead(wrapInboundOut(ByteBuffer(bytes: bytes)))
        context.fireChannelReadComplete()
        context.pipeline.syncOperations.removeHandler(self, promise: nil)
    }
}

/// What goes wrong with a connection as a whole ends it.
private final class LastErrors: ChannelInboundHandler, Sendable {
    typealias InboundIn = Never

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        // Errors of one stream are the stream's.
        if error is NIOHTTP2Errors.StreamError { return }
        // GOAWAY has been written, but not always flushed.
        context.flush()
        context.close(promise: nil)
    }
}
