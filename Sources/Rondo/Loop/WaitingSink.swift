// What the queues of streams and listeners have in common: completions come in, and at most one task waits for news.

import CRondo

/// A sink with a waiting task. It belongs to the loop's thread.
@safe
class WaitingSink: CompletionSink, @unchecked Sendable {
    // SAFETY: as CompletionSink. The continuation is taken out of its property before it is resumed, so it is resumed
    // once.

    private var waiter: UnsafeContinuation<Bool, Never>?
    final let loop: EventLoop
    /// Numbers the waits, from the call on, so that a late cancellation can't hit the next one.
    private var waits: UInt32 = 0
    /// The number of the task that waits, or waited last.
    private var waiterNumber: UInt32 = 0
    final let descriptor: Descriptor
    /// Whether the task whose wait has begun last was cancelled before it came to wait.
    private var isWaiterCancelled = false
    private var isOwnerWaiting = false
    private var isOwnerCancelled = false
    /// The task that hears of its cancellation by itself (see `SocketStream.whileOwned`), as an address; 0 for none.
    private var owner: UInt = 0

    init(_ descriptor: Descriptor, loop: EventLoop) {
        self.descriptor = descriptor
        self.loop = loop
    }

    /// Whether a task waits.
    @inline(__always)
    final var hasWaiter: Bool { unsafe waiter != nil }

    /// Waits for news. Nobody else may wait.
    ///
    /// - Returns: what `wake` was told; false if the task was cancelled.
    @inline(__always)
    final func waitForNews() async -> Bool {
        waits &+= 1
        let number = waits
        let isOwner = owner != 0 && owner == rondo_current_task()
        isWaiterCancelled = false
        // SAFETY: begin and end nest around the one suspension; this function keeps the sink alive meanwhile.
        let cancellation = unsafe isOwner ? nil : noteCancellation()
        let hasNews = await unsafe withUnsafeContinuation { continuation in
            // Somebody came first: the caller looks again, and sees that.
            if hasWaiter { return unsafe continuation.resume(returning: true) }
            unsafe waiter = continuation
            waiterNumber = number
            isOwnerWaiting = isOwner
            if hasNewsAlready {
                wake()
            } else if isWaiterCancelled || isOwner && isOwnerCancelled {
                waiterWasCancelled()
            }
        }
        if let cancellation = unsafe cancellation { unsafe rondo_cancellation_end(cancellation) }
        return hasNews
    }

    @inline(__always)
    private func noteCancellation() -> OpaquePointer {
        unsafe rondo_cancellation_begin(
            { unsafe WaitingSink.noteCancellation($0, $1) }, Unmanaged.passUnretained(self).toOpaque(), UInt64(waits))
    }

    /// Makes the waiting task ready, if there is one.
    @inline(__always)
    final func wake(returning hasNews: Bool = true) {
        guard let continuation = unsafe waiter else { return }
        unsafe waiter = nil
        unsafe continuation.resume(returning: hasNews)
    }

    final override func prefetchWaiter() {
        if let waiter = unsafe waiter { unsafe prefetchTask(of: waiter) }
    }

    final override var waiting: (task: UInt, descriptor: Descriptor?) {
        // SAFETY: a continuation is one pointer, to the task.
        (unsafe waiter.map { unsafe unsafeBitCast($0, to: UInt.self) } ?? 0, descriptor)
    }

    /// Whether what the task is about to wait for has come since it looked. Where the caller is an actor's, also the
    /// main actor's, each async call may be a hop to that actor (always without optimisation), and a hop is a job: a
    /// completion may come in between.
    var hasNewsAlready: Bool { crash("a sink that tasks wait at must say when there is nothing to wait for") }

    /// What happens when the waiting task is cancelled: it goes on. A queue that can't let it go does something else.
    func waiterWasCancelled() { wake(returning: false) }

    /// From any thread: the task that waits was cancelled.
    private static func noteCancellation(_ object: UnsafeMutableRawPointer?, _ number: UInt64) {
        // SAFETY: the object is the sink that `waitForNews` keeps alive.
        let sink = unsafe Unmanaged<WaitingSink>.fromOpaque(object!).takeUnretainedValue()
        if sink.loop.isOnOwnThread {
            sink.cancelWait(number)
        } else {
            sink.loop.tell(.perform { sink.cancelWait(number) })
        }
    }

    private func cancelWait(_ number: UInt64) {
        // What is neither is a late message from another thread: that wait is over.
        if hasWaiter {
            if number == UInt64(waiterNumber) { waiterWasCancelled() }
        } else if number == UInt64(waits) {
            isWaiterCancelled = true
        }
    }

    // A task's own stream

    /// From now on the calling task's waits note no cancellation: `ownerWasCancelled` tells of it.
    final func beginOwning(by task: UInt) {
        owner = task
        isOwnerCancelled = false
    }

    final func endOwning() { owner = 0 }

    final func ownerWasCancelled() {
        isOwnerCancelled = true
        if isOwnerWaiting, hasWaiter { waiterWasCancelled() }
    }
}
