// What other threads may see of a loop at work, without asking it: a watchdog must be able to tell of a loop that does
// not answer.

import Synchronization

/// Which job runs, for those who look from outside. Only the loop's thread writes.
package struct LoopPulse: ~Copyable, Sendable {
    private let beats = Atomic<UInt64>(0)
    private let task = Atomic<UInt>(0)
    private let times = Lock<[String: UInt64]>([:])

    /// Names beyond these share one entry, so that a program that makes up names does not fill the memory.
    private static let nameLimit = 256
    private static let otherNames = "(other)"

    /// Counts jobs, twice: odd while one runs.
    package var count: UInt64 { beats.load(ordering: .relaxed) }

    /// The address of the task that runs now, or ran last; 0 where an actor's queue did. The task may have gone: look
    /// at its memory from outside, and then whether `count` is still what it was.
    package var runningTask: UInt { task.load(ordering: .relaxed) }

    /// Job number `job` begins.
    @inline(__always)
    func begins(_ job: UInt64, task: UInt) {
        self.task.store(task, ordering: .relaxed)
        beats.store(job << 1 | 1, ordering: .relaxed)
    }

    /// Job number `job` was the last for now.
    @inline(__always)
    func ends(_ job: UInt64) { beats.store(job << 1, ordering: .relaxed) }

    /// Notes that tasks of that name have been seen running for so long. From any thread.
    package func addRunning(_ nanoseconds: UInt64, name: String) {
        times.withLock { times in
            let isKept = times[name] != nil || times.count < Self.nameLimit
            times[isKept ? name : Self.otherNames, default: 0] += nanoseconds
        }
    }

    /// Nanoseconds for which tasks were seen running, by their names.
    var running: [String: UInt64] { times.withLock { $0 } }
}
