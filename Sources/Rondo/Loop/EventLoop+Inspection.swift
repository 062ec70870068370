// What a loop tells those who look at it from outside. All of it is asked between two jobs, by a message, and costs
// nothing while nobody asks.

import CRondo

/// An operation that a task waits for.
package struct Wait: Sendable {
    package var kind: Operation.Kind
    /// What the operation is on, if it is on a descriptor.
    package var descriptor: Descriptor?
}

extension EventLoop {
    /// Runs `body` on the loop's thread, between two jobs. From any thread.
    ///
    /// - Returns: false if the loop is closed.
    @discardableResult
    package func whenFree(_ body: sending @escaping () -> Void) -> Bool { tell(.perform(body)) }

    /// The operations that tasks wait for, by the tasks' addresses. On the loop's thread.
    package var waits: [UInt: Wait] {
        var waits: [UInt: Wait] = [:]
        pending.forEachSubmitted { kind, descriptor, task in
            if task != 0 { waits[task] = Wait(kind: kind, descriptor: descriptor) }
        }
        return waits
    }

    /// Nanoseconds until a task's sleep ends; nil if it does not sleep on this loop. On the loop's thread.
    ///
    /// - Parameter note: the task's word for it (`JobReference.timerNote`).
    package func sleepLeft(of task: UInt, note: UInt64) -> UInt64? {
        let note = TimerNote(rawValue: note & ~JobReference.seenBit)
        guard note != .none, Int(note.loop) == number, let job = JobReference(bits: task),
            let deadline = timers.deadline(of: note.timer, generation: note.generation, sleeper: job)
        else { return nil }
        return deadline &- min(driver.now, deadline)
    }

    /// Nanoseconds since a moment that a task has noted. On the loop's thread.
    package func nanoseconds(since moment: UInt32) -> UInt64 {
        let units = UInt32(truncatingIfNeeded: driver.now >> 20) &- moment
        return units > UInt32(Int32.max) ? 0 : UInt64(units) << 20
    }
}
