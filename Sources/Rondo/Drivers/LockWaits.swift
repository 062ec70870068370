// Waits for file locks. flock has no asynchronous form and no end but a signal, and it may wait for hours: so each wait
// that really waits has a thread of its own, and no thread of the offload pool is held (docs/decisions/0013).

import CRondo
import Glibc

/// A driver's waits for locks, by the slot of their operation.
struct LockWaits {
    private struct Entry {
        weak var wait: LockWait?
    }
    private var entries: [Entry] = []

    /// Begins to wait. The pool delivers the end, as that of any call.
    mutating func start(_ file: Descriptor, _ flags: Int32, as id: OperationID, pool: OffloadPool) {
        let wait = LockWait()
        // SAFETY: the closure runs once, on the wait's thread.
        let work = OffloadWork { wait.run(file, flags) }
        work.operation = id
        wait.id = id
        let slot = Int(id.slot)
        while entries.count <= slot { entries.append(Entry()) }
        entries[slot].wait = wait
        LockThread(work: work, deliver: pool.deliver).start()
    }

    /// Ends a wait early.
    ///
    /// - Returns: false if there is none with this id.
    func cancel(_ id: OperationID) -> Bool {
        let slot = Int(id.slot)
        guard slot < entries.count, let wait = entries[slot].wait, wait.id == id else { return false }
        wait.cancel()
        return true
    }
}

/// One wait, which its thread holds.
@safe
private final class LockWait: @unchecked Sendable {
    // SAFETY: `id` belongs to the loop's thread; the handle is made to be used by two threads, and lives as long as
    // this.
    var id = OperationID(rawValue: .max)
    private let handle: OpaquePointer

    init() { unsafe handle = rondo_lock_wait_create() }
    deinit { unsafe rondo_lock_wait_destroy(handle) }

    func run(_ file: Descriptor, _ flags: Int32) -> Int32 { unsafe rondo_lock_wait_run(handle, file.rawValue, flags) }
    func cancel() { unsafe rondo_lock_wait_cancel(handle) }
}

/// The thread of one wait.
private final class LockThread: @unchecked Sendable {
    // SAFETY: nothing changes after the thread has started.
    private let work: OffloadWork
    private let deliver: (@Sendable (OffloadWork) -> Void)?

    init(work: OffloadWork, deliver: (@Sendable (OffloadWork) -> Void)?) {
        self.work = work
        self.deliver = deliver
    }

    /// Starts the thread; without one the wait ends with `EAGAIN`.
    func start() {
        var thread = pthread_t()
        // SAFETY: the thread takes over the reference that is passed here.
        let argument = unsafe Unmanaged.passRetained(self)
        let answer = unsafe pthread_create(
            &thread, nil,
            { argument in
                let thread = unsafe Unmanaged<LockThread>.fromOpaque(argument!).takeRetainedValue()
                unsafe rondo_name_thread("rondo-lock")
                thread.main()
                return nil
            }, argument.toOpaque())
        if answer == 0 {
            pthread_detach(thread)
        } else {
            unsafe argument.release()
            let refused = OffloadWork { -answer }
            refused.operation = work.operation
            refused.run()
            deliver?(refused)
        }
    }

    private func main() {
        work.run()
        deliver?(work)
    }
}
