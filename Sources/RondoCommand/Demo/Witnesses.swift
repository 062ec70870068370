// Two small counters that any task of the demo may touch. They take locks, so that they would tell the truth even if
// the demo did not run on one thread.

import CRondo
import Synchronization

/// Which threads the tasks of the demo have run on.
final class ThreadWitness: Sendable {
    private let seen = Mutex<Set<Int32>>([])

    /// Notes the calling thread.
    func note() {
        let thread = rondo_thread_id()
        seen.withLock { _ = $0.insert(thread) }
    }

    /// How many threads were noted.
    var count: Int { seen.withLock { $0.count } }
}

/// Counts down to the end of something.
final class Countdown: Sendable {
    private let left: Mutex<Int>

    init(_ count: Int) { left = Mutex(count) }

    var isOver: Bool { left.withLock { $0 <= 0 } }

    /// Takes one.
    ///
    /// - Returns: whether it was the last.
    func countsLast() -> Bool {
        left.withLock { left in
            left -= 1
            return left == 0
        }
    }
}
