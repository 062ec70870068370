// Ready jobs that any loop of a group may run. One loop fills the ring; it and the others take from it, oldest first,
// without a lock.

import Synchronization

/// A ring of jobs with one producer and many takers.
@safe
final class MovableJobs: @unchecked Sendable {
    // SAFETY: a slot is written by the owner only, while no position of the ring names it; who takes a job has read its
    // slot before the position moved on, and else tries again. Positions only grow, so none is mistaken for an older.

    private static let capacity = 1024

    private let slots: UnsafeMutablePointer<Atomic<UInt>>
    /// The position of the oldest job.
    private let head = Atomic<Int>(0)
    /// The position behind the newest job.
    private let tail = Atomic<Int>(0)

    init() {
        unsafe slots = .allocate(capacity: Self.capacity)
        for index in 0..<Self.capacity { unsafe (slots + index).initialize(to: Atomic(0)) }
    }

    deinit { unsafe slots.deallocate() }

    /// How many jobs there are; from any thread, and out of date at once.
    @inline(__always)
    var count: Int { max(0, tail.load(ordering: .relaxed) &- head.load(ordering: .relaxed)) }

    /// Adds a job. On the owner's thread.
    ///
    /// - Returns: false if there is no room.
    func push(_ job: UnownedJob) -> Bool {
        let position = tail.load(ordering: .relaxed)
        if position &- head.load(ordering: .acquiring) >= Self.capacity { return false }
        unsafe slots[position & (Self.capacity &- 1)].store(JobReference(job).bits, ordering: .relaxed)
        // Ordered before the look at who is idle (see LoopGroup).
        tail.store(position &+ 1, ordering: .sequentiallyConsistent)
        return true
    }

    /// Takes the oldest job. From any thread.
    func take() -> UnownedJob? {
        var position = head.load(ordering: .acquiring)
        while position < tail.load(ordering: .sequentiallyConsistent) {
            let bits = unsafe slots[position & (Self.capacity &- 1)].load(ordering: .relaxed)
            let (isOurs, now) = head.compareExchange(
                expected: position, desired: position &+ 1, ordering: .acquiringAndReleasing)
            if isOurs { return JobReference(bits: bits)!.job }
            position = now
        }
        return nil
    }
}
