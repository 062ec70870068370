// A listening socket as a NIO channel: what comes in through its pipeline are the channels of accepted connections.

public import NIOCore
public import Rondo
import Synchronization

/// A listening socket, TCP or Unix, as a NIO `Channel`, whose `channelRead`s are accepted connections
/// (``StreamChannel``), on the listener's own loop.
///
/// ``ListenerBootstrap`` makes them. Without `autoRead`, one connection is accepted for each `read()`.
@safe
public final class ListenerChannel: Channel, ChannelCore, @unchecked Sendable {
    // SAFETY: as StreamChannel.

    public let parent: (any Channel)? = nil
    let loop: NIOLoop
    private let closePromise: EventLoopPromise<Void>
    private var pipelineStorage: ChannelPipeline!
    private let address = Mutex<NIOCore.SocketAddress?>(nil)
    private let active = Atomic(false)

    // What belongs to the loop.

    enum Life { case fresh, registered, binding(EventLoopPromise<Void>?), active, closed }
    private var life = Life.fresh
    private var listener: (any AcceptingListener)?
    private var autoRead = true
    private var messagesPerRead: UInt = 1
    private var backlog = 4096
    private var isReadWanted = false
    private var parkedAcceptor: UnsafeContinuation<Void, Never>?
    private var closers: [EventLoopPromise<Void>] = []

    /// A channel that does not listen yet: `bind(to:)` makes it.
    public init(on loop: NIOLoop) {
        self.loop = loop
        closePromise = loop.makePromise(of: Void.self)
        pipelineStorage = ChannelPipeline(channel: self)
    }

    // MARK: Channel

    public var eventLoop: any NIOCore.EventLoop { loop }
    public var pipeline: ChannelPipeline { pipelineStorage }
    public var closeFuture: EventLoopFuture<Void> { closePromise.futureResult }
    public var allocator: ByteBufferAllocator { ByteBufferAllocator() }
    public var isWritable: Bool { false }
    public var isActive: Bool { active.load(ordering: .relaxed) }
    public var _channelCore: any ChannelCore { self }
    public var localAddress: NIOCore.SocketAddress? { address.withLock { $0 } }
    public var remoteAddress: NIOCore.SocketAddress? { nil }

    private var isClosed: Bool { if case .closed = life { true } else { false } }
    private var isListening: Bool { if case .active = life { true } else { false } }

    // MARK: ChannelCore

    public func localAddress0() throws -> NIOCore.SocketAddress {
        if isClosed { throw ChannelError.ioOnClosedChannel }
        guard let address = localAddress else { throw ChannelError.unknownLocalAddress }
        return address
    }

    public func remoteAddress0() throws -> NIOCore.SocketAddress { throw ChannelError.operationUnsupported }

    public func register0(promise: EventLoopPromise<Void>?) {
        guard case .fresh = life else {
            promise?.fail(isClosed ? ChannelError.ioOnClosedChannel : .inappropriateOperationForState)
            return
        }
        if loop.isShutDown {
            promise?.fail(EventLoopError.shutdown)
            return close0(error: EventLoopError.shutdown, mode: .all, promise: nil)
        }
        life = .registered
        loop.add(self)
        promise?.succeed(())
        pipeline.syncOperations.fireChannelRegistered()
    }

    /// Listens, and becomes active.
    public func bind0(to address: NIOCore.SocketAddress, promise: EventLoopPromise<Void>?) {
        guard case .registered = life else {
            promise?.fail(isClosed ? ChannelError.ioOnClosedChannel : .inappropriateOperationForState)
            return
        }
        life = .binding(promise)
        let backlog = backlog
        Task.detached(name: "NIO listener", executorPreference: loop.taskExecutor) {
            do throws(Rondo.IOError) {
                if let address = address.rondoAddress {
                    await self.accept(from: try await TCPListener.listen(on: address, backlog: backlog))
                } else if let address = address.unixAddress {
                    await self.accept(from: try await UnixListener.listen(on: address, backlog: backlog))
                } else {
                    self.close0(error: ChannelError.operationUnsupported, mode: .all, promise: nil)
                }
            } catch {
                self.close0(error: error.forNIO, mode: .all, promise: nil)
            }
        }
    }

    public func read0() {
        if isClosed { return }
        isReadWanted = true
        resumeAcceptor()
    }

    public func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if isClosed {
            promise?.fail(ChannelError.alreadyClosed)
            return
        }
        guard mode == .all else {
            promise?.fail(ChannelError.operationUnsupported)
            return
        }
        if let promise { closers.append(promise) }
        if case .binding(let binding?) = life { binding.fail(error) }
        life = .closed
        if active.exchange(false, ordering: .relaxed) { pipeline.syncOperations.fireChannelInactive() }
        pipeline.syncOperations.fireChannelUnregistered()
        loop.execute { self.removeHandlers(pipeline: self.pipeline) }
        guard let listener else { return finish() }
        resumeAcceptor()
        Task.detached(name: "NIO closing", executorPreference: loop.taskExecutor) {
            await listener.close()
            self.finish()
        }
    }

    public func connect0(to address: NIOCore.SocketAddress, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }

    public func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }

    public func flush0() {
        // There is never anything to be sent.
    }

    public func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }

    /// A connection that nobody in the pipeline has taken.
    public func channelRead0(_ data: NIOAny) {
        let channel = unwrapData(data, as: (any Channel).self)
        if let channel = channel as? StreamChannel, channel.life == .fresh { channel.close(promise: nil) }
    }

    public func errorCaught0(error: any Error) {
        // Nobody in the pipeline wanted it.
    }

    // MARK: Accepting

    /// The accepting task's work, until the listener closes.
    private func accept(from listener: any AcceptingListener) async {
        // Closed meanwhile.
        guard case .binding(let promise) = life else { return await listener.close() }
        self.listener = listener
        life = .active
        active.store(true, ordering: .relaxed)
        address.withLock { $0 = listener.nioAddress }
        promise?.succeed(())
        pipeline.syncOperations.fireChannelActive()
        readIfAutomatic()
        while isListening {
            await parkUntilReadIsWanted()
            guard isListening else { return }
            do throws(Rondo.IOError) {
                let stream = try await listener.next()
                await parkUntilReadIsWanted()
                if isListening { deliver(stream) } else { await stream.close() }
            } catch {
                fail(error)
            }
        }
    }

    private func deliver(_ stream: SocketStream) {
        isReadWanted = false
        pipeline.syncOperations.fireChannelRead(NIOAny(StreamChannel(stream, parent: self)))
        if !isListening { return }
        pipeline.syncOperations.fireChannelReadComplete()
        readIfAutomatic()
    }

    private func readIfAutomatic() {
        if isListening, autoRead, !isReadWanted { pipeline.syncOperations.read() }
    }

    private func fail(_ error: Rondo.IOError) {
        if isClosed { return }
        if !error.isCancellation { pipeline.syncOperations.fireErrorCaught(error.forNIO) }
        close0(error: error.forNIO, mode: .all, promise: nil)
    }

    private func parkUntilReadIsWanted() async {
        while !isReadWanted, isListening {
            await unsafe withUnsafeContinuation { continuation in
                if isReadWanted || !isListening {
                    unsafe continuation.resume()
                } else {
                    unsafe parkedAcceptor = continuation
                }
            }
        }
    }

    private func resumeAcceptor() {
        guard let acceptor = unsafe parkedAcceptor else { return }
        unsafe parkedAcceptor = nil
        unsafe acceptor.resume()
    }

    private func finish() {
        listener = nil
        loop.remove(self)
        address.withLock { $0 = nil }
        let closers = closers
        self.closers = []
        for promise in closers { promise.succeed(()) }
        loop.execute { self.closePromise.succeed(()) }
    }

    // MARK: Options

    public func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
        if loop.inEventLoop { return loop.makeCompletedFuture { try self.setOption0(option, value) } }
        return loop.submit { try self.setOption0(option, value) }
    }

    public func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
        if loop.inEventLoop { return loop.makeCompletedFuture { try self.getOption0(option) } }
        return loop.submit { try self.getOption0(option) }
    }

    private struct SynchronousOptions: NIOSynchronousChannelOptions {
        let channel: ListenerChannel

        func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) throws {
            channel.loop.preconditionInEventLoop()
            try channel.setOption0(option, value)
        }

        func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
            channel.loop.preconditionInEventLoop()
            return try channel.getOption0(option)
        }
    }

    public var syncOptions: (any NIOSynchronousChannelOptions)? { SynchronousOptions(channel: self) }

    private func setOption0<Option: ChannelOption>(_ option: Option, _ value: Option.Value) throws {
        if isClosed { throw ChannelError.ioOnClosedChannel }
        switch option {
        case is ChannelOptions.Types.AutoReadOption:
            autoRead = value as! Bool
            if autoRead { readIfAutomatic() } else { isReadWanted = false }
        case is ChannelOptions.Types.BacklogOption: backlog = Int(value as! Int32)
        case is ChannelOptions.Types.MaxMessagesPerReadOption: messagesPerRead = value as! UInt
        case let option as ChannelOptions.Types.SocketOption
        where option.optionLevel == .socket && option.optionName == .so_reuseaddr:
            break  // Rondo's listeners always have it.
        default: throw ChannelError.operationUnsupported
        }
    }

    private func getOption0<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
        if isClosed { throw ChannelError.ioOnClosedChannel }
        switch option {
        case is ChannelOptions.Types.AutoReadOption: return autoRead as! Option.Value
        case is ChannelOptions.Types.BacklogOption: return Int32(backlog) as! Option.Value
        case is ChannelOptions.Types.MaxMessagesPerReadOption: return messagesPerRead as! Option.Value
        case let option as ChannelOptions.Types.SocketOption
        where option.optionLevel == .socket && option.optionName == .so_reuseaddr:
            return ChannelOptions.Types.SocketOption.Value(1) as! Option.Value
        default: throw ChannelError.operationUnsupported
        }
    }
}

/// What a listener channel needs of Rondo's listeners.
protocol AcceptingListener: Sendable {
    var nioAddress: NIOCore.SocketAddress? { get }
    func next() async throws(Rondo.IOError) -> SocketStream
    func close() async
}

extension TCPListener: AcceptingListener {
    var nioAddress: NIOCore.SocketAddress? { NIOCore.SocketAddress(localAddress) }
    func next() async throws(Rondo.IOError) -> SocketStream { try await accept() }
}

extension UnixListener: AcceptingListener {
    var nioAddress: NIOCore.SocketAddress? { NIOCore.SocketAddress(localAddress) }
    func next() async throws(Rondo.IOError) -> SocketStream { try await accept() }
}
