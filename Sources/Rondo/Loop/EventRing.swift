// What happens on a loop, noted in a ring of fixed-size events: nothing is allocated, the oldest are overwritten, and
// how many were is known. A loop without a ring notes nothing.

/// One thing that happened on a loop.
package struct LoopEvent: Sendable {
    package enum Kind: UInt8, Sendable { case ready, started, stopped, operationBegan, mark }

    /// Nanoseconds of the driver's clock.
    package var time: UInt64
    /// The job, by its address: for a job of a task that is the task's.
    package var job: UInt
    package var kind: Kind
    /// For `operationBegan` the operation's kind; for `mark` what the caller said.
    package var detail: UInt32
}

/// The latest events of a loop. It belongs to the loop's thread.
@safe
package final class EventRing {
    private let events: UnsafeMutablePointer<LoopEvent>
    private let mask: Int
    private var recorded = 0

    /// - Parameter capacity: how many events are kept; rounded up to a power of two.
    package init(capacity: Int) {
        var size = 1
        while size < capacity { size *= 2 }
        mask = size - 1
        // SAFETY: fresh memory; only slots that were written are read.
        unsafe events = .allocate(capacity: size)
    }

    deinit { unsafe events.deallocate() }

    package func record(_ kind: LoopEvent.Kind, job: UInt, detail: UInt32 = 0, time: UInt64) {
        // SAFETY: the mask keeps within the ring.
        unsafe (events + (recorded & mask)).initialize(
            to: LoopEvent(time: time, job: job, kind: kind, detail: detail))
        recorded += 1
    }

    /// Events that were overwritten.
    package var dropped: Int { max(0, recorded - mask - 1) }

    /// The events that are kept, oldest first.
    package var all: [LoopEvent] {
        // SAFETY: these slots have been written.
        (dropped..<recorded).map { unsafe events[$0 & mask] }
    }
}

extension EventLoop {
    /// Notes `detail` for the running task, if anybody looks. On the loop's thread.
    package func mark(_ detail: UInt32) {
        guard let events, let task = currentTaskReference() else { return }
        events.record(.mark, job: task.bits, detail: detail, time: driver.now)
    }
}
