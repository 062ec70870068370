// The ways in that need only Swift's public interface, and what a task may ask of the loop that it runs on.

import CRondo
import Glibc
import SystemPackage

extension EventLoop {
    /// The loop of the calling thread, if it has one.
    public static var current: EventLoop? {
        // SAFETY: enterThread stored a loop that lives until close() clears it.
        unsafe rondo_current_loop().map { unsafe Unmanaged<EventLoop>.fromOpaque($0).takeUnretainedValue() }
    }

    /// Whether the calling thread is this loop's. After the loop's end it is nobody's.
    public var isCurrent: Bool { isOnOwnThread }

    /// Runs an async function on a new event loop of the calling thread, and answers what it answers.
    ///
    /// The function and its child tasks (task groups, `async let`) run on the loop, `Task.sleep` included.
    /// `Task { }`, `Task.detached` and the main actor are not the loop's; a whole program is: see ``RondoProgram``.
    ///
    /// When the function returns, the loop ends: operations that tasks of their own still wait for are cancelled.
    ///
    /// - Throws: what `body` throws, or `IOError` if the driver that was asked for does not work here.
    public static func run<Value: Sendable>(
        configuration: LoopConfiguration = LoopConfiguration(), _ body: sending @escaping () async throws -> Value
    ) throws -> Value {
        let loop = try EventLoop(configuration: configuration)
        loop.enterThread()
        loop.recording = FlightRecorder.memory(for: configuration, loops: 1, isProgram: false)
        let outcome = Outcome<Value>()
        Task(executorPreference: loop.taskFace) {
            do { outcome.result = .success(try await body()) } catch { outcome.result = .failure(error) }
            loop.stop()
        }
        loop.runTurns()
        loop.close()
        return try outcome.result!.get()
    }

    /// The executor to prefer for tasks that are to run on this loop: `Task(executorPreference: loop.executor) { }`.
    public var executor: any TaskExecutor {
        guard let sharedFace else { crash("this event loop is closed") }
        return sharedFace
    }

    /// The executor for an actor that lives on this loop:
    ///
    /// ```
    /// actor Counter {
    ///     nonisolated let loop: EventLoop
    ///     nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
    /// }
    /// ```
    ///
    /// The actor must keep the loop, as this one does. What it has still to do when the loop has closed goes on on
    /// Swift's own executor, one job at a time.
    // SAFETY: who pins an actor to a loop keeps the loop, as it says above.
    @safe
    public var unownedExecutor: UnownedSerialExecutor { unsafe serialFace.asUnownedSerialExecutor() }

    /// The driver's name: `io_uring`, `epoll` or `simulated`.
    public var driverName: String { driver.name }

    /// Why the loop has this driver, in a line for people.
    public var driverReason: String { driver.reason }

    /// What the loop has done so far, and what it has before it. From any task.
    public var statistics: LoopStatistics {
        get async {
            await onLoop { currentStatistics }
        }
    }

    /// Lets every other ready task go first, without waiting for anything.
    ///
    /// On a thread without a loop this is `Task.yield()`.
    @inlinable
    @inline(__always)
    public static func yield() async {
        // Inlined into the caller: a frame of its own would make every yield a quarter dearer.
        guard isRunningHere else { return await Task.yield() }
        await unsafe withUnsafeContinuation { unsafe yield(to: $0) }
    }

    /// Whether the calling thread is a loop's.
    @usableFromInline
    static var isRunningHere: Bool { unsafe rondo_current_loop() != nil }

    /// Makes a task ready when the running job has stopped. On a loop's thread.
    @usableFromInline
    static func yield(to continuation: UnsafeContinuation<Void, Never>) {
        // SAFETY: enterThread stored a loop that lives until close() clears it.
        let loop = unsafe Unmanaged<EventLoop>.fromOpaque(rondo_current_loop()!)
        unsafe loop._withUnsafeGuaranteedRef { unsafe $0.resumeAfterJob(continuation) }
    }

    /// `yieldNow()` with a frame of its own: for callers that seldom yield, and whose frame every message touches.
    @inline(never)
    func yieldInTurn() async { await yieldNow() }

    /// Lets others go first if the caller has computed for its time slice (``LoopConfiguration/timeSlice``).
    ///
    /// Call it in every round of a long computation: it reads a clock, which takes some 30 nanoseconds.
    public static func yieldIfNeeded() async {
        guard let loop = current, loop.sliceIsOver else { return }
        await loop.yieldNow()
    }

    /// Runs `body` on the loop's thread: at once if the caller is there already.
    ///
    /// - Parameter body: a closure without a capture list. Swift 6.3.1 does not run one with a list where its caller
    ///   is, but where its task prefers to be: an actor of this loop would leave it.
    package func onLoop<Value: Sendable, Failure: Error>(
        _ body: @Sendable () async throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        if isHome { return try await body() }
        return try await hop(body)
    }

    @concurrent
    private func hop<Value: Sendable, Failure: Error>(
        _ body: @Sendable () async throws(Failure) -> Value
    ) async throws(Failure) -> Value {
        // A closure that stays where its caller is would not go to the preferred executor. One that does nothing but
        // call `body` would not either: Swift 6.3.1 takes the hop out, though `body` stays where it is called.
        try await withTaskExecutorPreference(faceForNewTasks) { @concurrent () async throws(Failure) -> Value in
            require(isOnOwnThread || isClosed, "a task on its way to this event loop did not arrive")
            return try await body()
        }
    }
}

extension EventLoop {
    /// As `perform` and `performToTheEnd`, for a task that has been resumed on another thread between two operations:
    /// it has no executor of its own, and began here because an actor of nobody's did.
    @inline(never)
    func performFromElsewhere(_ operation: Operation, toTheEnd: Bool = false) async -> Int32 {
        // SAFETY: the caller keeps what the operation points to until this returns.
        nonisolated(unsafe) let operation = unsafe operation
        return await onLoop {
            if toTheEnd { return await unsafe performToTheEnd(operation) }
            return isOnOwnThread ? await unsafe perform(operation) : -ECANCELED
        }
    }

    /// The loop of the calling task, or a crash that says what needs one.
    static func required(for purpose: StaticString) -> EventLoop {
        guard let current else {
            crash(
                "\(purpose) was called outside of an event loop: call it in a RondoProgram, in EventLoop.run { }, or "
                    + "in withEventLoop { }")
        }
        return current
    }

    /// What the loop has done, and what it has before it. On the loop's thread.
    package var currentStatistics: LoopStatistics {
        var statistics = counters
        statistics.operations = pending.begun
        statistics.operationsByKind = pending.begunByKind
        statistics.jobsTaken = jobsTaken
        statistics.systemCalls = driver.systemCalls
        statistics.readyJobs = scheduler.count
        statistics.timers = timers.count
        statistics.timerLateness = timers.lateness
        statistics.pendingOperations = pending.count
        statistics.offloadDepth = offloadPool.depth
        statistics.eventsRecorded = eventRing?.recorded ?? 0
        statistics.eventsDropped = eventRing?.dropped ?? 0
        statistics.runningNanosecondsByName = pulse.running
        return statistics
    }

    /// What a child task must prefer to run on this loop. A preference is a record in each task: under takeover there
    /// is no need for it.
    var preferenceForChildren: (any TaskExecutor)? { isProgramLoop ? nil : taskFace }

    /// Starts a task on this loop, with the caller's priority and task-local values.
    func startTask(_ body: sending @escaping () async -> Void) -> Task<Void, Never> {
        if isProgramLoop {
            // What the task works on belongs to this loop: another of the group must not take it.
            startsOwnTask = true
            defer { startsOwnTask = false }
            return Task { await body() }
        }
        return Task(executorPreference: taskFace) { await body() }
    }

    /// Starts a task of its own on the loop, from any thread.
    func detach(_ body: sending @escaping () async -> Void) {
        Task.detached(executorPreference: faceForNewTasks, operation: body)
    }
}

/// Runs an async function on an event loop with a thread of its own.
///
/// As ``EventLoop/run(configuration:_:)``, for callers that are async themselves.
///
/// - Throws: what `body` throws, or `IOError` if the driver that was asked for does not work here.
public func withEventLoop<Value: Sendable>(
    configuration: LoopConfiguration = LoopConfiguration(),
    _ body: sending @escaping (EventLoop) async throws -> Value
) async throws -> Value {
    let outcome = Outcome<Value>()
    // SAFETY: the closure was sent to this function, which sends it on to the one thread that calls it.
    nonisolated(unsafe) let body = body
    await unsafe withUnsafeContinuation { continuation in
        unsafe outcome.waiter = continuation
        outcome.run(on: "rondo-loop") {
            try EventLoop.run(configuration: configuration) { try await unsafe body(EventLoop.current!) }
        }
    }
    return try outcome.result!.get()
}

/// Where the result of a loop's main function is put for whoever started the loop.
@safe
private final class Outcome<Value: Sendable>: @unchecked Sendable {
    // SAFETY: written before the loop's thread starts or on it, read after the loop has ended. The waiter is resumed
    // once, at the end of the one thread.
    var result: Result<Value, any Error>?
    var waiter: UnsafeContinuation<Void, Never>?

    /// Runs `main` on a new thread, and then resumes `waiter`.
    func run(on thread: String, _ main: sending @escaping () throws -> Value) {
        do throws(Errno) {
            let thread = try NativeThread(thread) { [self] in
                result = Result { try main() }
                end()
            }
            thread.detach()
        } catch {
            result = .failure(IOError("start", "a thread for an event loop", .system(error)))
            end()
        }
    }

    private func end() {
        let waiter = unsafe waiter
        unsafe self.waiter = nil
        unsafe waiter?.resume()
    }
}
