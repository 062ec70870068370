// Calls that block, sent to the kitchen.

/// Runs a blocking call (a database, a compression, a long computation) on a thread of the loop's offload pool, and
/// waits for its result without holding the loop.
///
/// The pool has a bounded number of threads (``LoopConfiguration/offloadThreads``); while all of them are busy, calls
/// wait their turn, first in first out, and so do the tasks that made them: that is the back-pressure.
///
/// If the task is cancelled before a thread has begun with the call, the call never runs. A call that has begun runs to
/// its end, and this returns its result.
///
/// On a thread without an event loop the call runs where it is.
///
/// - Throws: what `call` throws, or `CancellationError` if it never ran.
public func offload<Value>(_ call: sending @escaping () throws -> sending Value) async throws -> sending Value {
    guard let loop = EventLoop.current else { return try call() }
    let box = OffloadResult<Value>()
    // SAFETY: the pool's thread writes the box before the completion, the task reads it after; the closure was sent to
    // this function, and one thread calls it.
    nonisolated(unsafe) let result = box
    nonisolated(unsafe) let call = call
    let work = OffloadWork {
        do { unsafe result.value = .success(try call()) } catch { unsafe result.value = .failure(error) }
        return 0
    }
    // SAFETY: `work` outlives the wait.
    let answer = await unsafe loop.perform(.offload(.passUnretained(work)))
    withExtendedLifetime(work) {}
    guard answer >= 0, let value = unsafe result.value else { throw CancellationError() }
    unsafe result.value = nil
    nonisolated(unsafe) let outcome = value
    return try unsafe outcome.get()
}

private final class OffloadResult<Value> {
    var value: Result<Value, any Error>?
}
