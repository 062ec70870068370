/// What those who wait behind the first are told.
enum RateAnswer: Sendable {
    /// Everybody before it is gone: it is the first now.
    case first
    case cancelled
}

/// The state of a rate limiter: a bucket that fills with time, and who waits.
///
/// The first who waits sleeps until the bucket holds what it wants; the others wait for their turn to be first. Nothing
/// is rounded: the bucket counts in nanoseconds times permits.
struct RateMachine<Token>: WaitMachine {
    /// Permits that come in a period.
    private let permits: Int128
    /// The period in nanoseconds: what one permit costs.
    private let cost: Int128
    private let full: Int128
    private var level: Int128
    /// The time up to which the bucket was filled.
    private var time: UInt64
    /// Whether somebody is the first.
    private var hasFirst = false
    private var queue = WaitQueue<Token, Void, RateAnswer>()

    /// - Parameter time: now, in nanoseconds of a clock that all calls share.
    init(permits: Int, periodNanoseconds: UInt64, burst: Int, time: UInt64) {
        self.permits = Int128(permits)
        cost = Int128(periodNanoseconds)
        full = Int128(burst) * Int128(periodNanoseconds)
        level = full
        self.time = time
    }

    /// Those that wait behind the first, and that one.
    var waiting: Int { queue.count + (hasFirst ? 1 : 0) }

    /// Whole permits in the bucket.
    mutating func available(at now: UInt64) -> Int {
        fill(now)
        return Int(level / cost)
    }

    /// Takes permits, if that overtakes nobody.
    mutating func tryAcquire(_ count: Int, at now: UInt64) -> Bool { !hasFirst && take(count, now) == nil }

    enum Acquiring {
        case granted
        /// The caller is the first, and tries again at this time.
        case mustSleep(until: UInt64)
        case mustWait(WaitTicket)
    }

    mutating func acquire(_ count: Int, at now: UInt64) -> Acquiring {
        if hasFirst { return .mustWait(queue.join(())) }
        guard let deadline = take(count, now) else { return .granted }
        hasFirst = true
        return .mustSleep(until: deadline)
    }

    enum Retrying {
        case granted(Wakes<Token, RateAnswer>)
        case mustSleep(until: UInt64)
    }

    /// The first tries.
    mutating func retry(_ count: Int, at now: UInt64) -> Retrying {
        if let deadline = take(count, now) { return .mustSleep(until: deadline) }
        return .granted(leave())
    }

    /// The first is done, or gives up: the next is the first.
    mutating func leave() -> Wakes<Token, RateAnswer> {
        require(hasFirst, "a rate limiter was left by nobody")
        var wakes = Wakes<Token, RateAnswer>.none
        if queue.isEmpty { hasFirst = false } else { wakes.add(queue.answerFirst(.first)) }
        return wakes
    }

    mutating func park(_ token: Token, at ticket: WaitTicket) -> RateAnswer? { queue.park(token, at: ticket) }

    mutating func cancel(_ ticket: WaitTicket) -> Wakes<Token, RateAnswer> {
        var wakes = Wakes<Token, RateAnswer>.none
        wakes.add(queue.leave(ticket, answer: .cancelled)?.wake)
        return wakes
    }

    /// - Returns: nil if the permits were taken; else when they will be there.
    private mutating func take(_ count: Int, _ now: UInt64) -> UInt64? {
        fill(now)
        let price = Int128(count) * cost
        if level >= price {
            level -= price
            return nil
        }
        return time + UInt64((price - level + permits - 1) / permits)
    }

    private mutating func fill(_ now: UInt64) {
        if now <= time { return }
        level = min(full, level + Int128(now - time) * permits)
        time = now
    }
}

extension RateMachine.Retrying: Sendable where Token: Sendable {}
