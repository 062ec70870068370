/// Something that happens once, and that any number of tasks wait for.
///
/// ```
/// let isReady = AsyncEvent()
/// // one task                        // any others
/// isReady.set()                      try await isReady.wait()
/// ```
///
/// Once it has happened nobody waits any more. It may be used by any task on any loop or thread.
public final class AsyncEvent: Sendable {
    private let room = Waiting(EventMachine<Waiter<Bool>>())

    /// An event that has not happened.
    public init() {}

    /// Whether it has happened.
    public var isSet: Bool { room.withMachine { $0.isSet } }

    /// Tasks that wait now.
    public var waiting: Int { room.withMachine { $0.waiting } }

    /// It has happened: all who wait go on. A second call changes nothing.
    public func set() { room.wake { $0.set() } }

    /// Waits until it has happened.
    ///
    /// - Throws: `CancellationError` if the task was cancelled while it waited.
    public func wait() async throws(CancellationError) {
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        guard let ticket = room.withMachine({ $0.wait() }) else { return }
        if await !room.wait(ticket) { throw CancellationError() }
    }
}
