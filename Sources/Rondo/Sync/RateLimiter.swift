/// Lets so many through in a span of time, and makes the others wait: a token bucket.
///
/// ```
/// let requests = RateLimiter(rate: 50, per: .seconds(1), burst: 10)
/// try await requests.acquire()      // at most 50 a second, and 10 at once after a pause
/// ```
///
/// Permits come evenly: one every fiftieth of a second here, rounded to nothing. Who waits is served strictly in order,
/// and sleeps on its loop's timers, so virtual time works; outside of a loop on Swift's own. It may be used by any task
/// on any loop or thread.
///
/// Cancellation ends a wait, at once, and loses no permit: those behind move up.
public final class RateLimiter: Sendable {
    private let room: Waiting<RateMachine<Waiter<RateAnswer>>>
    private let start = ContinuousClock.now
    private let burst: Int

    /// A limiter whose bucket is full.
    ///
    /// - Parameters:
    ///   - rate: permits that come in each period.
    ///   - period: how long a period is.
    ///   - burst: the most permits that can be saved up, and the most that one call can take.
    public init(rate: Int, per period: Duration = .seconds(1), burst: Int = 1) {
        require(rate > 0 && burst > 0 && period > .zero, "a rate limiter needs a rate, a period and a burst above 0")
        self.burst = burst
        room = Waiting(
            RateMachine(permits: rate, periodNanoseconds: period.nanosecondsRoundedUp, burst: burst, time: 0))
    }

    /// Whole permits that could be taken now, if nobody waits.
    public var available: Int { room.withMachine { [now] in $0.available(at: now) } }

    /// Tasks that wait now.
    public var waiting: Int { room.withMachine { $0.waiting } }

    /// Takes `count` permits, and waits until they have come.
    ///
    /// - Throws: `CancellationError` if the task was cancelled while it waited. It has taken no permit then.
    public func acquire(_ count: Int = 1) async throws(CancellationError) {
        check(count)
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        let now = now
        switch room.withMachine({ $0.acquire(count, at: now) }) {
        case .granted: return
        case .mustSleep(let deadline): try await waitAsFirst(for: count, until: deadline)
        case .mustWait(let ticket):
            if await room.wait(ticket) == .cancelled { throw CancellationError() }
            try await waitAsFirst(for: count, until: nil)
        }
    }

    /// Takes `count` permits if they are there and nobody waits.
    public func tryAcquire(_ count: Int = 1) -> Bool {
        check(count)
        let now = now
        return room.withMachine { $0.tryAcquire(count, at: now) }
    }

    /// Sleeps until the permits have come, and lets the next one be the first.
    private func waitAsFirst(for count: Int, until deadline: UInt64?) async throws(CancellationError) {
        var deadline = deadline
        while true {
            if let deadline {
                do {
                    try await Task.sleep(
                        until: start + .nanoseconds(Int64(clamping: deadline)), clock: .continuous)
                } catch {
                    room.wake { $0.leave() }
                    throw CancellationError()
                }
            }
            let now = now
            switch room.withMachine({ $0.retry(count, at: now) }) {
            case .granted(let wakes): return wakes.perform()
            case .mustSleep(let next): deadline = next
            }
        }
    }

    /// Nanoseconds since this limiter was made, on the clock that a loop's timers run on.
    private var now: UInt64 { start.duration(to: .now).nanosecondsRoundedUp }

    private func check(_ count: Int) {
        require(
            (1...burst).contains(count), "\(count) permits can't be taken from a rate limiter with a burst of \(burst)")
    }
}
