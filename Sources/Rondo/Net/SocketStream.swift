// A connection of a stream socket, TCP or Unix. Reading and writing are the byte's walk: keep them straight.

import CRondo
import Glibc
import SystemPackage

/// A connection: bytes in both directions. ``TCPStream`` and ``UnixStream`` are its kinds.
///
/// One task may read while another writes. It may be used from any task; its work is done on the loop that it was made
/// on. Close it with ``close()``; what is dropped open is closed all the same, as soon as nothing uses it.
@safe
public class SocketStream: @unchecked Sendable {
    // SAFETY: `loop` and `descriptor` never change. The rest belongs to the loop's thread, and each method goes there
    // before it touches anything. Bytes to be sent are kept by the caller of `write`, which waits until they are, or by
    // the queue.
    //
    // All methods that a message meets are final: a call of one costs what it would cost in a class without heirs.

    /// The loop that does this stream's work.
    public final let loop: EventLoop
    final let descriptor: Descriptor
    final let received: ReceiveQueue
    final let sending: SendQueue
    final private(set) var isClosed = false
    /// Whether the descriptor may be another's by now.
    final private(set) var hasGivenUpDescriptor = false

    /// On the loop's thread.
    init(_ descriptor: Descriptor, loop: EventLoop, received: ReceiveQueue? = nil) {
        self.descriptor = descriptor
        self.loop = loop
        self.received = received ?? ReceiveQueue(descriptor, loop: loop)
        sending = SendQueue(descriptor, loop: loop)
        loop.counters.connectionsOpened &+= 1
    }

    deinit {
        if isClosed { return }
        let (received, sending) = (received, sending)
        let (descriptor, loop) = (descriptor, loop)
        loop.detach {
            await received.close()
            await sending.waitUntilSent()
            loop.counters.connectionsClosed &+= 1
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
        }
    }

    /// What errors say of the peer: its address, if it can be had.
    var peerName: String? { nil }

    /// What errors say if they can't name the peer.
    var kindName: String { "a stream" }

    // MARK: Reading

    /// Waits for bytes and borrows them from the receive buffers, as many as have arrived, without copying.
    ///
    /// If the task is cancelled it throws at once, and no byte is lost: the next read gets what arrives.
    ///
    /// - Parameter limit: the most bytes to take; what is left over comes with the next read.
    /// - Returns: the bytes, or nil at the end of the stream (the peer sends no more).
    public final func read(upTo limit: Int = .max) async throws(IOError) -> ByteChunk? {
        let slice =
            loop.isHome ? try await nextSlice(limit) : try await nextSliceFromElsewhere(limit)
        guard let slice else { return nil }
        return ByteChunk(slice, loop: loop)
    }

    @inline(__always)
    private final func nextSlice(_ limit: Int) async throws(IOError) -> BufferSlice? {
        if loop.spendOperation() { await loop.yieldInTurn() }
        while true {
            if isClosed { throw error("read from", .closed) }
            if let slice = received.next(upTo: limit) { return slice }
            switch received.end {
            case .endOfStream: return nil
            case .failed(let code): throw error("read from", IOError.cause(ofAnswer: -code))
            case nil: break
            }
            if received.hasReader { throw error("read from", .busy) }
            if await !received.wait() { throw error("read from", .cancelled) }
        }
    }

    private final func nextSliceFromElsewhere(_ limit: Int) async throws(IOError) -> BufferSlice? {
        try await loop.onLoop { () async throws(IOError) in try await self.nextSlice(limit) }
    }

    /// Reads until the peer sends no more.
    ///
    /// - Parameter limit: the most bytes to accept.
    /// - Throws: `IOError`; `.limitExceeded` if more than `limit` bytes arrive.
    public final func readToEnd(limit: Int) async throws(IOError) -> [UInt8] {
        var all: [UInt8] = []
        while let chunk = try await read() {
            guard all.count + chunk.count <= limit else { throw error("read from", .limitExceeded(limit)) }
            all.append(copying: chunk.bytes)
        }
        return all
    }

    /// Reads exactly `count` bytes.
    ///
    /// - Throws: `IOError`; `.unexpectedEnd` if the peer ends the stream before.
    public final func readExactly(_ count: Int) async throws(IOError) -> [UInt8] {
        var all: [UInt8] = []
        all.reserveCapacity(count)
        while all.count < count {
            guard let chunk = try await read(upTo: count - all.count) else {
                throw error("read from", .unexpectedEnd)
            }
            all.append(copying: chunk.bytes)
        }
        return all
    }

    // MARK: Writing

    /// Sends all of `bytes`; returns when the kernel has taken them over.
    ///
    /// A peer that does not read makes this wait: that is the back-pressure. If the task is cancelled some of the bytes
    /// may have been sent; the stream is then good for nothing but closing.
    ///
    /// - Throws: `IOError`, `.system(.brokenPipe)` if the peer has closed.
    public final func write(_ bytes: RawSpan) async throws(IOError) {
        // SAFETY: the span is borrowed until this function returns, which is after the last completion.
        let buffer = unsafe bytes.withUnsafeBytes { unsafe $0 }
        guard let start = buffer.baseAddress, buffer.count > 0 else { return }
        try await unsafe send(start, count: buffer.count)
    }

    /// Sends a chunk from where it stands, and gives its buffer back when that is done.
    ///
    /// For a chunk that this loop has received, this hands the chunk over and does not wait for the kernel to take it,
    /// unless the chunk before it is still under way. If it can't be sent the next write says so, or
    /// ``finishWriting()``. ``close()`` waits for it. Other chunks are sent as bytes are, and waited for.
    ///
    /// If the task is cancelled while it waits here, the chunk under way is given up, and the stream is good for
    /// nothing but closing.
    ///
    /// - Throws: `IOError`: why this stream can't be written to, or why the chunk before this one was not sent.
    @inline(__always)
    public final func write(_ chunk: consuming ByteChunk) async throws(IOError) {
        // Bytes of a program's own, or of another loop's receive buffers.
        guard chunk.isLent(by: loop) else { return try await write(chunk.bytes) }
        let slice = chunk.take()
        if loop.isOnOwnThread, !loop.spendOperation(), canWriteAtOnce { return sending.send(slice) }
        try await forward(slice)
    }

    @inline(__always)
    private final var canWriteAtOnce: Bool { !isClosed && sending.isIdle && !loop.isShuttingDown }

    /// Sends all of `bytes`.
    public final func write(_ bytes: [UInt8]) async throws(IOError) { unsafe try await write(bytes.span.bytes) }

    /// Sends the text's UTF-8.
    public final func write(_ text: String) async throws(IOError) { try await write(Array(text.utf8)) }

    /// Tells the peer that nothing more will be sent, when all that was written has been. Reading goes on.
    public final func finishWriting() async throws(IOError) {
        try await loop.onLoop { () async throws(IOError) in
            try await beginWriting("finish writing to")
            defer { sending.end() }
            let answer = await unsafe loop.perform(.shutdown(descriptor, how: Int32(SHUT_WR)))
            if answer < 0 { throw failure("finish writing to", answer) }
        }
    }

    @inline(__always)
    private final func send(_ start: UnsafeRawPointer, count: Int) async throws(IOError) {
        guard loop.isHome else {
            nonisolated(unsafe) let start = unsafe start
            return try await loop.onLoop { () async throws(IOError) in
                try await unsafe self.sendOnLoop(start, count: count)
            }
        }
        try await unsafe sendOnLoop(start, count: count)
    }

    private final func sendOnLoop(_ start: UnsafeRawPointer, count: Int) async throws(IOError) {
        try await beginWriting("write to")
        defer { sending.end() }
        var sent = 0
        while sent < count {
            // SAFETY: the caller keeps the bytes until this function returns.
            let answer = await unsafe loop.perform(.send(descriptor, start + sent, count: count - sent))
            if answer < 0 { throw failure("write to", answer) }
            sent += Int(answer)
        }
    }

    /// Sends a slice of the receive buffers, which is given back in any case.
    @inline(never)
    private final func forward(_ slice: BufferSlice) async throws(IOError) {
        try await loop.onLoop { () async throws(IOError) in
            do throws(IOError) {
                try await beginWriting("write to")
            } catch {
                loop.release(slice)
                throw error
            }
            sending.send(slice)
            sending.end()
        }
    }

    /// Makes sure that this task is the only one that writes, and that nothing else is under way.
    final func beginWriting(_ operation: String) async throws(IOError) {
        if loop.spendOperation() { await loop.yieldInTurn() }
        if isClosed { throw error(operation, .closed) }
        if sending.isBusy { throw error(operation, .busy) }
        sending.begin()
        if sending.isSending { await sending.waitUntilSent() }
        if sending.failure == 0, !loop.isShuttingDown { return }
        sending.end()
        throw failure(operation, sending.failure == 0 ? -ECANCELED : -sending.failure)
    }

    // MARK: Ending

    /// Closes the connection. Who reads or writes meanwhile gets an error; what was written is still delivered.
    ///
    /// It waits until the kernel has taken over the chunk that was written last; in a cancelled task it gives that
    /// chunk up if the peer has no room for it. ``abort()`` waits for nothing. Closing twice is no mistake.
    public final func close() async {
        await loop.onLoop { await closeOnLoop() }
    }

    final func closeOnLoop() async {
        if isClosed { return }
        isClosed = true
        await received.close()
        if sending.isBusy {
            // A peer that never reads would hold the writer for ever.
            _ = await unsafe loop.performToTheEnd(.shutdown(descriptor, how: Int32(SHUT_RDWR)))
            await sending.waitForWriter()
        }
        await sending.waitUntilSent()
        hasGivenUpDescriptor = true
        loop.counters.connectionsClosed &+= 1
        _ = await unsafe loop.performToTheEnd(.close(descriptor))
    }

    // MARK: Belonging to a task

    /// Runs `body`, whose task this stream belongs to meanwhile: one note of cancellation serves all waits of that task
    /// for this stream. A note for each wait would be a sixth of an echo server's instructions. Begins on the
    /// loop's thread; where `body` ends is its affair.
    final func whileOwned(_ body: () async throws -> Void) async throws {
        let task = rondo_current_task()
        received.beginOwning(by: task)
        sending.beginOwning(by: task)
        // SAFETY: begin and end nest, and this function keeps the stream alive meanwhile.
        let cancellation = unsafe rondo_cancellation_begin(
            { stream, _ in unsafe SocketStream.noteOwnerCancellation(stream) },
            Unmanaged.passUnretained(self).toOpaque(), 0)
        var failure: (any Error)?
        do { try await body() } catch { failure = error }
        unsafe rondo_cancellation_end(cancellation)
        await loop.onLoop {
            received.endOwning()
            sending.endOwning()
        }
        if let failure { throw failure }
    }

    /// From any thread: the task that this stream belongs to was cancelled.
    private static func noteOwnerCancellation(_ object: UnsafeMutableRawPointer?) {
        // SAFETY: the object is the stream that `whileOwned` keeps alive.
        let stream = unsafe Unmanaged<SocketStream>.fromOpaque(object!).takeUnretainedValue()
        if stream.loop.isOnOwnThread {
            stream.ownerWasCancelled()
        } else {
            stream.loop.tell(.perform { stream.ownerWasCancelled() })
        }
    }

    private final func ownerWasCancelled() {
        received.ownerWasCancelled()
        sending.ownerWasCancelled()
    }

    // MARK: Errors

    /// Asks the system for an address of this stream.
    final func lookUp<Address>(
        _ operation: String, _ body: () throws(Errno) -> Address
    ) throws(IOError) -> Address {
        // Closed, its descriptor may already be another's.
        if loop.isOnOwnThread, isClosed { throw IOError(operation, kindName, .closed) }
        do throws(Errno) { return try body() } catch { throw IOError(operation, kindName, .system(error)) }
    }

    @inline(never)
    final func error(_ operation: String, _ cause: IOError.Cause) -> IOError {
        IOError(operation, peerName ?? kindName, cause)
    }

    @inline(never)
    final func failure(_ operation: String, _ answer: Int32) -> IOError {
        isClosed ? error(operation, .closed) : error(operation, IOError.cause(ofAnswer: answer))
    }
}
