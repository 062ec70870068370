/// Wakes tasks that wait for news about something that they share.
///
/// ```
/// // a worker                                  // whoever has work
/// while true {                                 tasks.withLock { $0.append(task) }
///     while let task = tasks.take() { … }      news.notifyOne()
///     try await news.wait()
/// }
/// ```
///
/// A notification that comes while nobody waits is kept, one of them, for the next who waits: so none is missed between
/// looking and waiting. It may be used by any task on any loop or thread.
public final class Notify: Sendable {
    private let room = Waiting(NotifyMachine<Waiter<Bool>>())

    /// A notifier without a notification.
    public init() {}

    /// Tasks that wait now.
    public var waiting: Int { room.withMachine { $0.waiting } }

    /// Wakes the task that has waited longest. If nobody waits the next one to wait goes on at once; of several
    /// notifications that nobody waits for, one is kept.
    public func notifyOne() { room.wake { $0.notifyOne() } }

    /// Wakes all who wait now, and keeps nothing for those who come later.
    public func notifyAll() { room.wake { $0.notifyAll() } }

    /// Waits for a notification, in the order of the calls.
    ///
    /// - Throws: `CancellationError` if the task was cancelled while it waited. It has taken no notification then.
    public func wait() async throws(CancellationError) {
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        guard let ticket = room.withMachine({ $0.wait() }) else { return }
        if await !room.wait(ticket) { throw CancellationError() }
    }
}
