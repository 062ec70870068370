/// The state of a semaphore: permits, and who waits for some.
///
/// Waiters are served strictly in order: one that wants many is not overtaken by one behind it that wants few.
struct SemaphoreMachine<Token>: WaitMachine {
    /// Permits that nobody holds.
    private(set) var available: Int
    private var queue = WaitQueue<Token, Int, Bool>()

    init(permits: Int) { available = permits }

    var waiting: Int { queue.count }

    /// Takes permits, if that overtakes nobody.
    @inline(__always)
    mutating func tryAcquire(_ count: Int) -> Bool {
        guard queue.isEmpty, available >= count else { return false }
        available -= count
        return true
    }

    /// - Returns: nil if the permits are the caller's; else where it waits.
    @inline(__always)
    mutating func acquire(_ count: Int) -> WaitTicket? { tryAcquire(count) ? nil : queue.join(count) }

    mutating func park(_ token: Token, at ticket: WaitTicket) -> Bool? { queue.park(token, at: ticket) }

    @inline(__always)
    mutating func release(_ count: Int) -> Wakes<Token, Bool> {
        available += count
        return queue.isEmpty ? .none : serve()
    }

    mutating func cancel(_ ticket: WaitTicket) -> Wakes<Token, Bool> {
        var wakes = Wakes<Token, Bool>.none
        guard let left = queue.leave(ticket, answer: false) else { return wakes }
        wakes.add(left.wake)
        // Those behind it may want less.
        while let wake = serveFirst() { wakes.add(wake.wake) }
        return wakes
    }

    private mutating func serve() -> Wakes<Token, Bool> {
        var wakes = Wakes<Token, Bool>.none
        while let wake = serveFirst() { wakes.add(wake.wake) }
        return wakes
    }

    /// Gives the first waiter what it wants, if that is there.
    private mutating func serveFirst() -> (served: Void, wake: Wake<Token, Bool>?)? {
        guard let wanted = queue.firstRequest, wanted <= available else { return nil }
        available -= wanted
        return ((), queue.answerFirst(true))
    }
}
