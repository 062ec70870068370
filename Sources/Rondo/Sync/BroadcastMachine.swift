// The state of a broadcast: a ring of the last values by number, who must still see each, and how far every subscriber
// is. It does not know the values: number n stands in the storage's slot n modulo the capacity.

/// What those who wait for a value are told. They look again then.
enum BroadcastAnswer: Sendable { case look, cancelled }

/// A broadcast's state.
struct BroadcastMachine<Token>: WaitMachine {
    private struct Subscriber {
        /// The number of the next value that it will see; nil if this place is free.
        var next: UInt64?
    }

    let capacity: Int
    private var subscribers: [Subscriber] = []
    private var freeSubscribers: [Int] = []
    /// How many must still see a value, by slot. An older value has never more than a newer one.
    private var missing: [Int]
    /// The numbers of the values that are kept.
    private(set) var kept: Range<UInt64> = 0..<0
    private(set) var isFinished = false
    private var queue = WaitQueue<Token, Void, BroadcastAnswer>()

    init(capacity: Int) {
        self.capacity = capacity
        missing = Array(repeating: 0, count: capacity)
    }

    var waiting: Int { queue.count }
    var subscriberCount: Int { subscribers.count - freeSubscribers.count }

    func slot(of number: UInt64) -> Int { Int(number % UInt64(capacity)) }

    // MARK: Sending

    struct Sending {
        /// Whose value is to be taken out first, as somebody has missed it.
        var dropped: Int?
        /// Where the new value is to be put; nil if nobody would see it.
        var slot: Int?
        var wakes: Wakes<Token, BroadcastAnswer>
    }

    /// - Returns: nil if it is finished.
    mutating func send() -> Sending? {
        if isFinished { return nil }
        var sending = Sending(wakes: .none)
        if subscriberCount == 0 { return sending }
        if kept.count == capacity {
            sending.dropped = slot(of: kept.lowerBound)
            kept = kept.lowerBound + 1..<kept.upperBound
        }
        let slot = slot(of: kept.upperBound)
        missing[slot] = subscriberCount
        kept = kept.lowerBound..<kept.upperBound + 1
        sending.slot = slot
        sending.wakes = queue.answerAll(.look)
        return sending
    }

    mutating func finish() -> Wakes<Token, BroadcastAnswer> {
        isFinished = true
        return queue.answerAll(.look)
    }

    // MARK: Subscribers

    mutating func subscribe() -> Int {
        let subscriber = Subscriber(next: kept.upperBound)
        guard let place = freeSubscribers.popLast() else {
            subscribers.append(subscriber)
            return subscribers.count - 1
        }
        subscribers[place] = subscriber
        return place
    }

    /// - Returns: the slots whose values are to be taken out, as nobody else must see them.
    mutating func unsubscribe(_ place: Int) -> [Int] {
        guard let next = subscribers[place].next else { crash("a broadcast's subscriber left twice") }
        subscribers[place].next = nil
        freeSubscribers.append(place)
        let unseen = max(next, kept.lowerBound)..<kept.upperBound
        for number in unseen { missing[slot(of: number)] -= 1 }
        var dropped: [Int] = []
        while let number = kept.first, missing[slot(of: number)] == 0 {
            dropped.append(slot(of: number))
            kept = number + 1..<kept.upperBound
        }
        return dropped
    }

    enum Look {
        /// The value in this slot; to be taken out if nobody else must see it.
        case value(slot: Int, isLast: Bool)
        /// So many values were dropped before this subscriber came to see them.
        case missed(Int)
        case finished
        case empty
    }

    mutating func look(_ place: Int) -> Look {
        guard let next = subscribers[place].next else { crash("a broadcast's subscriber came back") }
        if next < kept.lowerBound {
            subscribers[place].next = kept.lowerBound
            return .missed(Int(kept.lowerBound - next))
        }
        if next == kept.upperBound { return isFinished ? .finished : .empty }
        subscribers[place].next = next + 1
        let slot = slot(of: next)
        missing[slot] -= 1
        if missing[slot] > 0 { return .value(slot: slot, isLast: false) }
        require(next == kept.lowerBound, "a broadcast keeps a value that everybody has seen")
        kept = next + 1..<kept.upperBound
        return .value(slot: slot, isLast: true)
    }

    // MARK: Waiting

    mutating func wait() -> WaitTicket { queue.join(()) }

    mutating func park(_ token: Token, at ticket: WaitTicket) -> BroadcastAnswer? { queue.park(token, at: ticket) }

    mutating func cancel(_ ticket: WaitTicket) -> Wakes<Token, BroadcastAnswer> {
        var wakes = Wakes<Token, BroadcastAnswer>.none
        wakes.add(queue.leave(ticket, answer: .cancelled)?.wake)
        return wakes
    }
}

extension BroadcastMachine.Sending: Sendable where Token: Sendable {}
