/// A value that one task at a time may touch, across `await`s.
///
/// ```
/// let session = AsyncMutex(Session())
/// try await session.withLock { session in
///     if session.isExpired { session.token = try await logIn() }
/// }
/// ```
///
/// Who unlocks hands the value over to the first who waits: nobody barges in. A critical section without an `await` is
/// better served by `Synchronization.Mutex`. A task that locks what it has locked waits for itself.
@safe
public final class AsyncMutex<Value>: @unchecked Sendable {
    // SAFETY: the value is touched by the holder of the one permit, and its memory lives as long as this. The value was
    // sent in, and `sending` keeps it from getting out.
    private let room = Waiting(SemaphoreMachine<Waiter<Bool>>(permits: 1))
    private let value: UnsafeMutablePointer<Value>

    /// Protects a value, which nobody else may hold.
    public init(_ value: consuming sending Value) {
        unsafe self.value = .allocate(capacity: 1)
        unsafe self.value.initialize(to: value)
    }

    deinit {
        unsafe value.deinitialize(count: 1)
        unsafe value.deallocate()
    }

    /// Whether a task is inside now.
    public var isLocked: Bool { room.withMachine { $0.available == 0 } }

    /// Tasks that wait now.
    public var waiting: Int { room.withMachine { $0.waiting } }

    /// Waits for its turn, then runs `body` while no other task is inside.
    ///
    /// - Throws: what `body` throws, or `CancellationError` if the task was cancelled while it waited.
    public func withLock<Result>(
        _ body: (inout sending Value) async throws -> sending Result
    ) async throws -> sending Result {
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        if let ticket = room.withMachine({ $0.acquire(1) }), await !room.wait(ticket) { throw CancellationError() }
        defer { room.wake { $0.release(1) } }
        return unsafe try await body(&value.pointee)
    }

    /// Runs `body` if no other task is inside or waits.
    ///
    /// - Returns: nil if one is.
    public func withLockIfAvailable<Result, Failure>(
        _ body: (inout sending Value) throws(Failure) -> sending Result
    ) throws(Failure) -> sending Result? {
        guard room.withMachine({ $0.tryAcquire(1) }) else { return nil }
        defer { room.wake { $0.release(1) } }
        return unsafe try body(&value.pointee)
    }
}
