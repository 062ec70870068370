/// The state of a notifier: at most one notification that nobody has taken, and who waits for one.
struct NotifyMachine<Token>: WaitMachine {
    private(set) var isNotified = false
    private var queue = WaitQueue<Token, Void, Bool>()

    var waiting: Int { queue.count }

    /// - Returns: nil if there was a notification, which is taken now; else where the caller waits.
    mutating func wait() -> WaitTicket? {
        if !isNotified { return queue.join(()) }
        isNotified = false
        return nil
    }

    mutating func park(_ token: Token, at ticket: WaitTicket) -> Bool? { queue.park(token, at: ticket) }

    mutating func notifyOne() -> Wakes<Token, Bool> {
        var wakes = Wakes<Token, Bool>.none
        if queue.isEmpty { isNotified = true } else { wakes.add(queue.answerFirst(true)) }
        return wakes
    }

    mutating func notifyAll() -> Wakes<Token, Bool> { queue.answerAll(true) }

    mutating func cancel(_ ticket: WaitTicket) -> Wakes<Token, Bool> {
        var wakes = Wakes<Token, Bool>.none
        wakes.add(queue.leave(ticket, answer: false)?.wake)
        return wakes
    }
}
