// NIO's own bootstraps take NIO's own loops only; these take Rondo's. They are used in the same way.

public import NIOCore
public import Rondo

/// Makes a listening channel whose connections get handlers: what NIO's `ServerBootstrap` is for NIO's sockets.
///
/// ```
/// let listener = try await ListenerBootstrap()
///     .childChannelInitializer { channel in
///         channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Echo()) }
///     }
///     .bind(host: "127.0.0.1", port: 7777).get()
/// ```
///
/// Connections live on the loop that the listener is on. To spread them over several loops use
/// `TCPListener.serve(over:)` and ``StreamChannel/run(_:_:)``.
public struct ListenerBootstrap: Sendable {
    private let loop: NIOLoop
    private var serverSetUp: @Sendable (any Channel) -> EventLoopFuture<Void>
    private var childSetUp: @Sendable (any Channel) -> EventLoopFuture<Void>
    private var serverOptions = ChannelOptions.Storage()
    private var childOptions = ChannelOptions.Storage()

    /// A bootstrap for a loop; nil for the one that the caller runs on.
    public init(on loop: NIOLoop? = nil) {
        guard let loop = loop ?? NIOLoop.current else {
            fatalError("ListenerBootstrap() was called outside of an event loop: say which loop")
        }
        self.loop = loop
        serverSetUp = { $0.eventLoop.makeSucceededVoidFuture() }
        childSetUp = serverSetUp
    }

    /// Adds handlers to the listening channel: they see accepted channels as `channelRead`s.
    public func serverChannelInitializer(
        _ setUp: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> ListenerBootstrap {
        var copy = self
        copy.serverSetUp = setUp
        return copy
    }

    /// Adds handlers to the channel of each connection, before it is active.
    public func childChannelInitializer(
        _ setUp: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> ListenerBootstrap {
        var copy = self
        copy.childSetUp = setUp
        return copy
    }

    /// Sets an option of the listening channel.
    public func serverChannelOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> ListenerBootstrap {
        var copy = self
        copy.serverOptions.append(key: option, value: value)
        return copy
    }

    /// Sets an option of each connection's channel.
    public func childChannelOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> ListenerBootstrap {
        var copy = self
        copy.childOptions.append(key: option, value: value)
        return copy
    }

    /// Listens on a numeric host.
    ///
    /// - Returns: the listening channel; its `localAddress` has the port, if 0 was asked for.
    public func bind(host: String, port: Int) -> EventLoopFuture<any Channel> {
        do {
            return bind(to: try NIOCore.SocketAddress(ipAddress: host, port: port))
        } catch {
            return loop.makeFailedFuture(error)
        }
    }

    /// Listens on a Unix socket.
    public func bind(unixDomainSocketPath path: String) -> EventLoopFuture<any Channel> {
        do {
            return bind(to: try NIOCore.SocketAddress(unixDomainSocketPath: path))
        } catch {
            return loop.makeFailedFuture(error)
        }
    }

    /// Listens on an address.
    public func bind(to address: NIOCore.SocketAddress) -> EventLoopFuture<any Channel> {
        let (childSetUp, childOptions) = (childSetUp, childOptions)
        return loop.flatSubmit {
            let channel = ListenerChannel(on: loop)
            return serverOptions.applyAllChannelOptions(to: channel)
                .flatMap { serverSetUp(channel) }
                .flatMapThrowing {
                    try channel.pipeline.syncOperations.addHandler(AcceptHandler(childSetUp, childOptions))
                }
                .flatMap { channel.register() }
                .flatMap { channel.bind(to: address) }
                .map { channel as any Channel }
                .flatMapErrorThrowing { error in
                    channel.close(promise: nil)
                    throw error
                }
        }
    }
}

/// The last handler of a listening channel: sets accepted channels up and starts them.
private final class AcceptHandler: ChannelInboundHandler, Sendable {
    typealias InboundIn = any Channel
    typealias InboundOut = Never

    private let setUp: @Sendable (any Channel) -> EventLoopFuture<Void>
    private let options: ChannelOptions.Storage

    init(_ setUp: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>, _ options: ChannelOptions.Storage) {
        self.setUp = setUp
        self.options = options
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard let channel = unwrapInboundIn(data) as? StreamChannel else { return }
        let listener = context.channel
        let setUp = setUp
        options.applyAllChannelOptions(to: channel)
            .flatMap { setUp(channel) }
            .whenComplete { result in
                switch result {
                case .success where listener.isActive: channel.start()
                case .success: channel.close(promise: nil)
                case .failure(let error):
                    channel.close(promise: nil)
                    listener.pipeline.fireErrorCaught(error)
                }
            }
    }
}

/// Connects, and makes a channel of the connection: what NIO's `ClientBootstrap` is for NIO's sockets. Works as the
/// bootstrap of `NIOClientTCPBootstrap`, too.
public struct ConnectionBootstrap: NIOClientTCPBootstrapProtocol, Sendable {
    private let loop: NIOLoop
    private var setUp: @Sendable (any Channel) -> EventLoopFuture<Void>
    private var firstHandlers: @Sendable () -> [any ChannelHandler] = { [] }
    private var options = ChannelOptions.Storage()

    /// A bootstrap for a loop; nil for the one that the caller runs on.
    public init(on loop: NIOLoop? = nil) {
        guard let loop = loop ?? NIOLoop.current else {
            fatalError("ConnectionBootstrap() was called outside of an event loop: say which loop")
        }
        self.loop = loop
        setUp = { $0.eventLoop.makeSucceededVoidFuture() }
    }

    public func channelInitializer(
        _ handler: @escaping @Sendable (any Channel) -> EventLoopFuture<Void>
    ) -> ConnectionBootstrap {
        var copy = self
        copy.setUp = handler
        return copy
    }

    public func protocolHandlers(_ handlers: @escaping @Sendable () -> [any ChannelHandler]) -> ConnectionBootstrap {
        var copy = self
        copy.firstHandlers = handlers
        return copy
    }

    public func channelOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> ConnectionBootstrap {
        var copy = self
        copy.options.append(key: option, value: value)
        return copy
    }

    public func connectTimeout(_ timeout: TimeAmount) -> ConnectionBootstrap {
        channelOption(.connectTimeout, value: timeout)
    }

    /// Connects to whichever address of the host answers first.
    public func connect(host: String, port: Int) -> EventLoopFuture<any Channel> {
        connect(.host(host, port: port))
    }

    public func connect(to address: NIOCore.SocketAddress) -> EventLoopFuture<any Channel> {
        if let address = address.rondoAddress { return connect(.address(address)) }
        if let address = address.unixAddress { return connect(.unix(address)) }
        return loop.makeFailedFuture(ChannelError.operationUnsupported)
    }

    public func connect(unixDomainSocketPath path: String) -> EventLoopFuture<any Channel> {
        do {
            return connect(to: try NIOCore.SocketAddress(unixDomainSocketPath: path))
        } catch {
            return loop.makeFailedFuture(error)
        }
    }

    /// Makes a channel of a stream that is connected.
    public func withConnectedStream(_ stream: SocketStream) -> EventLoopFuture<any Channel> {
        stream.loop.nio.flatSubmit {
            let channel = StreamChannel(stream)
            return prepare(channel).map {
                channel.start()
                return channel as any Channel
            }
        }
    }

    private func connect(_ target: StreamChannel.Target) -> EventLoopFuture<any Channel> {
        loop.flatSubmit {
            let channel = StreamChannel(on: loop)
            return prepare(channel)
                .flatMap { channel.register() }
                .flatMap {
                    let promise = loop.makePromise(of: Void.self)
                    channel.connect(to: target, promise)
                    return promise.futureResult
                }
                .map { channel as any Channel }
        }
    }

    private func prepare(_ channel: StreamChannel) -> EventLoopFuture<Void> {
        options.applyAllChannelOptions(to: channel)
            .flatMap { setUp(channel) }
            .flatMapThrowing { try channel.pipeline.syncOperations.addHandlers(firstHandlers(), position: .first) }
            .flatMapErrorThrowing { error in
                channel.close(promise: nil)
                throw error
            }
    }
}
