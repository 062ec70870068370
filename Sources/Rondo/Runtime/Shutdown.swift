// The end of a server, in order; docs/guides/shutdown.md has the whole of it.

import CRondo
import Glibc

/// Tells the parts of a program that it is to end: to take nothing new on, and to finish what they have.
///
/// It may be used from any thread.
public final class Shutdown: Sendable {
    private struct State {
        var isRequested = false
        var nextWaiter = 0
        var waiters: [Int: CheckedContinuation<Void, Never>] = [:]
    }
    private let state = Lock(State())

    public init() {}

    /// Whether the program is to end.
    public var isRequested: Bool { state.withLock { $0.isRequested } }

    /// Asks all parts of the program to end. Once is enough.
    public func request() {
        let waiters = state.withLock { state in
            state.isRequested = true
            defer { state.waiters = [:] }
            return Array(state.waiters.values)
        }
        for waiter in waiters { waiter.resume() }
    }

    /// Waits until the program is to end.
    ///
    /// - Returns: false if the task was cancelled before.
    @discardableResult
    public func wait() async -> Bool {
        let number = state.withLock { state in
            state.nextWaiter += 1
            return state.nextWaiter
        }
        await withTaskCancellationHandler {
            await withCheckedContinuation { continuation in
                let mustWait = state.withLock { state in
                    if state.isRequested || Task.isCancelled { return false }
                    state.waiters[number] = continuation
                    return true
                }
                if !mustWait { continuation.resume() }
            }
        } onCancel: {
            let waiter = state.withLock { $0.waiters.removeValue(forKey: number) }
            waiter?.resume()
        }
        return isRequested
    }
}

/// Runs `body` until it returns, and lets signals ask it to end:
///
/// 1. The first signal requests the ``Shutdown`` that `body` is given. Listeners that serve until then close their
///    sockets; their handlers go on.
/// 2. When `body` has not returned within `deadline`, its task is cancelled, and with it what it waits for.
/// 3. A second signal ends the process at once, with the status 128 + its number, whatever the program is doing.
///
/// In a simulation there are no signals; `request()` does the same.
///
/// - Returns: what `body` returns.
/// - Throws: what `body` throws: after the deadline usually an `IOError` that tells of the cancellation.
public func withGracefulShutdown<Value: Sendable>(
    on signals: [Signal] = [.terminate, .interrupt], deadline: Duration = .seconds(30),
    _ body: sending @escaping (Shutdown) async throws -> Value
) async throws -> Value {
    let loop = EventLoop.required(for: "withGracefulShutdown")
    let shutdown = Shutdown()
    let arriving = loop.driver is any KernelDriver ? try Signals.of(signals) : nil
    let mask = signals.reduce(0 as UInt64) { $0 | 1 << UInt64($1.rawValue - 1) }
    if arriving != nil { rondo_exit_on_second_signal(mask) }
    defer { if arriving != nil { rondo_exit_on_second_signal(0) } }

    let listening = loop.startTask {
        guard let arriving else { return }
        for await _ in arriving { shutdown.request() }
    }
    let outcome = MainOutcome<Value>()
    // SAFETY: the closure was sent to this function, which sends it on to the one task.
    nonisolated(unsafe) let body = body
    let main = loop.startTask {
        do { outcome.result = .success(try await unsafe body(shutdown)) } catch { outcome.result = .failure(error) }
    }
    let timing = loop.startTask {
        guard await shutdown.wait() else { return }
        do {
            try await Task.sleep(for: deadline)
            main.cancel()
        } catch {
            // The body has ended in time.
        }
    }
    await withTaskCancellationHandler {
        await main.value
    } onCancel: {
        main.cancel()
    }
    listening.cancel()
    timing.cancel()
    await listening.value
    await timing.value
    return try outcome.result!.get()
}

private final class MainOutcome<Value>: @unchecked Sendable {
    // SAFETY: written by the main task, read when that has ended.
    var result: Result<Value, any Error>?
}

extension TCPListener {
    /// As ``serve(_:)``, until `shutdown` is requested: then connections that have come are still served, the listening
    /// socket is closed, and this returns when the last handler has ended. Handlers that wait between two requests can
    /// wait for `shutdown` as well.
    public func serve(
        until shutdown: Shutdown, _ handler: @escaping @Sendable (TCPStream) async throws -> Void
    ) async throws(IOError) {
        let stopping = loop.startTaskFromAnywhere {
            if await shutdown.wait() { await self.stopAccepting() }
        }
        try await ending(stopping) { () async throws(IOError) in try await serve(handler) }
    }
}

extension UnixListener {
    /// As ``serve(_:)``, until `shutdown` is requested: then connections that have come are still served, the listening
    /// socket is closed and its file removed, and this returns when the last handler has ended. Handlers that wait
    /// between two requests can wait for `shutdown` as well.
    public func serve(
        until shutdown: Shutdown, _ handler: @escaping @Sendable (UnixStream) async throws -> Void
    ) async throws(IOError) {
        let stopping = loop.startTaskFromAnywhere {
            if await shutdown.wait() { await self.stopAccepting() }
        }
        try await ending(stopping) { () async throws(IOError) in try await serve(handler) }
    }
}

/// Runs `body`, and ends a task that was to go on for as long as it runs.
private func ending(_ task: Task<Void, Never>, _ body: () async throws(IOError) -> Void) async throws(IOError) {
    do throws(IOError) {
        try await body()
        task.cancel()
        await task.value
    } catch {
        task.cancel()
        await task.value
        throw error
    }
}

extension EventLoop {
    /// As `startTask`, for callers on any thread.
    fileprivate func startTaskFromAnywhere(_ body: sending @escaping () async -> Void) -> Task<Void, Never> {
        isOnOwnThread ? startTask(body) : Task(executorPreference: faceForNewTasks) { await body() }
    }
}
