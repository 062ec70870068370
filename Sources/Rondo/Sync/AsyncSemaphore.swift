/// Permits that tasks hold for a while: at most so many at once.
///
/// ```
/// let downloads = AsyncSemaphore(permits: 8)
/// try await downloads.withPermit { try await download(url) }
/// ```
///
/// Waiters are served strictly in order. It may be used by any task on any loop or thread; whoever waits goes on where
/// it ran before. Taking and giving back a permit that is free allocates nothing and waits for nobody.
///
/// Cancellation ends a wait, at once, and loses no permit; a permit that is free is given even to a cancelled task.
public final class AsyncSemaphore: Sendable {
    private let room: Waiting<SemaphoreMachine<Waiter<Bool>>>

    /// A semaphore with so many permits to begin with.
    public init(permits: Int) {
        require(permits >= 0, "a semaphore can't have \(permits) permits")
        room = Waiting(SemaphoreMachine(permits: permits))
    }

    /// Permits that are free now.
    public var available: Int { room.withMachine { $0.available } }

    /// Tasks that wait now.
    public var waiting: Int { room.withMachine { $0.waiting } }

    /// Takes `count` permits, all at once, and waits until they are there.
    ///
    /// Each must be given back with ``release(_:)``: ``withPermits(_:_:)`` does that by itself.
    ///
    /// - Throws: `CancellationError` if the task was cancelled while it waited. It then holds no permit.
    public func acquire(_ count: Int = 1) async throws(CancellationError) {
        require(count > 0, "\(count) permits can't be acquired")
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        guard let ticket = room.withMachine({ $0.acquire(count) }) else { return }
        if await !room.wait(ticket) { throw CancellationError() }
    }

    /// Takes `count` permits if they are free and nobody waits.
    public func tryAcquire(_ count: Int = 1) -> Bool {
        require(count > 0, "\(count) permits can't be acquired")
        return room.withMachine { $0.tryAcquire(count) }
    }

    /// Gives permits back, or adds new ones.
    public func release(_ count: Int = 1) {
        require(count > 0, "\(count) permits can't be released")
        room.wake { $0.release(count) }
    }

    /// Runs `body` with a permit, and gives it back.
    ///
    /// - Throws: what `body` throws, or `CancellationError` if the task was cancelled while it waited for the permit.
    public func withPermit<Result>(_ body: () async throws -> Result) async throws -> Result {
        try await withPermits(1, body)
    }

    /// Runs `body` with `count` permits, taken all at once, and gives them back.
    ///
    /// - Throws: what `body` throws, or `CancellationError` if the task was cancelled while it waited for the permits.
    public func withPermits<Result>(_ count: Int, _ body: () async throws -> Result) async throws -> Result {
        try await acquire(count)
        defer { release(count) }
        return try await body()
    }
}
