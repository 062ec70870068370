// What the parts of a simulation share: the time, the events to come, the seed's numbers, the open descriptors, and the
// way in which operations end. It belongs to the simulation's thread.

import CRondoTesting
import Glibc
import Rondo

@safe
final class SimulatedWorld: @unchecked Sendable {
    // SAFETY: every property belongs to the simulation's thread. The closures that hold a world (makeDriver, tieBreak)
    // are called there.

    /// Virtual time at the start. Not 0, so that a subtraction that goes wrong shows.
    static let startTime: UInt64 = 1_000_000_000

    let seed: UInt64
    let options: SimulationOptions
    /// The present. It moves only while the loop waits.
    private(set) var now = SimulatedWorld.startTime
    /// What will happen.
    var events = SimulatedEvents()
    /// What has happened and decided.
    private(set) var trace: SimulationTrace
    var descriptors: SimulatedDescriptors
    let receiveBuffers: ReceiveBuffers

    /// One stream of numbers for each purpose: another latency of a file then changes no order of jobs.
    private var orderNumbers: SeededGenerator
    private var cancelNumbers: SeededGenerator
    var offloadNumbers: SeededGenerator

    /// Operations that are not over. Looked up, never walked in the dictionary's order.
    private var operations: [OperationID: SimulatedOperation] = [:]
    private var submitted: UInt64 = 0
    /// Completions that the loop has not taken yet, and where the next one is.
    private var completions: [(completion: Completion, kind: Operation.Kind)] = []
    private var nextCompletion = 0

    init(seed: UInt64, options: SimulationOptions) {
        self.seed = seed
        self.options = options
        trace = SimulationTrace(keepsSteps: options.keepsTrace)
        descriptors = SimulatedDescriptors(limit: options.descriptorLimit)
        receiveBuffers = ReceiveBuffers(
            bufferSize: options.receiveBufferSize, initialCount: min(16, options.receiveBufferLimit),
            capacity: options.receiveBufferLimit)
        orderNumbers = Self.numbers(seed, purpose: 1)
        cancelNumbers = Self.numbers(seed, purpose: 2)
        offloadNumbers = Self.numbers(seed, purpose: 3)
    }

    /// The stream of a seed's numbers for one purpose.
    static func numbers(_ seed: UInt64, purpose: UInt64) -> SeededGenerator {
        var mixer = SeededGenerator(seed: seed ^ purpose &* 0xd6e8_feb8_6659_fd93)
        return SeededGenerator(seed: mixer.next())
    }

    // MARK: Time

    /// Moves the time, and the clocks that this thread sees.
    func advance(to time: UInt64) {
        require(time >= now, "virtual time went from \(now) back to \(time)")
        now = time
        rondo_set_virtual_nanoseconds(time)
    }

    /// Lets something happen after a while.
    @discardableResult
    func after(_ nanoseconds: UInt64, _ action: @escaping () -> Void) -> SimulatedEvent {
        events.add(at: now + nanoseconds, action)
    }

    /// Lets happen what is due.
    func happen() {
        while let action = events.takeDue(at: now) { action() }
    }

    // MARK: Order

    /// Which of the ready jobs runs.
    func pick(of candidates: Int) -> Int {
        var choice = 0
        if options.order == .seeded, candidates > 1 { choice = Int(orderNumbers.below(UInt64(candidates))) }
        trace.add(pick: choice, of: candidates, at: now)
        return choice
    }

    // MARK: Operations

    /// Notes an operation that has begun.
    func begin(_ request: Operation, as id: OperationID) -> SimulatedOperation {
        let object = unsafe request.descriptor.flatMap { descriptors[$0] }
        submitted += 1
        let operation = unsafe SimulatedOperation(
            request, id: id, object: unsafe request.kind == .close ? nil : object, number: submitted)
        if let descriptor = operation.descriptor { descriptors.count(1, on: descriptor) }
        require(operations.updateValue(operation, forKey: id) == nil, "two operations have one id: \(id.rawValue)")
        return operation
    }

    /// The last completion of an operation.
    func complete(_ operation: SimulatedOperation, _ result: Int32) {
        require(!operation.isOver, "\(operation.description) completed twice")
        operation.isOver = true
        operation.step?.cancel()
        operation.leaveQueue?()
        operation.leaveQueue = nil
        if let descriptor = operation.descriptor { descriptors.count(-1, on: descriptor) }
        operations[operation.id] = nil
        completions.append((Completion(operation: operation.id, result: result), operation.kind))
    }

    /// Forgets an operation that the loop has finished by itself.
    func forget(_ operation: SimulatedOperation) {
        operation.isOver = true
        operations[operation.id] = nil
    }

    /// One completion of many.
    func answer(_ operation: SimulatedOperation, _ result: Int32, slice: BufferSlice = .none) {
        completions.append(
            (Completion(operation: operation.id, result: result, more: true, slice: slice), operation.kind))
    }

    /// Asks for an early end. The request takes a while in which the operation may end by itself.
    func cancel(_ id: OperationID) {
        guard let operation = operations[id], !operation.isCancelled else { return }
        // What the real drivers can't stop: a close, and a call that a thread may be running.
        if operation.kind == .close || operation.kind == .offload { return }
        operation.isCancelled = true
        let delay = cancelNumbers.chance(oneIn: 2) ? 0 : cancelNumbers.nanoseconds(in: options.cancelLatency)
        after(delay) { [unowned self] in
            if !operation.isOver { complete(operation, operation.resultWhenCancelled) }
        }
    }

    var hasCompletions: Bool { nextCompletion < completions.count }

    /// The oldest completion that has not been taken.
    func takeCompletion() -> Completion? {
        guard hasCompletions else { return nil }
        let (completion, kind) = completions[nextCompletion]
        nextCompletion += 1
        if nextCompletion == completions.count {
            completions.removeAll(keepingCapacity: true)
            nextCompletion = 0
        }
        trace.add(completion, of: kind, at: now)
        return completion
    }

    /// What is still waited for, oldest first.
    var pending: [String] {
        operations.values.sorted { $0.number < $1.number }.map(\.description)
    }
}
