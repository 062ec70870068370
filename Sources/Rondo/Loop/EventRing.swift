// What happens on a loop, noted in a ring of fixed-size events: nothing is allocated, nothing waits, the oldest are
// overwritten, and how many were is known. A loop without a ring notes nothing.
//
// The clock is the dear part: 20 ns, where an event costs 3. So a turn's completions share one time, and a job's stop
// is the next one's start.

import CRondo
import Glibc

/// What an event of a ring says. `task`, `operation` and `value` are the words of `rondo_event`.
package enum EventKind: UInt8, Sendable, CaseIterable {
    /// The loop has waited, and goes on: `operation` and `value` are the driver's time, its low half and its high.
    case turnBegins = 1
    /// The batch is over, no job runs: `value` are the jobs that are still ready.
    case turnWaits
    /// `task` became ready: the running job saw to that, or the loop itself.
    case ready
    /// `task` became ready because `operation` completed with `value`. Says what `completed` says, too.
    case readyByCompletion
    /// The same, and the operation goes on.
    case readyByPart
    /// `task` became ready because a timer fired.
    case readyByTimer
    /// `task` became ready at once after it had yielded.
    case readyByYield
    /// `task` became ready by another thread.
    case readyFromOutside
    /// `task` runs, and the job before has stopped: `value` are the jobs that are ready behind it.
    case started
    /// `task` submitted an operation on the descriptor `value`.
    case submitted
    /// An operation is over, with `value`, and made nobody ready.
    case completed
    /// The same, and the operation goes on.
    case completedPart
    /// A timer fired that no task sleeps on.
    case timerFired
    /// `task` goes to sleep: `operation` and `value` are for how many nanoseconds.
    case sleeps
    /// A thread of the offload pool began with `operation`. Comes late, with the time when it was.
    case offloadBegan
    /// It has ended. Comes late, too.
    case offloadEnded
    /// `task` has ended.
    case taskEnded
    /// The program's own: `operation` is what it said.
    case mark
    /// A span of `task` has begun: `operation` is its number, `value` the place of its name.
    case spanBegan
    /// The span with the number `operation` has ended.
    case spanEnded
}

/// The hand that writes into a ring. It belongs to the loop's thread; the memory is an `EventMemory`'s.
@safe
package struct EventRing {
    // SAFETY: whoever holds a ring holds its memory, or takes it from the loop, which does. All words that the C
    // functions write are in that memory.
    private let ring: UnsafeMutablePointer<rondo_ring>

    init(_ ring: UnsafeMutablePointer<rondo_ring>) { unsafe self.ring = ring }

    /// Notes an event now: at the time of what was noted last.
    @inline(__always)
    private func note(
        _ kind: UInt8, task: UInt32, operation: UInt32 = 0, value: Int32 = 0, detail: UInt8 = 0, extra: UInt16 = 0
    ) {
        unsafe rondo_ring_record(ring, kind, task, operation, value, detail, extra)
    }

    /// As `note`, with 64 bits instead of an operation and a value.
    @inline(__always)
    private func note(_ kind: EventKind, task: UInt32, wide: UInt64) {
        let high = Int32(truncatingIfNeeded: wide >> 32)
        note(kind.rawValue, task: task, operation: UInt32(truncatingIfNeeded: wide), value: high)
    }

    // MARK: The turn

    /// The loop has waited until `time` of the driver, and now takes in what other threads have sent.
    @inline(__always)
    func turnBegins(at time: UInt64) {
        if unsafe ring.pointee.uses_ticks != 0 {
            unsafe rondo_ring_refresh(ring)
        } else {
            unsafe ring.pointee.now = time
        }
        note(.turnBegins, task: 0, wide: time)
    }

    /// The loop has run its jobs, and `readyJobs` are left.
    @inline(__always)
    func turnWaits(readyJobs: Int) {
        unsafe rondo_ring_refresh(ring)
        note(EventKind.turnWaits.rawValue, task: 0, value: Int32(truncatingIfNeeded: readyJobs))
    }

    /// From now on what becomes ready does so for this reason.
    @inline(__always)
    func setCause(_ kind: EventKind) { unsafe ring.pointee.cause = kind.rawValue }

    /// A job runs from now on.
    @inline(__always)
    func starts(_ job: JobReference, readyJobs: Int) {
        unsafe rondo_ring_refresh(ring)
        note(EventKind.started.rawValue, task: job.taskNumber, value: Int32(truncatingIfNeeded: readyJobs))
    }

    /// A job has become ready.
    @inline(never)
    func becomesReady(_ job: JobReference, isSeen: Bool) {
        if !isSeen { add(job) }
        let cause = unsafe ring.pointee.cause
        if cause == EventKind.ready.rawValue { unsafe rondo_ring_refresh(ring) }
        guard unsafe ring.pointee.has_completion != 0 else { return note(cause, task: job.taskNumber) }
        unsafe ring.pointee.has_completion = 0
        unsafe note(
            cause, task: job.taskNumber, operation: ring.pointee.operation, value: ring.pointee.value,
            detail: ring.pointee.detail, extra: ring.pointee.extra)
    }

    /// A completion is about to be passed on; whom that makes ready, takes it over.
    @inline(__always)
    func arrives(_ completion: Completion, _ kind: Operation.Kind, descriptor: Int32) {
        unsafe ring.pointee.operation = completion.operation.slot
        unsafe ring.pointee.value = completion.result
        unsafe ring.pointee.extra = UInt16(clamping: UInt32(bitPattern: descriptor))
        unsafe ring.pointee.detail = kind.rawValue
        unsafe ring.pointee.has_completion = 1
        let kind: EventKind = completion.more ? .readyByPart : .readyByCompletion
        unsafe ring.pointee.cause = kind.rawValue
    }

    /// It was passed on: notes it, if it made nobody ready.
    @inline(__always)
    func hasArrived() {
        guard unsafe ring.pointee.has_completion != 0 else {
            return unsafe ring.pointee.cause = EventKind.ready.rawValue
        }
        let hasMore = unsafe ring.pointee.cause == EventKind.readyByPart.rawValue
        let kind: EventKind = hasMore ? .completedPart : .completed
        unsafe ring.pointee.has_completion = 0
        unsafe ring.pointee.cause = EventKind.ready.rawValue
        unsafe note(
            kind.rawValue, task: 0, operation: ring.pointee.operation, value: ring.pointee.value,
            detail: ring.pointee.detail, extra: ring.pointee.extra)
    }

    // MARK: What tasks ask for

    /// An operation was begun, by the running task if there is one. It has the time of the job's start: the kernel
    /// hears of it at the turn's end.
    @inline(__always)
    func submits(_ kind: Operation.Kind, as id: OperationID, descriptor: Int32, task: UInt32) {
        note(EventKind.submitted.rawValue, task: task, operation: id.slot, value: descriptor, detail: kind.rawValue)
    }

    /// A timer fired that no task sleeps on.
    func timerFires() { note(EventKind.timerFired.rawValue, task: 0) }

    /// A task goes to sleep for that many nanoseconds.
    func sleeps(_ task: JobReference, nanoseconds: UInt64) {
        note(.sleeps, task: task.taskNumber, wide: nanoseconds)
    }

    /// When a call in the offload pool began and ended; in the ring's clock.
    func offloadRan(_ id: OperationID, from start: UInt64, to end: UInt64) {
        let now = unsafe ring.pointee.now
        unsafe ring.pointee.now = start
        note(EventKind.offloadBegan.rawValue, task: 0, operation: id.slot)
        unsafe ring.pointee.now = end
        note(EventKind.offloadEnded.rawValue, task: 0, operation: id.slot)
        unsafe ring.pointee.now = now
    }

    /// A task has ended.
    @inline(__always)
    package func ends(taskNumber: UInt32) {
        note(EventKind.taskEnded.rawValue, task: taskNumber)
    }

    /// What the program itself notes of a task.
    func mark(_ detail: UInt32, task: JobReference) {
        unsafe rondo_ring_refresh(ring)
        note(EventKind.mark.rawValue, task: task.taskNumber, operation: detail)
    }

    /// A span has begun. Its name is at `label`, which is beyond all names if there was no room for it.
    func spanBegins(_ number: UInt32, label: UInt32, task: UInt32) {
        unsafe rondo_ring_refresh(ring)
        note(EventKind.spanBegan.rawValue, task: task, operation: number, value: Int32(truncatingIfNeeded: label))
    }

    /// A span has ended.
    func spanEnds(_ number: UInt32, task: UInt32) {
        unsafe rondo_ring_refresh(ring)
        note(EventKind.spanEnded.rawValue, task: task, operation: number)
    }

    /// Keeps a name of spans.
    ///
    /// - Returns: its place, or one beyond all if there is no room.
    func add(label name: String) -> UInt32 {
        var label = rondo_label()
        let room = MemoryLayout.size(ofValue: label.name)
        let bytes = name.utf8.prefix(room)
        label.length = UInt8(bytes.count)
        label.is_cut = name.utf8.count > room ? 1 : 0
        // SAFETY: no longer than the room.
        unsafe withUnsafeMutableBytes(of: &label.name) { unsafe $0.copyBytes(from: bytes) }
        return unsafe rondo_ring_add_label(ring, &label)
    }

    /// Events so far.
    var recorded: UInt64 { unsafe ring.pointee.recorded }

    /// Those that newer ones have overwritten.
    var dropped: UInt64 { unsafe recorded - min(recorded, ring.pointee.header.pointee.event_capacity) }

    /// Whether the ring's clock is the processor's.
    var usesTicks: Bool { unsafe ring.pointee.uses_ticks != 0 }

    /// A task is there for the first time.
    private func add(_ job: JobReference) {
        guard let identity = unsafe job.identity else { return }
        var entry = rondo_task_entry()
        entry.time = unsafe ring.pointee.now
        entry.task = job.taskNumber
        entry.priority = unsafe identity.priority
        if let parent = unsafe identity.parent {
            entry.parent = parent
            entry.is_child = 1
        } else if unsafe ring.pointee.cause == EventKind.ready.rawValue, let maker = currentTaskReference() {
            entry.parent = maker.taskNumber
        }
        if let name = unsafe identity.name {
            let room = MemoryLayout.size(ofValue: entry.name)
            let length = unsafe strnlen(name, room + 1)
            entry.name_length = UInt8(min(length, room))
            entry.is_cut = length > room ? 1 : 0
            // SAFETY: within the name and within the entry.
            unsafe withUnsafeMutableBytes(of: &entry.name) { bytes in
                unsafe bytes.copyMemory(from: UnsafeRawBufferPointer(start: name, count: min(length, room)))
            }
        }
        unsafe rondo_ring_add_task(ring, &entry)
    }
}

extension EventLoop {
    /// Notes that an operation was begun.
    func noteSubmission(_ operation: Operation, as id: OperationID) {
        // SAFETY: looks at no pointer of the operation.
        let descriptor = unsafe operation.descriptor?.rawValue ?? -1
        let kind = pending.note(descriptor, of: id)
        eventRing?.submits(kind, as: id, descriptor: descriptor, task: currentTaskReference()?.taskNumber ?? 0)
    }

    /// Notes `detail` for the running task, if anybody looks. On the loop's thread.
    package func mark(_ detail: UInt32) {
        guard let eventRing, let task = currentTaskReference() else { return }
        eventRing.mark(detail, task: task)
    }
}
