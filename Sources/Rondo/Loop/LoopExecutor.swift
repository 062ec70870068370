// What the Swift runtime sees of a loop: two small faces, one for tasks and one for actors, and the one place where
// Rondo uses the toolchain's experimental interface (custom executors, scheduling).
//
// One class with both conformances would cost a hop for each call; so there are two, and the loop behind them.

import CRondo
@_spi(ExperimentalCustomExecutors) @_spi(ExperimentalScheduling) import _Concurrency

/// The face for tasks: jobs come in here, from any thread.
final class LoopExecutor: TaskExecutor, SchedulingExecutor {
    let loop: EventLoop

    init(_ loop: EventLoop) { self.loop = loop }

    @inline(__always)
    func enqueue(_ job: consuming ExecutorJob) { loop.enqueuePinned(UnownedJob(job)) }

    /// Runs a job outside of a loop's turn.
    func run(_ job: UnownedJob) {
        // SAFETY: whoever calls this gives the job up.
        unsafe job.runSynchronously(on: asUnownedTaskExecutor())
    }

    // A sleep comes as a job that is to run later, and that wakes the sleeper.

    func enqueue<C: Clock>(
        _ job: consuming ExecutorJob, at instant: C.Instant, tolerance: C.Duration?, clock: C
    ) {
        loop.enqueue(UnownedJob(job), afterNanoseconds: nanoseconds(from: clock, until: instant))
    }

    func enqueue<C: Clock>(
        _ job: consuming ExecutorJob, after delay: C.Duration, tolerance: C.Duration?, clock: C
    ) {
        guard let delay = delay as? Duration else {
            return enqueue(job, at: clock.now.advanced(by: delay), tolerance: tolerance, clock: clock)
        }
        loop.enqueue(UnownedJob(job), afterNanoseconds: delay.signedNanoseconds)
    }
}

extension LoopExecutor {
    /// Runs the wake-up job of a sleep, which resumes the sleeper.
    ///
    /// The job is a task of the runtime's own that prefers no executor. Run on the loop's face it would leave at once
    /// for Swift's own threads and wake the sleeper from there; run on no executor in particular, as those threads
    /// do, it stays.
    static func runWakeUp(_ job: UnownedJob) {
        // SAFETY: two zero words are the runtime's "no executor in particular" (SerialExecutorRef::generic).
        unsafe job.runSynchronously(on: unsafeBitCast((0, 0) as (Int, Int), to: UnownedSerialExecutor.self))
    }

    /// Hands the wake-up of a sleeping task to Swift's own executor, when its loop closes.
    static func moveSleep(_ job: UnownedJob, nanoseconds: UInt64) {
        guard let executor = Task<Never, Never>.defaultExecutor as? any SchedulingExecutor else {
            return globalConcurrentExecutor.enqueue(job)
        }
        executor.enqueue(
            ExecutorJob(job), after: .nanoseconds(Int64(clamping: nanoseconds)), tolerance: nil,
            clock: ContinuousClock())
    }
}

/// The face for actors: the main actor under takeover, and actors pinned to the loop. It is there as long as the loop
/// is: what an actor has still to do when its loop has closed goes through it, too, to the loop's `AfterLife`.
@safe
final class LoopSerialExecutor: SerialExecutor, MainExecutor, @unchecked Sendable {
    // SAFETY: set once, by the loop's init, before anybody else has this. The loop owns this object, and whoever calls
    // it holds the loop: an actor that is pinned to it, or the program that it has taken over.
    nonisolated(unsafe) private unowned(unsafe) var owner: EventLoop?

    private var loop: EventLoop { unsafe owner! }

    /// Makes this the face of `loop`.
    func serve(_ loop: EventLoop) { unsafe owner = loop }

    @inline(__always)
    func enqueue(_ job: consuming ExecutorJob) { loop.enqueueOfActor(UnownedJob(job)) }

    func checkIsolated() {
        require(isRunningHere, "code that belongs to this event loop ran on another thread")
    }

    func isIsolatingCurrentContext() -> Bool? { isRunningHere }

    private var isRunningHere: Bool { loop.isOnOwnThread || loop.afterLife.isRunningHere }

    func run() throws { loop.runTurns() }

    func stop() { loop.stop() }
}

// Several loops have one face for tasks: jobs come in here from any thread, and become ready on that thread's loop.
extension LoopGroup: TaskExecutor, SchedulingExecutor {
    @inline(__always)
    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        // SAFETY: only asked whether there is one.
        if let loop = currentLoop, unsafe rondo_thread_place() == nil { return loop.enqueueInGroup(job, self) }
        JobReference(job).owner = .anyLoop
        (placeOfNewTask ?? loopForOutsiders).enqueue(job)
    }

    func enqueue<C: Clock>(
        _ job: consuming ExecutorJob, at instant: C.Instant, tolerance: C.Duration?, clock: C
    ) {
        let delay = nanoseconds(from: clock, until: instant)
        (currentLoop ?? loopForOutsiders).enqueue(UnownedJob(job), afterNanoseconds: delay)
    }

    func enqueue<C: Clock>(
        _ job: consuming ExecutorJob, after delay: C.Duration, tolerance: C.Duration?, clock: C
    ) {
        guard let delay = delay as? Duration else {
            return enqueue(job, at: clock.now.advanced(by: delay), tolerance: tolerance, clock: clock)
        }
        (currentLoop ?? loopForOutsiders).enqueue(UnownedJob(job), afterNanoseconds: delay.signedNanoseconds)
    }
}

/// Nanoseconds from now until `instant`; negative if it is past.
@inline(__always)
private func nanoseconds<C: Clock>(from clock: C, until instant: C.Instant) -> Int64 {
    if C.self == ContinuousClock.self {
        // SAFETY: the types are the same, as was just asked.
        let instant = unsafe unsafeBitCast(instant, to: ContinuousClock.Instant.self)
        return ContinuousClock.now.duration(to: instant).signedNanoseconds
    }
    let duration = clock.now.duration(to: instant)
    guard let duration = duration as? Duration else {
        crash("Task.sleep on \(C.self): Rondo's loop understands clocks whose Duration is Swift.Duration")
    }
    return duration.signedNanoseconds
}

extension Duration {
    /// Whole nanoseconds, rounded away from zero, within 292 years before and after.
    @inline(__always)
    fileprivate var signedNanoseconds: Int64 {
        self < .zero ? -Int64((.zero - self).nanosecondsRoundedUp) : Int64(nanosecondsRoundedUp)
    }

    /// Whole nanoseconds, rounded up, within 0 and 292 years.
    package var nanosecondsRoundedUp: UInt64 {
        let attosecondsPerNanosecond: Int128 = 1_000_000_000
        if attoseconds <= 0 { return 0 }
        let rounded = attoseconds + attosecondsPerNanosecond - 1
        let high = UInt64(truncatingIfNeeded: rounded >> 64)
        // One machine division, where Int128's own takes a hundred nanoseconds.
        guard high < 500_000_000 else { return UInt64(Int64.max) }
        return UInt64(1_000_000_000).dividingFullWidth((high, UInt64(truncatingIfNeeded: rounded))).quotient
    }
}

extension LoopExecutor {
    /// Crashes if the runtime's jobs are laid out in another way than `JobReference` believes.
    static func verifyJobLayout(_ job: UnownedJob) {
        let address = JobReference(job).bits
        // SAFETY: the words are only asked for their place.
        unsafe ExecutorJob(job).withUnsafeExecutorPrivateData { words in
            let offset = UInt(bitPattern: words.baseAddress) - address
            require(
                offset == JobReference.privateWords && words.count >= 16,
                "this Swift runtime keeps an executor's words at \(offset) of a job, not at "
                    + "\(JobReference.privateWords): use the toolchain that this version of Rondo was made for")
        }
    }
}

// Takeover.

/// The loop that all of the process runs on.
// SAFETY: written once, by `takeOver`, before other threads exist.
nonisolated(unsafe) private var programFaces: (main: LoopSerialExecutor, tasks: any TaskExecutor)?

private struct ProgramExecutors: ExecutorFactory {
    // SAFETY: the runtime asks during takeOver, which has just written them.
    static var mainExecutor: any MainExecutor { unsafe programFaces!.main }
    static var defaultExecutor: any TaskExecutor { unsafe programFaces!.tasks }
}

/// Makes `loop` the executor of the main actor and of every task of this process that asks for no other.
///
/// The runtime stores both without synchronisation: call it from `main`, before anything else starts a thread.
func takeOver(with loop: EventLoop) {
    // SAFETY: once, before other threads exist.
    require(unsafe programFaces == nil, "a process has one RondoProgram")
    unsafe programFaces = (loop.serialFace, loop.group ?? loop.taskFace)
    _createExecutors(factory: ProgramExecutors.self)
}
