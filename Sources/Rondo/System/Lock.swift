// One lock, for what threads must share and can't hand over. Not `Synchronization.Mutex`: the slow path of that is
// inside the Swift runtime, where ThreadSanitizer does not see it, and takes every contended use for a race.

import Glibc

/// State that one thread at a time may touch.
@safe
package final class Lock<State>: @unchecked Sendable {
    // SAFETY: `state` is touched between lock and unlock only. The mutex never moves, and lives as long as this.

    private var state: State
    private let mutex: UnsafeMutablePointer<pthread_mutex_t>

    package init(_ state: sending State) {
        self.state = state
        unsafe mutex = .allocate(capacity: 1)
        let answer = unsafe pthread_mutex_init(mutex, nil)
        require(answer == 0, "no mutex: errno \(answer)")
    }

    deinit {
        unsafe pthread_mutex_destroy(mutex)
        unsafe mutex.deallocate()
    }

    /// Runs `body` while no other thread is in here. It must be short, and must not come here again.
    package func withLock<Result, Failure>(
        _ body: (inout State) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result {
        unsafe pthread_mutex_lock(mutex)
        defer { unsafe pthread_mutex_unlock(mutex) }
        return try body(&state)
    }
}
