// What has arrived for a stream and was not read yet. The multishot receive stays armed across reads; it is taken back
// when too much waits unread, so that a slow reader stops its sender (TCP's window closes) instead of the whole loop.

import CRondo
import Glibc

/// A stream's receiving side. It belongs to the loop's thread.
@safe
final class ReceiveQueue: CompletionSink, BufferWaiter, @unchecked Sendable {
    // SAFETY: as CompletionSink. A continuation is taken out of its property before it is resumed, so it is resumed
    // once. A receive points to nothing.

    /// How a received stream ends.
    enum End { case endOfStream, failed(Int32) }

    /// Unread bytes at which receiving pauses.
    static let pauseAt: UInt32 = 256 * 1024

    // What every message touches comes first, within one cache line.

    /// The task that waits for bytes or for the end.
    private var waiter: UnsafeContinuation<Bool, Never>?
    /// The oldest unread slice; most of the time the only one.
    private var first: BufferSlice?
    private var unreadBytes: UInt32 = 0
    private(set) var end: End?
    private var isReaderCancelled = false
    /// Numbers the waits, so that a late cancellation can't hit the next one.
    private var waits: UInt64 = 0
    /// Whether the armed receive is being taken back.
    private var isPausing = false
    private var isClosing = false
    /// The armed receive, if there is one.
    private var operation: OperationID?
    private let loop: EventLoop
    private let descriptor: Descriptor
    private var rest: [BufferSlice] = []
    private var restHead = 0
    /// Who closes the stream and waits for the kernel to be through with it.
    private var closer: UnsafeContinuation<Void, Never>?

    init(_ descriptor: Descriptor, loop: EventLoop) {
        self.descriptor = descriptor
        self.loop = loop
    }

    /// Whether a task waits already.
    var isBusy: Bool { unsafe waiter != nil }

    /// The next slice of at most `limit` bytes, if one has arrived.
    @inline(__always)
    func next(upTo limit: Int = .max) -> BufferSlice? {
        guard let slice = first else { return nil }
        if Int(slice.count) > limit { return split(slice, at: limit) }
        unreadBytes &-= slice.count
        if rest.isEmpty {
            first = nil
        } else {
            first = rest[restHead]
            restHead += 1
            if restHead == rest.count {
                rest.removeAll(keepingCapacity: true)
                restHead = 0
            }
        }
        return slice
    }

    private func split(_ slice: BufferSlice, at limit: Int) -> BufferSlice {
        let parts = loop.driver.receiveBuffers.split(slice, at: UInt32(limit))
        first = parts.rest
        unreadBytes &-= UInt32(limit)
        return parts.first
    }

    /// Waits until there is a slice or an end.
    ///
    /// - Returns: false if the task was cancelled instead. No byte is lost then: the next read finds what arrives.
    @inline(__always)
    func wait() async -> Bool {
        arm()
        if end != nil { return true }
        isReaderCancelled = false
        waits &+= 1
        // SAFETY: begin and end nest around the one suspension; this function keeps the queue alive meanwhile.
        let cancellation = unsafe rondo_cancellation_begin(
            { unsafe ReceiveQueue.noteCancellation($0, $1) }, Unmanaged.passUnretained(self).toOpaque(), waits)
        let hasNews = await unsafe withUnsafeContinuation { continuation in
            if isReaderCancelled {
                unsafe continuation.resume(returning: false)
            } else {
                unsafe waiter = continuation
            }
        }
        unsafe rondo_cancellation_end(cancellation)
        return hasNews
    }

    /// From any thread: the task that waits was cancelled.
    private static func noteCancellation(_ object: UnsafeMutableRawPointer?, _ number: UInt64) {
        // SAFETY: the object is the queue that `wait` keeps alive.
        let queue = unsafe Unmanaged<ReceiveQueue>.fromOpaque(object!).takeUnretainedValue()
        if queue.loop.isOnOwnThread {
            queue.cancelWait(number)
        } else {
            queue.loop.tell(.perform { queue.cancelWait(number) })
        }
    }

    private func cancelWait(_ number: UInt64) {
        if number != waits { return }  // a late message from another thread: that wait is over
        isReaderCancelled = true
        resume(returning: false)
    }

    @inline(__always)
    private func resume(returning hasNews: Bool) {
        guard let continuation = unsafe waiter else { return }
        unsafe waiter = nil
        unsafe continuation.resume(returning: hasNews)
    }

    /// Arms the receive, unless it is.
    @inline(__always)
    private func arm() {
        if operation != nil || end != nil || isClosing { return }
        if loop.isShuttingDown {
            end = .failed(ECANCELED)
            return
        }
        unsafe operation = loop.start(.receive(descriptor), sink: self)
    }

    override func deliver(_ completion: Completion) {
        if !completion.more {
            operation = nil
            isPausing = false
        }
        if completion.result > 0 {
            keep(completion.slice)
        } else if completion.result == 0 {
            end = .endOfStream
        } else if completion.result == -ENOBUFS {
            if !isClosing { loop.waitForBuffer(self) }
            finishClosing()
            return
        } else if completion.result != -ECANCELED || loop.isShuttingDown {
            end = .failed(-completion.result)
        } else if unsafe waiter != nil {
            arm()  // a pause ended while somebody already reads again
            finishClosing()
            return
        }
        resume(returning: true)
        finishClosing()
    }

    private func keep(_ slice: BufferSlice) {
        if isClosing { return loop.release(slice) }
        unreadBytes &+= slice.count
        if first == nil { first = slice } else { rest.append(slice) }
        if unreadBytes > Self.pauseAt, let operation, !isPausing {
            isPausing = true
            loop.cancel(operation)
        }
    }

    func bufferMayBeFree() {
        guard unsafe waiter != nil else { return }
        arm()
        if end != nil { resume(returning: true) }
    }

    /// Ends receiving for good: whoever reads gets the end, unread bytes are given back. Returns when the kernel is
    /// through with the descriptor.
    func close() async {
        isClosing = true
        if end == nil { end = .failed(EBADF) }
        while let slice = next() { loop.release(slice) }
        resume(returning: true)
        guard let operation else { return }
        await unsafe withUnsafeContinuation { continuation in
            unsafe closer = continuation
            loop.cancel(operation)
        }
    }

    private func finishClosing() {
        guard operation == nil, let continuation = unsafe closer else { return }
        unsafe closer = nil
        unsafe continuation.resume()
    }
}
