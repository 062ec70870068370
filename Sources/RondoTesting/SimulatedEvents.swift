// What is still to happen in a simulated world, by time. Equal times keep the order in which they were set.

/// Something that will happen.
final class SimulatedEvent {
    let time: UInt64
    fileprivate let order: UInt64
    /// What it does; nil once it has happened or was cancelled.
    fileprivate var action: (() -> Void)?

    fileprivate init(time: UInt64, order: UInt64, action: @escaping () -> Void) {
        self.time = time
        self.order = order
        self.action = action
    }

    fileprivate var isBefore: (UInt64, UInt64) { (time, order) }

    /// It will not happen, and time will not move for its sake.
    func cancel() { action = nil }
}

/// The events to come: a binary heap.
struct SimulatedEvents {
    private var heap: [SimulatedEvent] = []
    /// Events set so far.
    private var total: UInt64 = 0

    mutating func add(at time: UInt64, _ action: @escaping () -> Void) -> SimulatedEvent {
        total += 1
        let event = SimulatedEvent(time: time, order: total, action: action)
        heap.append(event)
        var child = heap.count - 1
        while child > 0 {
            let parent = (child - 1) / 2
            if heap[parent].isBefore < heap[child].isBefore { break }
            heap.swapAt(parent, child)
            child = parent
        }
        return event
    }

    /// When the next event will happen; nil if there is none.
    mutating func nextTime() -> UInt64? {
        while let first = heap.first, first.action == nil { removeFirst() }
        return heap.first?.time
    }

    /// Takes the action of the next event that is due.
    mutating func takeDue(at now: UInt64) -> (() -> Void)? {
        guard let time = nextTime(), time <= now else { return nil }
        let first = heap[0]
        removeFirst()
        let action = first.action
        first.action = nil
        return action
    }

    private mutating func removeFirst() {
        heap.swapAt(0, heap.count - 1)
        heap.removeLast()
        var parent = 0
        while true {
            var smallest = parent
            for child in [2 * parent + 1, 2 * parent + 2] where child < heap.count {
                if heap[child].isBefore < heap[smallest].isBefore { smallest = child }
            }
            if smallest == parent { return }
            heap.swapAt(parent, smallest)
            parent = smallest
        }
    }
}
