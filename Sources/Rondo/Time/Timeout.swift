// Time limits for any async code, by cancellation: the operation runs as a child task, and a timer cancels it.

/// What ``withTimeout(_:operation:)`` and ``withDeadline(_:operation:)`` throw when the time is up.
public struct TimeoutError: Error, Hashable, Sendable, CustomStringConvertible {
    /// How long the operation was given.
    public var limit: Duration

    public var description: String { "no result within \(limit)" }
}

/// Runs `operation` and cancels it if it takes longer than `limit`.
///
/// The operation is a child task. Cancellation is a request: this returns when the operation has ended, which is at
/// once for everything that waits on the loop.
///
/// - Throws: `TimeoutError` if the time was up and the operation threw; else what the operation throws.
/// - Returns: the operation's result, even if it came after the time was up.
public func withTimeout<Value: Sendable>(
    _ limit: Duration, operation: sending @escaping @isolated(any) () async throws -> Value
) async throws -> Value {
    guard let loop = EventLoop.current else { return try await withSleepingTimeout(limit, operation: operation) }
    let canceller = Canceller()
    // SAFETY: the closure was sent to this function, which sends it on to one child task.
    nonisolated(unsafe) let operation = operation
    return try await withThrowingTaskGroup(of: Value.self) { group in
        // The child must start on the loop, whatever executor its parent prefers: an actor of the loop may prefer none.
        group.addTask(executorPreference: loop.preferenceForChildren) {
            // SAFETY: the timer is taken back before this task ends.
            unsafe withUnsafeCurrentTask { unsafe canceller.start(limit, task: $0!) }
            let result: Result<Value, any Error>
            do { result = .success(try await unsafe operation()) } catch { result = .failure(error) }
            await canceller.stop()
            return try result.get()
        }
        do {
            return try await group.next()!
        } catch {
            if canceller.hasFired, !Task.isCancelled { throw TimeoutError(limit: limit) }
            throw error
        }
    }
}

/// Runs `operation` and cancels it if it has not ended at `deadline`.
///
/// See ``withTimeout(_:operation:)``.
public func withDeadline<Value: Sendable>(
    _ deadline: ContinuousClock.Instant, operation: sending @escaping @isolated(any) () async throws -> Value
) async throws -> Value {
    try await withTimeout(max(.zero, ContinuousClock.now.duration(to: deadline)), operation: operation)
}

/// The same outside of an event loop, with a second child that sleeps.
private func withSleepingTimeout<Value: Sendable>(
    _ limit: Duration, operation: sending @escaping @isolated(any) () async throws -> Value
) async throws -> Value {
    // SAFETY: as in withTimeout.
    nonisolated(unsafe) let operation = operation
    return try await withThrowingTaskGroup(of: Value?.self) { group in
        group.addTask { try await unsafe operation() }
        group.addTask {
            try await Task.sleep(for: limit)
            return nil
        }
        defer { group.cancelAll() }
        guard let first = try await group.next()! else {
            group.cancelAll()
            if case .success(let value?)? = await group.nextResult() { return value }
            throw TimeoutError(limit: limit)
        }
        return first
    }
}

/// A timer that cancels a task.
@safe
private final class Canceller: TimerCallback, @unchecked Sendable {
    // SAFETY: `task` is that of the child, which clears it before it ends. All belongs to the loop's thread; `hasFired`
    // is read by the parent task after the child has ended.
    private var task: UnsafeCurrentTask?
    private var timer: TimerWheel.Index?
    private(set) var hasFired = false
    /// The loop that the child began on: of several, any may be.
    private var loop: EventLoop?

    func start(_ limit: Duration, task: UnsafeCurrentTask) {
        unsafe self.task = task
        let loop = EventLoop.required(for: "withTimeout")
        self.loop = loop
        let (deadline, overflow) = loop.driver.now.addingReportingOverflow(limit.nanosecondsRoundedUp)
        timer = loop.timers.add(deadline: overflow ? .max - 1 : deadline, target: .callback(self))
    }

    override func fire() {
        timer = nil
        hasFired = true
        unsafe task?.cancel()
    }

    override func loopCloses(nanosecondsLeft: UInt64) {
        timer = nil
        loop?.detach { [self] in
            try? await Task.sleep(for: .nanoseconds(Int64(clamping: nanosecondsLeft)))
            if unsafe task != nil { fire() }
        }
    }

    /// Takes the timer back. The task is used no more after this.
    func stop() async {
        guard let loop else { return }
        await loop.onLoop {
            if let timer { loop.timers.remove(timer) }
            timer = nil
            unsafe task = nil
        }
    }
}
