// Which job is next. This file decides order and nothing else; it belongs to the loop's thread.
//
// The rule: the highest priority class that has a ready job goes first, and within a class first in, first out. So
// that no class starves, one pick in `lowerShare` goes to a lower class if one is ready, to each of them in turn.

/// The ready queue of a loop.
@safe
final class Scheduler {
    /// One pick in this many is a lower class's.
    static let lowerShare = 16

    /// Priority classes, the most urgent first. Swift's named priorities fall into one each.
    static let classCount = 5

    /// A singly linked list of jobs, through their own words: nothing is allocated.
    private struct Queue {
        var head: UInt = 0
        var tail: UInt = 0
    }

    private let queues: UnsafeMutablePointer<Queue>
    /// Bit n is set if class n has a ready job.
    private var occupied: UInt32 = 0
    /// Ready jobs.
    private(set) var count = 0
    /// Picks made while more than one class was ready.
    private var contestedPicks = 0
    /// The lower class that had its turn last.
    private var lastLowerClass = 0
    /// Chooses among the ready jobs of a class: the one seeded point, set by simulations only.
    var tieBreak: ((_ candidates: Int) -> Int)?

    init() {
        // SAFETY: fresh memory of this size, freed in deinit.
        unsafe queues = .allocate(capacity: Self.classCount)
        unsafe queues.initialize(repeating: Queue(), count: Self.classCount)
    }

    deinit { unsafe queues.deallocate() }

    @inline(__always)
    var isEmpty: Bool { occupied == 0 }

    /// The class of a priority.
    @inline(__always)
    static func priorityClass(_ priority: JobPriority) -> Int {
        switch priority.rawValue {
        case 0, 21...24: 2  // unspecified, medium (default)
        case 25...32: 1  // high (userInitiated)
        case 33...: 0  // userInteractive
        case 17...20: 3  // low (utility)
        default: 4  // background
        }
    }

    /// Makes a job ready.
    @inline(__always)
    func push(_ job: UnownedJob) { push(job, in: Self.priorityClass(job.priority)) }

    @inline(__always)
    private func push(_ job: UnownedJob, in priorityClass: Int) {
        let reference = JobReference(job)
        reference.next = 0
        // SAFETY: a class is below classCount; the addresses in a queue are those of jobs that have not run yet.
        let queue = unsafe queues + priorityClass
        if let last = unsafe JobReference(bits: queue.pointee.tail) {
            last.next = reference.bits
        } else {
            unsafe queue.pointee.head = reference.bits
            occupied |= 1 << UInt32(priorityClass)
        }
        unsafe queue.pointee.tail = reference.bits
        count &+= 1
    }

    /// Takes the next job to run.
    @inline(__always)
    func pop() -> UnownedJob? {
        if occupied == 0 { return nil }
        var priorityClass = occupied.trailingZeroBitCount
        if occupied & (occupied &- 1) != 0 { priorityClass = contestedClass(highest: priorityClass) }
        if tieBreak != nil { return popAny(of: priorityClass) }
        // SAFETY: as in push; an occupied class has a head.
        let queue = unsafe queues + priorityClass
        let reference = unsafe JobReference(bits: queue.pointee.head)!
        unsafe queue.pointee.head = reference.next
        if reference.next == 0 {
            unsafe queue.pointee.tail = 0
            occupied &= ~(1 << UInt32(priorityClass))
        } else if let next = JobReference(bits: reference.next) {
            // While this job runs, the memory of the next two comes in.
            next.prefetchDeeper()
            JobReference(bits: next.next)?.prefetch()
        }
        count &-= 1
        return reference.job
    }

    /// More than one class is ready: the highest, or a lower one whose share has come.
    private func contestedClass(highest: Int) -> Int {
        contestedPicks &+= 1
        guard contestedPicks % Self.lowerShare == 0 else { return highest }
        let lower = occupied & ~(1 << UInt32(highest))
        let after = lower & ~((2 << UInt32(lastLowerClass)) &- 1)
        lastLowerClass = (after != 0 ? after : lower).trailingZeroBitCount
        return lastLowerClass
    }

    /// Removes jobs that `isTaken` wants, the oldest of each class first.
    ///
    /// - Parameter limit: the most to remove; twice as many are asked about at most.
    /// - Returns: how many were removed.
    func remove(limit: Int, where isTaken: (UnownedJob) -> Bool) -> Int {
        var removed = 0
        var asked = 0
        for priorityClass in 0..<Self.classCount {
            // SAFETY: as in push; the walk ends at the list's end.
            let queue = unsafe queues + priorityClass
            var previous: JobReference?
            var next = unsafe queue.pointee.head
            while removed < limit, asked < 2 * limit, let reference = JobReference(bits: next) {
                next = reference.next
                asked += 1
                if !isTaken(reference.job) {
                    previous = reference
                    continue
                }
                if let previous { previous.next = next } else { unsafe queue.pointee.head = next }
                if next == 0 { unsafe queue.pointee.tail = previous?.bits ?? 0 }
                removed += 1
            }
            if unsafe queue.pointee.head == 0 { occupied &= ~(1 << UInt32(priorityClass)) }
        }
        count &-= removed
        return removed
    }

    /// Takes the job of a class that the tie-break names.
    private func popAny(of priorityClass: Int) -> UnownedJob? {
        // SAFETY: as in push; the walk ends at the list's end at the latest.
        let queue = unsafe queues + priorityClass
        var candidates = 0
        var next = unsafe queue.pointee.head
        while let reference = JobReference(bits: next) {
            candidates += 1
            next = reference.next
        }
        let choice = tieBreak?(candidates) ?? 0
        var previous: JobReference?
        var chosen = unsafe JobReference(bits: queue.pointee.head)!
        for _ in 0..<choice {
            previous = chosen
            chosen = JobReference(bits: chosen.next)!
        }
        if let previous { previous.next = chosen.next } else { unsafe queue.pointee.head = chosen.next }
        if chosen.next == 0 { unsafe queue.pointee.tail = previous?.bits ?? 0 }
        if unsafe queue.pointee.head == 0 { occupied &= ~(1 << UInt32(priorityClass)) }
        count &-= 1
        return chosen.job
    }
}
