// The kitchen: a few threads for calls that block. The loop hands work over without taking a lock; the workers share
// one among themselves. Work that is done goes back through `deliver`, which is the loop's inbox.

import CRondo
import Glibc
import Synchronization
import SystemPackage

/// One blocking call on its way through the offload pool.
@safe
package final class OffloadWork: @unchecked Sendable {
    // SAFETY: `state` decides who may touch the rest. Before the work is submitted and after it is delivered that is
    // the loop's thread; in between, the one worker that moved it to `running`.

    package enum State: UInt8, AtomicRepresentable { case queued, running, done, cancelled }

    /// The operation that it completes.
    package var operation = OperationID(rawValue: .max)
    /// What the call answered: not negative, or a negated errno.
    package private(set) var result: Int32 = 0
    private let call: () -> Int32
    /// Whether somebody wants to know when it ran, and when that was, in ticks of the processor.
    fileprivate(set) var isTimed = false
    private(set) var times: (start: UInt64, end: UInt64)?
    private let state = Atomic(State.queued)
    /// The next work in a queue (the pool's, later the inbox's). Owned by whoever holds this work.
    package var next: Unmanaged<OffloadWork>?

    /// - Parameter call: what to run; answers a value that is not negative, or a negated errno.
    package init(_ call: sending @escaping () -> Int32) { self.call = call }

    /// Runs the call, unless it was cancelled before.
    package func run() {
        guard exchange(.queued, for: .running) else { return }
        if isTimed {
            let start = rondo_ticks()
            result = call()
            times = (start, rondo_ticks())
        } else {
            result = call()
        }
        state.store(.done, ordering: .releasing)
    }

    /// Takes the work back if no worker has begun it.
    ///
    /// - Returns: true if it will never run.
    package func cancelIfQueued() -> Bool {
        guard exchange(.queued, for: .cancelled) else { return false }
        result = -ECANCELED
        return true
    }

    /// Whether it was taken back. No worker delivers such work.
    package var isCancelled: Bool { state.load(ordering: .acquiring) == .cancelled }

    private func exchange(_ expected: State, for desired: State) -> Bool {
        state.compareExchange(expected: expected, desired: desired, ordering: .acquiringAndReleasing).exchanged
    }
}

/// A bounded pool of threads for blocking calls. Threads start when there is work for them, and end with the pool.
@safe
package final class OffloadPool: @unchecked Sendable {
    // SAFETY: the semaphore lives as long as the pool, which its threads hold. `submit` and `threads` belong to the
    // loop's thread; the queue between is atomic; what the workers share stands behind their mutex.

    /// The most threads there may be.
    package let threadLimit: Int
    /// The newest work handed over, and through `next` all before it.
    private let submitted = Atomic<UInt>(0)
    /// Work taken off `submitted`, oldest first. Shared by the workers.
    private let queue = unsafe Lock<Unmanaged<OffloadWork>?>(nil)
    private let semaphore = ThreadSemaphore()
    /// Work that is queued or running.
    private let unfinished = Atomic<Int>(0)
    private let stopping = Atomic<Bool>(false)
    private var threads: [NativeThread] = []
    /// Whether calls note when they ran.
    var isTimed = false
    /// Sends finished work back to the loop; mostly called on a worker's thread, where only the inbox may be touched.
    /// Set once, before the first `submit`: a thread's start publishes it to the thread.
    package var deliver: (@Sendable (OffloadWork) -> Void)?

    package init(threadLimit: Int) { self.threadLimit = max(1, threadLimit) }

    /// How many calls are queued or running.
    package var depth: Int { unfinished.load(ordering: .relaxed) }
    /// How many threads have been started.
    package var threadCount: Int { threads.count }

    /// Hands work to the pool. On the loop's thread.
    package func submit(_ work: OffloadWork) {
        work.isTimed = isTimed
        let busy = unfinished.add(1, ordering: .relaxed).newValue
        if threads.count < threadLimit, busy > threads.count { startThread() }
        let node = unsafe Unmanaged.passRetained(work)
        let address = unsafe UInt(bitPattern: node.toOpaque())
        var newest = submitted.load(ordering: .relaxed)
        while true {
            unsafe work.next = UnsafeRawPointer(bitPattern: newest).map { unsafe .fromOpaque($0) }
            let (done, now) = submitted.weakCompareExchange(
                expected: newest, desired: address, successOrdering: .releasing, failureOrdering: .relaxed)
            if done { break }
            newest = now
        }
        semaphore.signal()
    }

    /// Takes work back if no worker has begun it: it is delivered as cancelled. On the loop's thread.
    func takeBack(_ work: OffloadWork) {
        if work.cancelIfQueued() { deliver?(work) }
    }

    /// Ends all threads, after what they are running, and waits for them. Queued work must have been cancelled.
    package func close() {
        stopping.store(true, ordering: .releasing)
        for _ in threads { semaphore.signal() }
        for thread in threads { thread.join() }
        threads.removeAll()
        while let work = takeNext() { require(work.isCancelled, "the offload pool closed with work in its queue") }
    }

    private func startThread() {
        do throws(Errno) {
            threads.append(try NativeThread("rondo-offload") { [self] in work() })
        } catch {
            require(!threads.isEmpty, "no thread for the offload pool: \(error) (check ulimit -u)")
        }
    }

    /// A worker's life.
    private func work() {
        rondo_unpin_thread()
        while true {
            semaphore.wait()
            guard let work = takeNext() else {
                if stopping.load(ordering: .acquiring) { return }
                continue
            }
            work.run()
            unfinished.subtract(1, ordering: .relaxed)
            if !work.isCancelled { deliver?(work) }
        }
    }

    /// The oldest work of the queue.
    private func takeNext() -> OffloadWork? {
        unsafe queue.withLock { oldest in
            if unsafe oldest == nil { unsafe oldest = reversed(submitted.exchange(0, ordering: .acquiring)) }
            guard let first = unsafe oldest else { return nil }
            // SAFETY: each node of the queue carries the reference that submit() made; it passes to the caller.
            let work = unsafe first.takeRetainedValue()
            unsafe oldest = work.next
            unsafe work.next = nil
            return work
        }
    }

    /// Turns a stack of works, newest first, into a queue.
    private func reversed(_ newest: UInt) -> Unmanaged<OffloadWork>? {
        var rest = unsafe UnsafeRawPointer(bitPattern: newest).map { unsafe Unmanaged<OffloadWork>.fromOpaque($0) }
        var queue: Unmanaged<OffloadWork>?
        while let node = unsafe rest {
            // SAFETY: as in takeNext; the links are only moved here.
            unsafe node._withUnsafeGuaranteedRef { work in
                unsafe rest = work.next
                unsafe work.next = queue
            }
            unsafe queue = node
        }
        return unsafe queue
    }
}
