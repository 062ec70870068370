/// What those who wait for somebody else's attempt are told.
enum OnceAnswer: Sendable {
    /// The value is there.
    case made
    /// It was not made: now it is this one's turn.
    case tryNow
    case cancelled
}

/// The state of a value that is made once: by whom, and who waits for it. It does not know the value.
struct OnceMachine<Token>: WaitMachine {
    private enum Phase { case empty, making, made }
    private var phase = Phase.empty
    private var queue = WaitQueue<Token, Void, OnceAnswer>()

    var isMade: Bool { phase == .made }
    var waiting: Int { queue.count }

    enum Look {
        case made
        /// The caller is to make it, and to say how that went.
        case tryNow
        case mustWait(WaitTicket)
    }

    mutating func look() -> Look {
        switch phase {
        case .made: return .made
        case .making: return .mustWait(queue.join(()))
        case .empty:
            phase = .making
            return .tryNow
        }
    }

    mutating func succeed() -> Wakes<Token, OnceAnswer> {
        require(phase == .making, "a value was made that nobody was to make")
        phase = .made
        return queue.answerAll(.made)
    }

    /// It was not made: the first who waits tries.
    mutating func fail() -> Wakes<Token, OnceAnswer> {
        require(phase == .making, "a value was not made that nobody was to make")
        var wakes = Wakes<Token, OnceAnswer>.none
        if queue.isEmpty { phase = .empty } else { wakes.add(queue.answerFirst(.tryNow)) }
        return wakes
    }

    mutating func park(_ token: Token, at ticket: WaitTicket) -> OnceAnswer? { queue.park(token, at: ticket) }

    mutating func cancel(_ ticket: WaitTicket) -> Wakes<Token, OnceAnswer> {
        var wakes = Wakes<Token, OnceAnswer>.none
        wakes.add(queue.leave(ticket, answer: .cancelled)?.wake)
        return wakes
    }
}
