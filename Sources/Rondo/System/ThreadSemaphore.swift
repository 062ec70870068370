import CRondo

/// A counting semaphore for threads that may block.
@safe
final class ThreadSemaphore: @unchecked Sendable {
    // SAFETY: the C library's semaphore lives as long as this object, and may be used by any thread.
    private let handle: OpaquePointer

    init() { unsafe handle = rondo_semaphore_create() }
    deinit { unsafe rondo_semaphore_destroy(handle) }

    func signal() { unsafe rondo_semaphore_post(handle) }

    /// Blocks the thread until there is a signal for it.
    func wait() { unsafe rondo_semaphore_wait(handle) }
}
