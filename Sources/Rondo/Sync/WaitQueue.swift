// Those who wait, in order: the part that all state machines of this folder share. It knows no tasks and no locks.
//
// A waiter joins first, and parks a moment later, when its task is about to stop. In between it may be answered or
// cancelled already. So a place is in one of three states: queued without a token, queued with one, answered before it
// was parked. Joining, parking, answering and leaving take constant time, and allocate only when more wait than ever.

/// A waiter's number: its place, and how often that place was used before.
struct WaitTicket: Hashable, Sendable {
    let rawValue: UInt64

    @inline(__always)
    init(rawValue: UInt64) { self.rawValue = rawValue }

    @inline(__always)
    fileprivate init(place: Int32, generation: UInt32) {
        rawValue = UInt64(generation) << 32 | UInt64(UInt32(bitPattern: place))
    }

    @inline(__always)
    fileprivate var place: Int32 { Int32(truncatingIfNeeded: rawValue) }
    @inline(__always)
    fileprivate var generation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
}

/// An action: somebody's wait is over, and this is the answer.
struct Wake<Token, Answer> {
    let token: Token
    let answer: Answer
}

/// Actions in the order in which they are to be done. One needs no memory.
enum Wakes<Token, Answer> {
    case none
    case one(Wake<Token, Answer>)
    case many([Wake<Token, Answer>])

    mutating func add(_ wake: Wake<Token, Answer>?) {
        guard let wake else { return }
        switch self {
        case .none: self = .one(wake)
        case .one(let first): self = .many([first, wake])
        case .many(var all):
            self = .none
            all.append(wake)
            self = .many(all)
        }
    }

    @inline(__always)
    func forEach(_ body: (Wake<Token, Answer>) -> Void) {
        switch self {
        case .none: break
        case .one(let wake): body(wake)
        case .many(let all): all.forEach(body)
        }
    }
}

extension Wake: Sendable where Token: Sendable, Answer: Sendable {}
extension Wakes: Sendable where Token: Sendable, Answer: Sendable {}

/// Waiters, first in first out. `Token` is what wakes one, `Request` what it wants, `Answer` what it is told.
struct WaitQueue<Token, Request, Answer> {
    private enum Occupant {
        case nobody
        case queued(Request, Token?)
        case answered(Answer)
    }

    private struct Place {
        var occupant: Occupant
        var generation: UInt32 = 0
        var next: Int32 = -1
        var previous: Int32 = -1
    }

    private var places: [Place] = []
    private var firstFree: Int32 = -1
    private var first: Int32 = -1
    private var last: Int32 = -1
    /// How many wait and were not answered.
    private(set) var count = 0

    @inline(__always)
    var isEmpty: Bool { count == 0 }

    /// What the first one wants; nil if nobody waits.
    @inline(__always)
    var firstRequest: Request? {
        guard count > 0, case .queued(let request, _) = places[Int(first)].occupant else { return nil }
        return request
    }

    /// A new waiter, behind all others.
    mutating func join(_ request: Request) -> WaitTicket {
        let index: Int32
        if firstFree >= 0 {
            index = firstFree
            firstFree = places[Int(index)].next
            places[Int(index)].occupant = .queued(request, nil)
        } else {
            index = Int32(places.count)
            places.append(Place(occupant: .queued(request, nil)))
        }
        places[Int(index)].next = -1
        places[Int(index)].previous = last
        if last >= 0 { places[Int(last)].next = index } else { first = index }
        last = index
        count += 1
        return WaitTicket(place: index, generation: places[Int(index)].generation)
    }

    /// The waiter's task is about to stop.
    ///
    /// - Returns: the answer if there is one already; then nobody keeps the token.
    mutating func park(_ token: Token, at ticket: WaitTicket) -> Answer? {
        require(isInUse(ticket), "a task parked at a place that is not its own")
        switch places[Int(ticket.place)].occupant {
        case .queued(let request, _):
            places[Int(ticket.place)].occupant = .queued(request, token)
            return nil
        case .answered(let answer):
            free(ticket.place)
            return answer
        case .nobody: crash("a task parked at a place that is free")
        }
    }

    /// Answers the first waiter.
    ///
    /// - Returns: whom to wake; nil if it has not parked yet: then it is told when it does.
    @discardableResult
    mutating func answerFirst(_ answer: Answer) -> Wake<Token, Answer>? {
        require(count > 0, "there is nobody to answer")
        return self.answer(first, answer)
    }

    /// Answers all who wait now.
    mutating func answerAll(_ answer: Answer) -> Wakes<Token, Answer> {
        var wakes = Wakes<Token, Answer>.none
        while count > 0 { wakes.add(answerFirst(answer)) }
        return wakes
    }

    /// A waiter gives up and gets `answer`.
    ///
    /// - Returns: what it wanted, and whom to wake; nil if it was answered before, or its wait is over.
    mutating func leave(_ ticket: WaitTicket, answer: Answer) -> (request: Request, wake: Wake<Token, Answer>?)? {
        guard isInUse(ticket), case .queued(let request, _) = places[Int(ticket.place)].occupant else { return nil }
        return (request, self.answer(ticket.place, answer))
    }

    private func isInUse(_ ticket: WaitTicket) -> Bool {
        Int(ticket.place) < places.count && places[Int(ticket.place)].generation == ticket.generation
    }

    private mutating func answer(_ index: Int32, _ answer: Answer) -> Wake<Token, Answer>? {
        let place = places[Int(index)]
        guard case .queued(_, let token) = place.occupant else { crash("a waiter was answered twice") }
        if place.previous >= 0 { places[Int(place.previous)].next = place.next } else { first = place.next }
        if place.next >= 0 { places[Int(place.next)].previous = place.previous } else { last = place.previous }
        count -= 1
        guard let token else {
            places[Int(index)].occupant = .answered(answer)
            return nil
        }
        free(index)
        return Wake(token: token, answer: answer)
    }

    private mutating func free(_ index: Int32) {
        places[Int(index)].occupant = .nobody
        places[Int(index)].generation &+= 1
        places[Int(index)].next = firstFree
        firstFree = index
    }
}
