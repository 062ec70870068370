/// What those who wait for a change are told. They look at the value themselves: it may be newer by then.
enum WatchAnswer: Sendable { case changed, finished, cancelled }

/// The state of a watched value: its version, and who waits for a newer one. It does not know the value.
struct WatchMachine<Token>: WaitMachine {
    /// 1 for the first value.
    private(set) var version: UInt64 = 1
    private(set) var isFinished = false
    private var queue = WaitQueue<Token, Void, WatchAnswer>()

    var waiting: Int { queue.count }

    enum Look {
        /// There is a version that the caller has not seen.
        case changed
        case finished
        case mustWait(WaitTicket)
    }

    /// - Parameter seen: the version that the caller has seen; 0 for none.
    mutating func look(seen: UInt64) -> Look {
        if version > seen { return .changed }
        return isFinished ? .finished : .mustWait(queue.join(()))
    }

    mutating func park(_ token: Token, at ticket: WaitTicket) -> WatchAnswer? { queue.park(token, at: ticket) }

    /// - Returns: whom to wake; nil if it is finished, and the value stays.
    mutating func update() -> Wakes<Token, WatchAnswer>? {
        if isFinished { return nil }
        version += 1
        return queue.answerAll(.changed)
    }

    mutating func finish() -> Wakes<Token, WatchAnswer> {
        isFinished = true
        return queue.answerAll(.finished)
    }

    mutating func cancel(_ ticket: WaitTicket) -> Wakes<Token, WatchAnswer> {
        var wakes = Wakes<Token, WatchAnswer>.none
        wakes.add(queue.leave(ticket, answer: .cancelled)?.wake)
        return wakes
    }
}
