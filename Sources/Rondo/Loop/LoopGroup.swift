// Several loops that share the tasks of a program.
//
// A task becomes ready on the loop whose thread resumes it. So it follows the streams that it waits for, and two tasks
// that talk to each other soon stand on one loop. Tasks are moved only when they stand ready behind others while
// another loop has nothing to do; and only such as wait in no function of ours, which counts on its loop's thread.

import CRondo
import Synchronization

/// The loops of a runtime, and the face that their tasks see (see LoopExecutor.swift). What is read on each enqueue is
/// one word, which changes only when a loop falls idle.
@safe
final class LoopGroup: @unchecked Sendable {
    // SAFETY: `loops` is written once, before any of them runs; the threads' start publishes it.

    /// Most loops of a group: their idleness is a bit each.
    static let limit = 64

    private(set) var loops: [EventLoop] = []
    /// Bit n is set while loop n waits and nobody has called it.
    private let idle = Atomic<UInt64>(0)
    /// Where the next job of a thread without a loop goes.
    private let next = Atomic<Int>(0)

    /// Makes the loops a group. Before any of them runs.
    func form(of loops: [EventLoop]) {
        require((1...Self.limit).contains(loops.count), "a group of \(loops.count) loops")
        self.loops = loops
        for (number, loop) in loops.enumerated() { loop.join(self, as: number) }
    }

    /// The calling thread's loop, if it is one of these.
    @inline(__always)
    var currentLoop: EventLoop? {
        guard let loop = EventLoop.current, loop.group === self else { return nil }
        return loop
    }

    /// Where a job goes that becomes ready on a thread without a loop: to an idle loop, else to each in turn.
    var loopForOutsiders: EventLoop {
        let idle = idle.load(ordering: .relaxed)
        if idle != 0 { return loops[idle.trailingZeroBitCount] }
        return loops[Int(UInt(bitPattern: next.add(1, ordering: .relaxed).oldValue) % UInt(loops.count))]
    }

    /// Where the task begins that this thread is making (see `Runtime.startTask`).
    var placeOfNewTask: EventLoop? {
        // SAFETY: who makes the task keeps the loop meanwhile.
        unsafe rondo_thread_place().map { unsafe Unmanaged<EventLoop>.fromOpaque($0).takeUnretainedValue() }
    }

    /// The loop with the fewest ready jobs, and among equals with the fewest operations under way.
    var leastLoaded: EventLoop { loops.min { $0.load < $1.load }! }

    // MARK: Idle loops

    /// Whether a loop has nothing to do.
    @inline(__always)
    var hasIdle: Bool { idle.load(ordering: .relaxed) != 0 }

    /// The loop is about to wait. What it looks at after this has been pushed before somebody looked who is idle, or
    /// that somebody calls it.
    func noteIdle(_ number: Int) { idle.bitwiseOr(1 << UInt64(number), ordering: .sequentiallyConsistent) }

    func noteBusy(_ number: Int) {
        let bit: UInt64 = 1 << UInt64(number)
        if idle.load(ordering: .relaxed) & bit != 0 { idle.bitwiseAnd(~bit, ordering: .relaxed) }
    }

    /// Calls one idle loop, if there is one: it will look for jobs to take.
    func callIdle() {
        var mask = idle.load(ordering: .sequentiallyConsistent)
        while mask != 0 {
            let number = mask.trailingZeroBitCount
            let (isOurs, now) = idle.compareExchange(
                expected: mask, desired: mask & (mask &- 1), ordering: .acquiringAndReleasing)
            if isOurs { return loops[number].driver.wake() }
            mask = now
        }
    }

    /// Takes jobs from the others for a loop that has none: half of what stands ready at the first that has any.
    ///
    /// - Returns: whether there were any.
    func takeJobs(for thief: EventLoop) -> Bool {
        for step in 1..<loops.count {
            let victim = loops[(thief.number + step) % loops.count]
            guard let jobs = victim.movable, jobs.count > 0, let first = jobs.take() else { continue }
            thief.takeIn(first)
            var more = min(jobs.count / 2, Self.mostTaken)
            while more > 0, let job = jobs.take() {
                thief.takeIn(job)
                more -= 1
            }
            return true
        }
        return false
    }

    private static let mostTaken = 64
}

extension EventLoop {
    /// From the group's face, on this loop's thread: the runtime wants `job` to run.
    @inline(__always)
    func enqueueInGroup(_ job: UnownedJob, _ group: LoopGroup) {
        JobReference(job).owner = .anyLoop
        if isWorthMoving(group), !startsOwnTask, JobReference(job).isMovable, offer(job, group) { return }
        makeReady(job)
    }

    /// Whether a job that becomes ready now would stand behind others while another loop is idle, or on its way.
    @inline(__always)
    private func isWorthMoving(_ group: LoopGroup) -> Bool {
        guard let movable else { return false }
        return movable.count > 0 || (group.hasIdle && !scheduler.isEmpty)
    }

    private func offer(_ job: UnownedJob, _ group: LoopGroup) -> Bool {
        guard let movable, !isShuttingDown else { return false }
        // Before the push: then the job may run elsewhere.
        if notedWord != 0, JobReference(job).firstWord != notedWord { liveTasks?.note(JobReference(job)) }
        if eventRing != nil, !JobReference(job).isSeen { noteReady(JobReference(job)) }
        guard movable.push(job) else { return false }
        group.callIdle()
        return true
    }

    /// At the end of a turn: offers ready jobs to idle loops, if many are left.
    @inline(__always)
    func shareBacklog(_ group: LoopGroup) {
        if scheduler.count >= Self.backlog, group.hasIdle { offerBacklog(group) }
    }

    private static let backlog = 4

    private func offerBacklog(_ group: LoopGroup) {
        guard let movable, !isShuttingDown else { return }
        let moved = scheduler.remove(limit: min(scheduler.count / 2, 64)) { job in
            !JobReference(job).isPinned && JobReference(job).isMovable && movable.push(job)
        }
        if moved > 0 { group.callIdle() }
    }

    /// Takes in a job of another loop, which stays movable if there is room.
    func takeIn(_ job: UnownedJob) {
        jobsTaken &+= 1
        if scheduler.isEmpty || !(movable?.push(job) ?? false) { makeReady(job) }
    }
}
