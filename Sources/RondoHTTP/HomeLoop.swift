// A connection belongs to its loop, but its handler may wander: it may wait for something of another loop, or call from
// within an actor. What it asks of the connection is done at home.

import Rondo

/// Something that belongs to a loop.
protocol LoopBound: AnyObject {
    var loop: EventLoop { get }
    /// The loop's. It is of use after the loop's end, too: what is done through it is done on Swift's own threads then.
    var executor: any TaskExecutor { get }
}

extension LoopBound {
    /// Whether code that is isolated to `isolation` is at home now, and stays there when it waits.
    func isHome(_ isolation: (any Actor)?) -> Bool { isolation == nil && loop.isCurrent }

    /// Does `body` at home.
    func atHome<Value: Sendable>(
        _ body: () async throws(IOError) -> Value
    ) async throws(IOError) -> Value {
        // SAFETY: the caller waits for the closure, and nobody else has it.
        nonisolated(unsafe) let body = body
        return try await hop(to: executor) { () async throws(IOError) -> Value in try await unsafe body() }
    }

    /// Goes on at home, as long as there is one. For code that is isolated to no actor.
    func comeHome() async {
        let loop = loop
        var hasEnded = false
        while !loop.isCurrent, !hasEnded {
            // Who is woken goes on where it is woken.
            hasEnded = await withCheckedContinuation { continuation in
                Task(executorPreference: executor) { continuation.resume(returning: !loop.isCurrent) }
            }
        }
    }
}

@concurrent
private func hop<Value: Sendable>(
    to executor: any TaskExecutor, _ body: @Sendable () async throws(IOError) -> Value
) async throws(IOError) -> Value {
    let result = await withTaskExecutorPreference(executor) { @concurrent () async -> Result<Value, IOError> in
        do throws(IOError) { return .success(try await body()) } catch { return .failure(error) }
    }
    return try result.get()
}
