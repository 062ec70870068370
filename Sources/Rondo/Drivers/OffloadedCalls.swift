// Which operations a driver has handed on to the offload pool, so that they can be cancelled there.

/// Calls in the pool by the slot of their operation. Held weakly: a call that has come back leaves by itself.
struct OffloadedCalls {
    private struct Entry {
        weak var work: OffloadWork?
    }
    private var entries: [Entry] = []
    private var lockWaits = LockWaits()

    /// Has a file operation carried out: by a thread of the pool, or by one of its own if it waits for a lock.
    mutating func submit(_ operation: Operation, as id: OperationID, to pool: OffloadPool) {
        // SAFETY: pointers in an operation live until its completion; only the worker uses them until then.
        if case .file(.lock(let file, let flags)) = unsafe operation, unsafe operation.waitsForLock {
            return lockWaits.start(file, flags, as: id, pool: pool)
        }
        nonisolated(unsafe) let operation = unsafe operation
        let work = OffloadWork { unsafe operation.performBlocking() }
        add(work, as: id)
        pool.submit(work)
    }

    /// Ends a wait for a lock early.
    ///
    /// - Returns: false if the operation is none.
    func cancelLockWait(_ id: OperationID) -> Bool { lockWaits.cancel(id) }

    private mutating func add(_ work: OffloadWork, as id: OperationID) {
        work.operation = id
        let slot = Int(id.slot)
        while entries.count <= slot { entries.append(Entry()) }
        entries[slot].work = work
    }

    /// The call that carries an operation out, until it has come back.
    func call(of id: OperationID) -> OffloadWork? {
        let slot = Int(id.slot)
        guard slot < entries.count, let work = entries[slot].work, work.operation == id else { return nil }
        return work
    }
}
