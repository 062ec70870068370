import CRondo
import Synchronization

/// How other threads end a simulation's wait. One ring is kept until it is heard.
@safe
final class SimulationBell: Sendable {
    // SAFETY: the semaphore is the C library's, for any thread; it is destroyed when nobody holds the bell any more.
    private nonisolated(unsafe) let semaphore: OpaquePointer
    /// Whether somebody has rung; the semaphore is then posted, once.
    private let isRinging = Atomic<Bool>(false)

    init() { unsafe semaphore = rondo_semaphore_create() }

    deinit { unsafe rondo_semaphore_destroy(semaphore) }

    /// From any thread.
    func ring() {
        if !isRinging.exchange(true, ordering: .acquiringAndReleasing) { unsafe rondo_semaphore_post(semaphore) }
    }

    /// Whether somebody has rung. On the simulation's thread.
    func takeRing() -> Bool {
        guard isRinging.load(ordering: .acquiring) else { return false }
        waitForRing()
        return true
    }

    /// Waits until somebody rings. On the simulation's thread.
    func waitForRing() {
        unsafe rondo_semaphore_wait(semaphore)
        isRinging.store(false, ordering: .releasing)
    }
}
