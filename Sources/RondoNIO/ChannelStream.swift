// The other way round: a NIO channel as one of Rondo's byte streams. What its pipeline does (TLS, compression) is then
// between the program's tasks and the socket.

public import NIOCore
public import Rondo
import SystemPackage

/// The two ends of a channel's bytes, for tasks: the last handler of its pipeline is this one's.
///
/// ```
/// try await StreamChannel.with(stream) { channel in
///     try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
///     return try ChannelStream(channel)
/// } body: { secure in
///     try await copy(from: secure, to: secure)
/// }
/// ```
///
/// One task reads while another writes. A peer that does not read makes the writer wait; what nobody reads is not
/// received.
@safe
public final class ChannelStream: ByteSource, ByteSink, @unchecked Sendable {
    // SAFETY: the pipe belongs to the channel's loop, and each method goes there before it touches it.

    /// The channel.
    public let channel: any Channel
    private let pipe: Pipe
    private let loop: NIOLoop

    /// Adds the handler that does this to the end of the channel's pipeline. On the channel's loop.
    public convenience init(_ channel: StreamChannel) throws { try self.init(channel, on: channel.loop) }

    init(_ channel: any Channel, on loop: NIOLoop) throws {
        self.channel = channel
        self.loop = loop
        pipe = Pipe()
        try channel.pipeline.syncOperations.addHandler(pipe)
    }

    /// The peer's address.
    public var subject: String { channel.remoteAddress.map { "\($0)" } ?? "a channel" }

    /// Waits for bytes; nil at the end.
    ///
    /// If the task is cancelled it throws, and no byte is lost: the next read gets what arrives.
    public func read(upTo limit: Int = .max) async throws(Rondo.IOError) -> ByteChunk? {
        loop.preconditionInEventLoop()
        while true {
            if var chunk = pipe.next() {
                if chunk.count <= limit { return chunk }
                let first = chunk.splitFirst(limit)
                pipe.putBack(chunk)
                return first
            }
            if let error = pipe.error { throw failure("read from", error) }
            if pipe.hasEnded { return nil }
            if pipe.waiters[.reader] != nil { throw Rondo.IOError("read from", subject, .busy) }
            if await !wait(.reader) { throw Rondo.IOError("read from", subject, .cancelled) }
        }
    }

    /// Writes all of `bytes`; waits while the channel is not writable.
    public func write(_ bytes: RawSpan) async throws(Rondo.IOError) {
        loop.preconditionInEventLoop()
        try check("write to")
        var buffer = channel.allocator.buffer(capacity: bytes.byteCount)
        // SAFETY: the bytes are copied within the call.
        unsafe bytes.withUnsafeBytes { _ = unsafe buffer.writeBytes($0) }
        channel.writeAndFlush(buffer, promise: nil)
        while !channel.isWritable {
            try check("write to")
            if pipe.waiters[.writer] != nil { throw Rondo.IOError("write to", subject, .busy) }
            if await !wait(.writer) { throw Rondo.IOError("write to", subject, .cancelled) }
        }
    }

    /// Tells the peer that nothing more comes.
    public func finishWriting() async throws(Rondo.IOError) {
        do {
            try await channel.close(mode: .output).get()
        } catch {
            throw failure("finish writing to", error)
        }
    }

    /// Closes the channel, and returns when it has closed.
    public func close() async {
        channel.close(promise: nil)
        try? await channel.closeFuture.get()
    }

    private func check(_ operation: String) throws(Rondo.IOError) {
        if let error = pipe.error { throw failure(operation, error) }
        if !channel.isActive { throw Rondo.IOError(operation, subject, .closed) }
    }

    private func failure(_ operation: String, _ error: any Error) -> Rondo.IOError {
        switch error {
        case let error as Rondo.IOError: error
        case let error as NIOCore.IOError:
            Rondo.IOError(operation, subject, .system(Errno(rawValue: error.errnoCode)))
        case is ChannelError: Rondo.IOError(operation, subject, .closed)
        default: Rondo.IOError(operation, subject, .invalid("\(error)"))
        }
    }

    /// Waits until the pipe has news.
    ///
    /// - Returns: false if the task was cancelled.
    private func wait(_ side: Pipe.Side) async -> Bool {
        let pipe = pipe
        return await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                if Task.isCancelled { return continuation.resume(returning: false) }
                pipe.waiters[side] = continuation
                pipe.readMore()
            }
        } onCancel: {
            loop.execute { pipe.wake(side, with: false) }
        }
    }
}

/// The end of the pipeline: keeps what has come until somebody takes it, and asks for more only then.
@safe
private final class Pipe: ChannelDuplexHandler, @unchecked Sendable {
    // SAFETY: belongs to the loop of its channel.
    typealias InboundIn = ByteBuffer
    typealias OutboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    enum Side { case reader, writer }

    /// Who waits for news.
    var waiters: [Side: CheckedContinuation<Bool, Never>] = [:]
    private(set) var error: (any Error)?
    private(set) var hasEnded = false
    private var first: ByteChunk?
    private var buffers = CircularBuffer<ByteBuffer>()
    private var context: ChannelHandlerContext?
    /// Whether the channel wants to read, and was not allowed to.
    private var isReadHeld = false

    private var isEmpty: Bool { first == nil && buffers.isEmpty }

    func next() -> ByteChunk? {
        if let chunk = first.take() { return chunk }
        guard let buffer = buffers.popFirst() else { return nil }
        var chunk: ByteChunk?
        unsafe buffer.withUnsafeReadableBytesWithStorageManagement { bytes, owner in
            // SAFETY: the buffer's storage stays as it is while somebody else has it too: who changes it copies it.
            chunk = unsafe ByteChunk(bytes, keptBy: owner.takeUnretainedValue())
        }
        return chunk
    }

    func putBack(_ chunk: consuming ByteChunk) { first = consume chunk }

    /// Somebody waits: lets the channel read.
    func readMore() {
        if !isReadHeld || !isEmpty { return }
        isReadHeld = false
        context?.read()
    }

    func wake(_ side: Side, with hasNews: Bool = true) {
        waiters.removeValue(forKey: side)?.resume(returning: hasNews)
    }

    // MARK: The pipeline

    func handlerAdded(context: ChannelHandlerContext) { self.context = context }
    func handlerRemoved(context: ChannelHandlerContext) { self.context = nil }

    func read(context: ChannelHandlerContext) {
        if isEmpty { context.read() } else { isReadHeld = true }
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        if buffer.readableBytes == 0 { return }
        buffers.append(buffer)
        wake(.reader)
    }

    func channelWritabilityChanged(context: ChannelHandlerContext) {
        if context.channel.isWritable { wake(.writer) }
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if case .some(.inputClosed) = event as? ChannelEvent { end() }
        context.fireUserInboundEventTriggered(event)
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        if self.error == nil { self.error = error }
        end()
        // A stream that has had an error is good for nothing but closing.
        context.close(promise: nil)
    }

    func channelInactive(context: ChannelHandlerContext) {
        end()
        context.fireChannelInactive()
    }

    private func end() {
        hasEnded = true
        wake(.reader)
        wake(.writer)
    }
}
