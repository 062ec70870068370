/// The state of an event: whether it has happened, and who waits for it.
struct EventMachine<Token>: WaitMachine {
    private(set) var isSet = false
    private var queue = WaitQueue<Token, Void, Bool>()

    var waiting: Int { queue.count }

    /// - Returns: nil if it has happened; else where the caller waits.
    mutating func wait() -> WaitTicket? { isSet ? nil : queue.join(()) }

    mutating func park(_ token: Token, at ticket: WaitTicket) -> Bool? { queue.park(token, at: ticket) }

    mutating func set() -> Wakes<Token, Bool> {
        isSet = true
        return queue.answerAll(true)
    }

    mutating func cancel(_ ticket: WaitTicket) -> Wakes<Token, Bool> {
        var wakes = Wakes<Token, Bool>.none
        wakes.add(queue.leave(ticket, answer: false)?.wake)
        return wakes
    }
}
