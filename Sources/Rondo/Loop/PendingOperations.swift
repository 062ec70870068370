// Every operation that a driver has been given and has not finished. The table names operations so that no late
// completion can hit a younger one, and it is the only place that resumes a waiting task.
//
// Who owns what, until the last completion: a one-shot operation's buffer and descriptor belong to the async function
// that waits, and that function does not go on before (cancelling only asks); a multishot operation's sink is retained
// here.

import CRondo

/// What a multishot operation's completions go to. It belongs to the loop's thread.
package class CompletionSink: @unchecked Sendable {
    // SAFETY: other threads only pass the reference on, back to the loop's thread.
    /// Takes one completion, in order, on the loop's thread. With `more` false it is the last.
    package func deliver(_ completion: Completion) { crash("a sink without a delivery") }

    /// A completion is near: loads what it will touch.
    package func prefetchWaiter() {}

    /// The task that waits for its news, as an address (0 for none), and the descriptor that they are of.
    package var waiting: (task: UInt, descriptor: Descriptor?) { (0, nil) }
}

/// The table of a loop. It belongs to the loop's thread.
@safe
final class PendingOperations {
    /// What cancelling an entry means.
    @safe
    enum CancelAction {
        /// Nothing: it is over, or is being cancelled already, or has not begun.
        case none
        /// Ask the driver.
        case askDriver
        /// Try to take the call back from the offload pool.
        case takeBack(Unmanaged<OffloadWork>)
    }

    @unsafe
    private struct Entry {
        /// Odd while the slot is in use. 31 bits: drivers reserve the ids above for themselves.
        var generation: UInt32
        var kind: Operation.Kind
        /// What it is on; negative for nothing, or if its sink knows.
        var descriptor: Int32
        var isCancelled: Bool
        var isSubmitted: Bool
        /// The waiting task, if the operation is one-shot.
        var continuation: UnsafeContinuation<Int32, Never>?
        /// Where completions go, if it is multishot; retained.
        var sink: Unmanaged<CompletionSink>?
        /// The call, if it is an offload.
        var work: Unmanaged<OffloadWork>?
        var nextFree: UInt32
    }

    private static let none = UInt32.max
    private var entries: UnsafeMutablePointer<Entry>
    private var capacity: Int
    private var firstFree = PendingOperations.none
    /// Operations that have not finished.
    private(set) var count = 0
    /// Operations begun so far, by the raw values of their kinds.
    private let begunCounts: UnsafeMutablePointer<UInt64>

    init() {
        capacity = 256
        // SAFETY: fresh memory; grow() replaces it, deinit frees it.
        unsafe entries = .allocate(capacity: capacity)
        unsafe begunCounts = .allocate(capacity: Operation.Kind.allCases.count)
        unsafe begunCounts.initialize(repeating: 0, count: Operation.Kind.allCases.count)
        addFree(0..<capacity)
    }

    deinit {
        unsafe entries.deallocate()
        unsafe begunCounts.deallocate()
    }

    /// Operations begun so far.
    // SAFETY: there is a count for each kind, here and below.
    var begun: UInt64 { Operation.Kind.allCases.reduce(0) { $0 &+ (unsafe begunCounts[Int($1.rawValue)]) } }

    var begunByKind: [String: UInt64] {
        var counts: [String: UInt64] = [:]
        for kind in Operation.Kind.allCases {
            let count = unsafe begunCounts[Int(kind.rawValue)]
            if count > 0 { counts["\(kind)"] = count }
        }
        return counts
    }

    /// Takes a slot for an operation that is about to be submitted.
    @inline(__always)
    func reserve(_ kind: Operation.Kind, on descriptor: Descriptor? = nil) -> OperationID {
        if firstFree == Self.none { grow() }
        let slot = firstFree
        // SAFETY: slots in the free list are within the table.
        let entry = unsafe entries + Int(slot)
        unsafe firstFree = entry.pointee.nextFree
        let generation = unsafe (entry.pointee.generation &+ 1) & 0x7fff_ffff
        unsafe entry.pointee.generation = generation
        unsafe entry.pointee.kind = kind
        unsafe entry.pointee.descriptor = descriptor?.rawValue ?? -1
        unsafe entry.pointee.isCancelled = false
        unsafe entry.pointee.isSubmitted = false
        count &+= 1
        unsafe begunCounts[Int(kind.rawValue)] &+= 1
        return OperationID(slot: slot, generation: generation)
    }

    /// Notes who waits, right before the operation is submitted.
    ///
    /// - Returns: false if it was cancelled since `reserve`: then it must not be submitted, and the slot is free again.
    @inline(__always)
    func park(
        _ id: OperationID, _ continuation: UnsafeContinuation<Int32, Never>, work: Unmanaged<OffloadWork>? = nil
    ) -> Bool {
        guard let entry = unsafe find(id) else { crash("parking on an operation that is not reserved") }
        // SAFETY: find answers an entry of the table.
        if unsafe entry.pointee.isCancelled {
            release(id.slot)
            return false
        }
        unsafe entry.pointee.continuation = continuation
        unsafe entry.pointee.work = work
        unsafe entry.pointee.isSubmitted = true
        return true
    }

    /// Notes where the completions of a multishot operation go, right before it is submitted.
    func attach(_ id: OperationID, sink: CompletionSink) {
        guard let entry = unsafe find(id) else { crash("attaching to an operation that is not reserved") }
        // SAFETY: the reference is given back with the last completion.
        unsafe entry.pointee.sink = Unmanaged.passRetained(sink)
        unsafe entry.pointee.isSubmitted = true
    }

    /// Notes the descriptor of an operation that is pending, for those who look; -1 for none.
    ///
    /// - Returns: what the operation is.
    @inline(__always)
    func note(_ descriptor: Int32, of id: OperationID) -> Operation.Kind {
        // SAFETY: an entry of the table, here and below.
        let entry = unsafe pendingEntry(id)
        unsafe entry.pointee.descriptor = descriptor
        return unsafe entry.pointee.kind
    }

    /// What an operation that is pending is, and its descriptor; -1 for none.
    @inline(__always)
    func description(of id: OperationID) -> (kind: Operation.Kind, descriptor: Int32) {
        // SAFETY: an entry of the table.
        let entry = unsafe pendingEntry(id)
        return unsafe (entry.pointee.kind, entry.pointee.descriptor)
    }

    @inline(__always)
    private func pendingEntry(_ id: OperationID) -> UnsafeMutablePointer<Entry> {
        require(Int(id.slot) < capacity, "a look at no operation: \(id.rawValue)")
        // SAFETY: within the table.
        return unsafe entries + Int(id.slot)
    }

    /// Passes a completion on: resumes the task, or tells the sink.
    @inline(__always)
    func finish(_ completion: Completion) {
        let id = completion.operation
        guard let entry = unsafe find(id) else { crash("a completion for no operation: \(id.rawValue)") }
        // SAFETY: find answers an entry of the table; `sink` and `continuation` are used once more at most.
        if let sink = unsafe entry.pointee.sink {
            if completion.more {
                unsafe sink._withUnsafeGuaranteedRef { $0.deliver(completion) }
            } else {
                release(id.slot)
                unsafe sink.takeRetainedValue().deliver(completion)
            }
        } else if let continuation = unsafe entry.pointee.continuation {
            release(id.slot)
            unsafe continuation.resume(returning: completion.result)
        } else {
            crash("nobody waits for operation \(id.rawValue)")
        }
    }

    /// A completion of this operation is near: loads its sink.
    @inline(__always)
    func prefetchSink(of id: OperationID) {
        guard let entry = unsafe find(id), let sink = unsafe entry.pointee.sink else { return }
        // SAFETY: find answers an entry of the table; the address is only a hint.
        let address = unsafe UInt(bitPattern: sink.toOpaque())
        rondo_prefetch(address)
        rondo_prefetch(address &+ 64)
    }

    /// The next one but two is its: loads the task that waits.
    @inline(__always)
    func prefetchWaiter(of id: OperationID) {
        guard let entry = unsafe find(id) else { return }
        // SAFETY: find answers an entry of the table, which keeps its sink.
        if let sink = unsafe entry.pointee.sink {
            unsafe sink._withUnsafeGuaranteedRef { $0.prefetchWaiter() }
        } else if let continuation = unsafe entry.pointee.continuation {
            unsafe prefetchTask(of: continuation)
        }
    }

    /// Notes that the waiting task wants no more of it. A close goes on: its descriptor would stay open.
    func cancel(_ id: OperationID) -> CancelAction {
        guard let entry = unsafe find(id) else { return .none }
        // SAFETY: find answers an entry of the table.
        if unsafe entry.pointee.isCancelled || entry.pointee.kind == .close { return .none }
        unsafe entry.pointee.isCancelled = true
        guard unsafe entry.pointee.isSubmitted else { return .none }
        if let work = unsafe entry.pointee.work { return unsafe .takeBack(work) }
        return .askDriver
    }

    /// The operations that have not finished, for shutting down.
    var unfinished: [OperationID] {
        (0..<UInt32(capacity)).compactMap { slot in
            // SAFETY: below capacity.
            let entry = unsafe entries[Int(slot)]
            return unsafe entry.isSubmitted ? OperationID(slot: slot, generation: entry.generation) : nil
        }
    }

    /// The operations that have not finished, and the task that waits for each: an address, 0 for none.
    func forEachSubmitted(_ body: (Operation.Kind, Descriptor?, _ task: UInt) -> Void) {
        for slot in 0..<capacity {
            // SAFETY: below capacity. A continuation is one pointer, to the task.
            let entry = unsafe entries[slot]
            guard unsafe entry.isSubmitted else { continue }
            if let sink = unsafe entry.sink {
                let (task, descriptor) = unsafe sink._withUnsafeGuaranteedRef { $0.waiting }
                unsafe body(entry.kind, descriptor, task)
            } else if let continuation = unsafe entry.continuation {
                let descriptor = unsafe entry.descriptor < 0 ? nil : Descriptor(rawValue: entry.descriptor)
                unsafe body(entry.kind, descriptor, unsafeBitCast(continuation, to: UInt.self))
            }
        }
    }

    /// What each unfinished operation is.
    func countByKind() -> [Operation.Kind: Int] {
        var counts: [Operation.Kind: Int] = [:]
        // SAFETY: below capacity.
        for slot in 0..<capacity where unsafe entries[slot].isSubmitted {
            unsafe counts[entries[slot].kind, default: 0] += 1
        }
        return counts
    }

    @inline(__always)
    private func find(_ id: OperationID) -> UnsafeMutablePointer<Entry>? {
        guard Int(id.slot) < capacity else { return nil }
        // SAFETY: within the table.
        let entry = unsafe entries + Int(id.slot)
        return unsafe entry.pointee.generation == id.generation ? entry : nil
    }

    @inline(__always)
    private func release(_ slot: UInt32) {
        // SAFETY: a slot in use is within the table.
        let entry = unsafe entries + Int(slot)
        unsafe entry.pointee.generation = (entry.pointee.generation &+ 1) & 0x7fff_ffff
        unsafe entry.pointee.isSubmitted = false
        unsafe entry.pointee.continuation = nil
        unsafe entry.pointee.sink = nil
        unsafe entry.pointee.work = nil
        unsafe entry.pointee.nextFree = firstFree
        firstFree = slot
        count &-= 1
    }

    private func grow() {
        let larger = capacity * 2
        // SAFETY: the entries are plain words; the old memory is given up after they were copied.
        let memory = UnsafeMutablePointer<Entry>.allocate(capacity: larger)
        unsafe memory.moveInitialize(from: entries, count: capacity)
        unsafe entries.deallocate()
        unsafe entries = memory
        let added = capacity..<larger
        capacity = larger
        addFree(added)
    }

    private func addFree(_ slots: Range<Int>) {
        for slot in slots.reversed() {
            // SAFETY: within the table's memory.
            unsafe (entries + slot).initialize(
                to: Entry(
                    generation: 0, kind: .nothing, descriptor: -1, isCancelled: false, isSubmitted: false,
                    continuation: nil,
                    sink: nil, work: nil, nextFree: firstFree))
            firstFree = UInt32(slot)
        }
    }
}
