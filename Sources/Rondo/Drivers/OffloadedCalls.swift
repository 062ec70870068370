// Which operations a driver has handed on to the offload pool, so that they can be cancelled there.

/// Calls in the pool by the slot of their operation. Held weakly: a call that has come back leaves by itself.
struct OffloadedCalls {
    private struct Entry {
        weak var work: OffloadWork?
    }
    private var entries: [Entry] = []

    mutating func add(_ work: OffloadWork, as id: OperationID) {
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
