// A connection as a NIO channel: what it is, and how it begins. Reading, writing, closing and options have files of
// their own.

public import NIOCore
public import Rondo
import Synchronization

/// A stream connection, TCP or Unix, as a NIO `Channel`: `ByteBuffer` in, `ByteBuffer` or `FileRegion` out.
///
/// Everything happens on the stream's loop. One task reads; writes go from the handler to the driver without a task.
///
/// It promises what NIO's own socket channels promise, with these differences:
/// - What was flushed before `close()` is still sent, for at most ``lingerTime``; NIO drops what the kernel does not
///   take at once. `closeFuture` and the promise of `close()` succeed when the socket is closed.
/// - While nobody reads (`autoRead` off and no `read()`), one piece is read ahead, and the peer's end is noticed when
///   nothing else is between. NIO notices it at once, and delivers everything before it unasked.
/// - `close(mode: .input)` stops reading and tells the peer nothing.
@safe
public final class StreamChannel: Channel, ChannelCore, @unchecked Sendable {
    // SAFETY: what other threads may ask (`parent`, `loop`, the close promise, the pipeline, addresses, the two
    // atomics) never changes or guards itself. Everything else belongs to the loop's thread: NIO calls a ChannelCore
    // there only. Continuations are taken out of their property before they are resumed.

    /// How long what was flushed may take after `close()`, if the peer does not read.
    public static let lingerTime: TimeAmount = .seconds(2)

    // What any thread may ask.

    public let parent: (any Channel)?
    let loop: NIOLoop
    let closePromise: EventLoopPromise<Void>
    private var pipelineStorage: ChannelPipeline!
    private let addresses = Mutex<(local: NIOCore.SocketAddress?, remote: NIOCore.SocketAddress?)>((nil, nil))
    let writable = Atomic(true)
    private let active = Atomic(false)

    // What belongs to the loop.

    enum Life { case fresh, registered, connecting, active, closed }
    /// How far it has come. Changes in one direction only.
    var life = Life.fresh
    /// The connection; nil before `connect`.
    var stream: SocketStream?
    var options = StreamOptions()

    /// Whether somebody wants to read and has not been given anything.
    var isReadWanted = false
    var isInputClosed = false
    /// The reading task, while it waits for somebody to want its work.
    var parkedReader: UnsafeContinuation<Void, Never>?
    /// Whether there is a reading task.
    var hasReader = false
    /// Whether the reading task is within a call of `read`.
    var isReading = false

    var writes = PendingWrites()
    /// What is being sent.
    var batch: PendingWrites.Batch?
    /// Whether `pump` is running, further up the stack.
    var isPumping = false
    /// Whether a file is being read into a buffer to be sent.
    var isSendingFile = false
    /// `close(mode: .output)`, and who waits for it.
    var outputEnd = OutputEnd.open
    /// Promises of `close()`.
    var closers: [EventLoopPromise<Void>] = []
    /// Whether the stream may be closed though not all was sent.
    var isLingerOver = false
    /// Closes the stream while the reading task is kept by it.
    var closingTask: Task<Void, Never>?
    /// Settings for the socket, made before it is.
    var optionsToSet: [TCPOption] = []
    /// The attempt to connect, its promise and its time-out.
    var connecting: Connecting?

    enum OutputEnd {
        case open
        case waiting(EventLoopPromise<Void>?)
        case closed
    }

    /// A channel that is not connected: for bootstraps, and for `connect(to:)`.
    ///
    /// - Parameter loop: where it lives.
    public init(on loop: NIOLoop, parent: (any Channel)? = nil) {
        self.loop = loop
        self.parent = parent
        closePromise = loop.makePromise(of: Void.self)
        pipelineStorage = ChannelPipeline(channel: self)
    }

    /// A channel of a connection. Nobody else may use the stream from now on.
    public convenience init(_ stream: SocketStream, parent: (any Channel)? = nil) {
        self.init(on: stream.loop.nio, parent: parent)
        self.stream = stream
    }

    // MARK: Channel

    public var eventLoop: any NIOCore.EventLoop { loop }
    public var pipeline: ChannelPipeline { pipelineStorage }
    public var closeFuture: EventLoopFuture<Void> { closePromise.futureResult }
    public var allocator: ByteBufferAllocator { ByteBufferAllocator() }
    public var isWritable: Bool { writable.load(ordering: .relaxed) }
    public var isActive: Bool { active.load(ordering: .relaxed) }
    public var _channelCore: any ChannelCore { self }
    public var localAddress: NIOCore.SocketAddress? { addresses.withLock { $0.local } }
    public var remoteAddress: NIOCore.SocketAddress? { addresses.withLock { $0.remote } }

    // MARK: ChannelCore, except for reading, writing and closing

    public func localAddress0() throws -> NIOCore.SocketAddress {
        if life == .closed { throw ChannelError.ioOnClosedChannel }
        guard let address = localAddress else { throw ChannelError.unknownLocalAddress }
        return address
    }

    public func remoteAddress0() throws -> NIOCore.SocketAddress {
        if life == .closed { throw ChannelError.ioOnClosedChannel }
        guard let address = remoteAddress else { throw ChannelError.operationUnsupported }
        return address
    }

    public func register0(promise: EventLoopPromise<Void>?) {
        switch life {
        case .fresh where loop.isShutDown:
            pipeline.syncOperations.fireErrorCaught(EventLoopError.shutdown)
            close0(error: EventLoopError.shutdown, mode: .all, promise: nil)
            promise?.fail(EventLoopError.shutdown)
        case .fresh:
            life = .registered
            loop.add(self)
            promise?.succeed(())
            pipeline.syncOperations.fireChannelRegistered()
        case .registered, .connecting, .active: promise?.fail(ChannelError.inappropriateOperationForState)
        case .closed: promise?.fail(ChannelError.ioOnClosedChannel)
        }
    }

    /// Registers the channel of a stream that is connected, and makes it active. Somebody must read it then.
    public func registerAlreadyConfigured0(promise: EventLoopPromise<Void>?) {
        if life == .fresh {
            register0(promise: nil)
            if life == .closed { promise?.fail(EventLoopError.shutdown) }
        }
        guard life == .registered, stream != nil else {
            promise?.fail(life == .closed ? ChannelError.ioOnClosedChannel : .inappropriateOperationForState)
            return
        }
        becomeActive(promise)
    }

    /// The connection is there: tells the pipeline, and begins to read.
    func becomeActive(_ promise: EventLoopPromise<Void>?) {
        life = .active
        active.store(true, ordering: .relaxed)
        noteAddresses()
        promise?.succeed(())
        pipeline.syncOperations.fireChannelActive()
        readIfAutomatic()
        if life == .active { flushAfterConnecting() }
    }

    /// No longer connected.
    func becomeInactive() -> Bool { active.exchange(false, ordering: .relaxed) }

    private func noteAddresses() {
        let pair: (NIOCore.SocketAddress?, NIOCore.SocketAddress?)
        switch stream {
        case let stream as TCPStream:
            pair = (.init(try? stream.localAddress), .init(try? stream.peerAddress))
        case let stream as UnixStream:
            pair = (.init(try? stream.localAddress), .init(try? stream.peerAddress))
        default: return
        }
        addresses.withLock { $0 = pair }
    }

    func forgetAddresses() { addresses.withLock { $0 = (nil, nil) } }

    public func bind0(to address: NIOCore.SocketAddress, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }

    public func triggerUserOutboundEvent0(_ event: Any, promise: EventLoopPromise<Void>?) {
        promise?.fail(ChannelError.operationUnsupported)
    }

    public func channelRead0(_ data: NIOAny) {
        // Nobody in the pipeline wanted it.
    }

    public func errorCaught0(error: any Error) {
        // Nobody in the pipeline wanted it. The channel closes by itself if it has to.
    }
}
