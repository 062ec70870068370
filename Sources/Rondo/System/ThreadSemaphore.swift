import CRondo

/// A counting semaphore for threads that may block.
@safe
package final class ThreadSemaphore: @unchecked Sendable {
    // SAFETY: the C library's semaphore lives as long as this object, and may be used by any thread.
    private let handle: OpaquePointer

    package init() { unsafe handle = rondo_semaphore_create() }
    deinit { unsafe rondo_semaphore_destroy(handle) }

    package func signal() { unsafe rondo_semaphore_post(handle) }

    /// Blocks the thread until there is a signal for it.
    package func wait() { unsafe rondo_semaphore_wait(handle) }

    /// As `wait()`, but not beyond `deadline` (monotonic nanoseconds).
    ///
    /// - Returns: whether there was a signal.
    package func wait(until deadline: UInt64) -> Bool { unsafe rondo_semaphore_wait_until(handle, deadline) != 0 }
}
