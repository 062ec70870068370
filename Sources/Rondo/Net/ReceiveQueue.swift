// What has arrived for a stream and was not read yet. The multishot receive stays armed across reads; it is taken back
// when too much waits unread, so that a slow reader stops its sender (TCP's window closes) instead of the whole loop.

import CRondo
import Glibc

/// A stream's receiving side. It belongs to the loop's thread.
@safe
class ReceiveQueue: WaitingSink, BufferWaiter, @unchecked Sendable {
    // SAFETY: as WaitingSink, which holds for the closer too. A receive points to nothing.

    /// How a received stream ends.
    enum End { case endOfStream, failed(Int32) }

    /// Unread bytes at which receiving pauses.
    static let pauseAt: UInt32 = 256 * 1024

    // What every message touches comes first.

    /// The oldest unread slice; most of the time the only one.
    private final var first: BufferSlice?
    private final var unreadBytes: UInt32 = 0
    final private(set) var end: End?
    /// Whether the armed receive is being taken back.
    private final var isPausing = false
    private final var isClosing = false
    /// The armed receive, if there is one.
    final var operation: OperationID?
    /// Whether receiving has ever begun.
    final private(set) var hasBegun = false
    /// The others. Made when there is a second one for the first time.
    private final var rest: Backlog<BufferSlice>?
    /// The wait of a transfer that takes the bytes from the descriptor itself: nothing is received meanwhile.
    private final var transfer: Readiness?
    /// Who waits for the end of the armed receive, which is being taken back.
    private final var pauser: UnsafeContinuation<Void, Never>?
    /// Who closes the stream and waits for the kernel to be through with it.
    private final var closer: UnsafeContinuation<Void, Never>?

    /// The next slice of at most `limit` bytes, if one has arrived.
    @inline(__always)
    final func next(upTo limit: Int = .max) -> BufferSlice? {
        assert(loop.isOnOwnThread || loop.isClosed, "a stream is read on another thread than its loop's")
        guard let slice = first else { return nil }
        if Int(slice.count) > limit { return split(slice, at: limit) }
        unreadBytes &-= slice.count
        first = rest?.popFirst()
        return slice
    }

    private final func split(_ slice: BufferSlice, at limit: Int) -> BufferSlice {
        let parts = loop.receiveBuffers.split(slice, at: UInt32(limit))
        first = parts.rest
        unreadBytes &-= UInt32(limit)
        return parts.first
    }

    /// Waits until there is a slice or an end.
    ///
    /// - Returns: false if the task was cancelled instead. No byte is lost then: the next read finds what arrives.
    @inline(__always)
    final func wait() async -> Bool {
        arm()
        if end != nil { return true }
        return await waitForNews()
    }

    override var hasNewsAlready: Bool { first != nil || end != nil }

    /// Arms the receive, unless it is.
    @inline(__always)
    private final func arm() {
        if operation != nil || end != nil || isClosing { return }
        if loop.isShuttingDown {
            end = .failed(ECANCELED)
            return
        }
        hasBegun = true
        unsafe operation = loop.start(.receive(descriptor), sink: self)
    }

    override func deliver(_ completion: Completion) {
        if !completion.more {
            operation = nil
            isPausing = false
            endPause()
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
        } else if hasWaiter {
            arm()  // a pause ended while somebody already reads again
            finishClosing()
            return
        }
        wake()
        finishClosing()
    }

    private final func keep(_ slice: BufferSlice) {
        if isClosing { return loop.release(slice) }
        unreadBytes &+= slice.count
        if first == nil { first = slice } else { keepBehind(slice) }
        if unreadBytes > Self.pauseAt, let operation, !isPausing {
            isPausing = true
            loop.cancel(operation)
        }
    }

    private final func keepBehind(_ slice: BufferSlice) {
        let rest = rest ?? Backlog()
        rest.append(slice)
        self.rest = rest
    }

    final func bufferMayBeFree() {
        guard hasWaiter else { return }
        arm()
        if end != nil { wake() }
    }

    /// Ends receiving for good: whoever reads gets the end, unread bytes are given back. Returns when the kernel is
    /// through with the descriptor.
    final func close() async {
        isClosing = true
        if end == nil { end = .failed(EBADF) }
        while let slice = next() { loop.release(slice) }
        wake()
        if let operation { loop.cancel(operation) }
        if let transfer { await transfer.close() }
        await unsafe park(unless: operation == nil) { unsafe closer = $0 }
    }

    final func finishClosing() {
        guard operation == nil, let continuation = unsafe closer else { return }
        unsafe closer = nil
        unsafe continuation.resume()
    }
}

// Transfers past the queue (see `BulkTransfer`).

extension ReceiveQueue {
    // SAFETY: who waits is taken out of its property before it is resumed.

    /// Whether nothing is unread.
    @inline(__always)
    final var isEmpty: Bool { first == nil }

    /// Whether somebody reads.
    final var hasReader: Bool { hasWaiter || transfer != nil }

    /// Takes the armed receive back; returns when it has ended. What has come before it did is unread then.
    final func pause() async {
        guard let operation, !hasReader, unsafe pauser == nil else { return }
        if !isPausing { loop.cancel(operation) }
        isPausing = true
        await unsafe park(unless: self.operation == nil) { unsafe pauser = $0 }
    }

    private final func endPause() {
        // SAFETY: as said at the head.
        guard let continuation = unsafe pauser else { return }
        unsafe pauser = nil
        unsafe continuation.resume()
    }

    /// Lets a transfer take bytes from the descriptor itself, until `endTransfer`. Others who read are told `.busy`,
    /// and `close()` ends the transfer's wait.
    ///
    /// - Returns: false if that can't be now: there are unread bytes or an end, somebody reads, or receiving is armed.
    final func beginTransfer(_ readiness: Readiness) -> Bool {
        if first != nil || end != nil || hasReader || operation != nil || isClosing { return false }
        if loop.isShuttingDown { return false }
        transfer = readiness
        return true
    }

    /// - Parameter end: what the transfer has found at the end of the bytes.
    final func endTransfer(_ end: End?) {
        transfer = nil
        if self.end == nil { self.end = end }
    }
}
