import CRondo

/// A semaphore for tests that block threads on purpose.
@safe
final class TestSemaphore: @unchecked Sendable {
    // SAFETY: the C library's semaphore, for any thread.
    private let semaphore: OpaquePointer
    init() { unsafe semaphore = rondo_semaphore_create() }
    deinit { unsafe rondo_semaphore_destroy(semaphore) }
    func post() { unsafe rondo_semaphore_post(semaphore) }
    func wait() { unsafe rondo_semaphore_wait(semaphore) }
}
