// A connection with TLS: the handshake, and then the protocol that it has agreed on.

import NIOCore
import NIOSSL
import NIOTLS
import Rondo
import RondoNIO

/// What is spoken behind the handshake.
enum SecureProtocol: Sendable {
    case http1(ChannelStream)
    case http2(HTTP2Connection)
}

/// A connection in its handshake.
@safe
final class SecureConnection: ServedConnection, @unchecked Sendable {
    // SAFETY: used on the loop's thread only.

    private(set) var deadline: Int
    private let stream: TCPStream
    private let configuration: HTTPServerConfiguration
    private let registry: ConnectionRegistry
    private let handler: HTTPHandler

    init(
        _ stream: TCPStream, _ configuration: HTTPServerConfiguration, _ registry: ConnectionRegistry,
        _ handler: @escaping HTTPHandler
    ) {
        self.stream = stream
        self.configuration = configuration
        self.registry = registry
        self.handler = handler
        deadline = registry.deadline(after: configuration.timeouts.head)
    }

    /// Serves the connection to its end.
    func run(_ tls: HTTPServerTLS) async throws {
        registry.add(self)
        defer { registry.remove(self) }
        try await StreamChannel.with(stream) { channel in
            let choice = ProtocolChoice(channel, configuration, registry, handler)
            try channel.pipeline.syncOperations.addHandlers([NIOSSLServerHandler(context: tls.context), choice])
            return choice
        } body: { choice in
            let chosen = try await choice.result()
            deadline = .max
            registry.remove(self)
            switch chosen {
            case .http1(let stream): await HTTP1Connection(stream, configuration, registry).run(handler)
            case .http2(let connection): await connection.run()
            }
        }
    }

    func expire() async { await stream.abort() }

    func drain() async {
        // The request that follows is the last.
    }
}

/// Waits for the end of the handshake, and puts the handlers of the protocol in its place.
@safe
final class ProtocolChoice: ChannelInboundHandler, RemovableChannelHandler, @unchecked Sendable {
    // SAFETY: belongs to the loop of its channel.
    typealias InboundIn = ByteBuffer
    typealias InboundOut = ByteBuffer

    private let channel: StreamChannel
    private let configuration: HTTPServerConfiguration
    private let registry: ConnectionRegistry
    private let handler: HTTPHandler
    private let promise: EventLoopPromise<SecureProtocol>

    init(
        _ channel: StreamChannel, _ configuration: HTTPServerConfiguration, _ registry: ConnectionRegistry,
        _ handler: @escaping HTTPHandler
    ) {
        self.channel = channel
        self.configuration = configuration
        self.registry = registry
        self.handler = handler
        promise = channel.eventLoop.makePromise()
    }

    func result() async throws -> SecureProtocol { try await promise.futureResult.get() }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        guard case .some(.handshakeCompleted(let name)) = event as? TLSUserEvent else {
            return context.fireUserInboundEventTriggered(event)
        }
        do {
            if name == "h2" {
                let connection = HTTP2Connection(channel, configuration, registry, handler)
                try connection.addHandlers()
                promise.succeed(.http2(connection))
            } else {
                promise.succeed(.http1(try ChannelStream(channel)))
            }
            context.pipeline.syncOperations.removeHandler(self, promise: nil)
        } catch {
            fail(error, context)
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) { fail(error, context) }

    func channelInactive(context: ChannelHandlerContext) {
        promise.fail(ChannelError.eof)
        context.fireChannelInactive()
    }

    private func fail(_ error: any Error, _ context: ChannelHandlerContext) {
        promise.fail(error)
        context.close(promise: nil)
    }
}

extension ChannelStream: ServedStream {
    func abort() async { await close() }
}
