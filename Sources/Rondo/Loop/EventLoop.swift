// The event loop. It decides who runs next; it never does the work itself, and never waits for one thing while another
// is ready. The loop is `turn()`, and its phases are the calls in it.

import CRondo
import Glibc
import Synchronization

/// One thread that runs Swift's tasks and does their input and output.
///
/// A program gets its loop by being a ``RondoProgram``; a part of a program by ``EventLoop/run(configuration:_:)`` or
/// ``withEventLoop(configuration:_:)``.
@safe
public final class EventLoop: @unchecked Sendable {
    // SAFETY: `configuration`, `inbox`, `driver.wake()` and `stopRequested` may be used by any thread. Everything else
    // belongs to the loop's thread, and every entry asks `isOnOwnThread` first or comes through the inbox.
    // SAFETY of each `unsafe` below: a job is run once, when the scheduler has given it up; a continuation is taken out
    // of where it waits before it is resumed, so it is resumed once; what an operation points to is valid until its
    // last completion (see `Operation`), because the caller of `perform` waits for that.

    /// How the loop was configured.
    public let configuration: LoopConfiguration

    /// The world outside.
    package let driver: any Driver
    /// The driver's: kept here too, as every message goes to them.
    let receiveBuffers: ReceiveBuffers
    /// Jobs that are ready.
    let scheduler = Scheduler()
    /// Jobs and callbacks that wait for a time.
    let timers: TimerWheel
    /// Operations that wait for the driver.
    let pending = PendingOperations()
    /// Jobs and messages from other threads.
    let inbox = Inbox()
    /// Threads for calls that block.
    let offloadPool: OffloadPool

    /// Whether the loop is to end; set by any thread.
    let stopRequested = Atomic<Bool>(false)
    /// From the moment that the loop shuts down: operations are refused.
    var isShuttingDown = false
    /// From the moment that the loop has no driver: what belongs to it is used by the jobs in `afterLife` only.
    var isClosed = false
    /// Where jobs go that come after the loop has closed.
    let afterLife = AfterLife()

    /// Whether it is the executor of the whole process.
    var isProgramLoop = false
    /// Whether it is the only one: then every task and every actor of the process runs on the loop's thread.
    var isAlone = false

    /// The time at which this turn's wait ended.
    private(set) var turnStart: UInt64
    /// Operations that the running job may still finish without waiting.
    private var operationsLeft = 0
    /// When the running job was first asked whether it should yield; 0 before.
    private var sliceStart: UInt64 = 0
    private let sliceNanoseconds: UInt64
    private let batchNanoseconds: UInt64
    /// Tasks that yielded in the running job: they become ready as soon as it has stopped.
    private var yielded: UnsafeContinuation<Void, Never>?
    private let moreYielded = unsafe Backlog<UnsafeContinuation<Void, Never>>()
    /// Wake-up jobs of sleeps that have ended early. The task that slept is ready, so the loop does not wait now.
    let endedSleeps = Backlog<UnownedJob>()
    /// Who waits for a receive buffer to become free.
    let starved = Backlog<any BufferWaiter>()
    let transferPipes = TransferPipes()  // bytes are moved through them from socket to socket
    /// Completions that are being passed on; room for `arrivedCapacity`.
    private let arrived = UnsafeMutablePointer<Completion>.allocate(capacity: EventLoop.arrivedCapacity)
    private static let arrivedCapacity = 256
    /// Those that have not been passed on yet.
    private var arrivedRange = 0..<0
    /// What it has done; `currentStatistics` adds what others count.
    var counters = LoopStatistics()
    /// The tasks that it has seen, if anybody may look.
    package let liveTasks: LiveTasks?
    /// The first word of a task that is noted there; 0 if nobody may look.
    let notedWord: UInt
    /// For those who watch from other threads.
    package let pulse = LoopPulse()
    private var jobsSeen: UInt64 = 0
    private let thread = Atomic<Int32>(0)
    /// The thread that it runs on, as the kernel numbers threads; 0 before it has one.
    package internal(set) var threadID: Int32 {
        get { thread.load(ordering: .relaxed) }
        set { thread.store(newValue, ordering: .relaxed) }
    }
    /// The time of this turn, as tasks note it.
    @inline(__always)
    var coarseTime: UInt32 { UInt32(truncatingIfNeeded: turnStart >> 20) }
    /// Whether the runtime's layout of jobs has been looked at.
    var isLayoutVerified = false

    /// Where events are noted, if anybody looks: see `recording`.
    var eventRing: EventRing?
    /// Whose memory that is.
    var eventMemory: EventMemory?
    /// The places of the names of spans in that memory.
    var spanLabels: [String: UInt32] = [:]

    /// The loops that it shares tasks with, if there are any; they outlive this one's last turn.
    @inline(__always)
    var group: LoopGroup? {
        get { unsafe groupReference }
        set { unsafe groupReference = newValue }
    }
    // Not counted: every job asks. SAFETY: who runs the loops keeps the group until all of them have closed.
    private unowned(unsafe) var groupReference: LoopGroup?
    /// Whether it ever had any. For any thread.
    private(set) var isInGroup = false
    /// Its place among them.
    package private(set) var number = 0
    /// Ready jobs that the others may take.
    private(set) var movable: MovableJobs?
    /// Whether the task that is being made is to stay on this loop.
    var startsOwnTask = false
    /// Jobs that it has taken from others.
    var jobsTaken: UInt64 = 0
    /// How busy it was when its last turn ended: ready jobs, and below 2^32 pending operations. For other threads.
    private let sharedLoad = Atomic<UInt64>(0)
    var load: UInt64 { sharedLoad.load(ordering: .relaxed) }

    /// The face for tasks, which hold it and not the loop: so it holds the loop, which lets go of it when it closes.
    var ownTaskFace: LoopExecutor?
    /// The same, for other threads.
    let sharedTaskFace = Lock<LoopExecutor?>(nil)
    /// The face for actors, which hold the loop.
    let serialFace = LoopSerialExecutor()

    /// Makes a loop for the calling thread, which must be the one that runs it.
    init(configuration: LoopConfiguration) throws(IOError) {
        self.configuration = configuration
        offloadPool = OffloadPool(threadLimit: configuration.offloadThreads)
        if let makeDriver = configuration.makeDriver {
            driver = try makeDriver(offloadPool)
        } else {
            let limit = configuration.receiveBufferLimit
            let buffers = ReceiveBuffers(initialCount: min(16, limit), capacity: limit)
            driver = try DriverChoice.make(forced: configuration.driver)
                .makeDriver(offload: offloadPool, receiveBuffers: buffers)
        }
        receiveBuffers = driver.receiveBuffers
        liveTasks = configuration.tracksTasks ? LiveTasks.take() : nil
        notedWord = liveTasks == nil ? 0 : rondo_watched_task()
        turnStart = driver.now
        timers = TimerWheel(time: driver.now)
        sliceNanoseconds = configuration.timeSlice.nanosecondsRoundedUp
        batchNanoseconds = configuration.batchTime.nanosecondsRoundedUp
        scheduler.tieBreak = configuration.tieBreak
        let taskFace = LoopExecutor(self)
        ownTaskFace = taskFace
        serialFace.serve(self)
        sharedTaskFace.withLock { $0 = taskFace }
        offloadPool.deliver = { [unowned self] work in tell(.offloaded(work)) }
        configuration.logger.debug("event loop on \(driver.name): \(driver.reason)")
    }

    deinit { unsafe arrived.deallocate() }

    /// Makes it one of several loops. Before it runs.
    func join(_ group: LoopGroup, as number: Int) {
        self.group = group
        self.number = number
        isInGroup = true
        // Which tasks may be moved is read off their layout: of an unknown runtime none is.
        movable = rondo_knows_task_layout() != 0 ? MovableJobs() : nil
    }

    // MARK: The turn

    /// Runs turns until `stop()`.
    func runTurns() {
        while !stopRequested.load(ordering: .relaxed) { turn() }
        stopRequested.store(false, ordering: .relaxed)
    }

    /// One pass: this is the event loop.
    @inline(__always)
    func turn() {
        if eventRing != nil { return observedTurn() }
        collect()
        fire()
        run()
        submitAndWait()
        complete()
        account()
    }

    /// Takes in what other threads have sent.
    @inline(__always)
    private func collect() {
        inbox.drain { entry in
            switch entry {
            case .job(let job): makeReady(job)
            case .message(let message): receive(message)
            }
        }
    }

    /// The most timers that fire in a turn: what they touch is still in the cache when their tasks run.
    private static let timersPerTurn = 256

    /// Makes ready what has waited for a time that has come.
    @inline(__always)
    private func fire() {
        if timers.earliest > turnStart { return }
        timers.advance(to: turnStart, limit: Self.timersPerTurn) { target in
            switch target {
            case .job(let job): LoopExecutor.runWakeUp(job)
            case .callback(let callback):
                eventRing?.timerFires()
                callback.fire()
            }
        }
    }

    /// Runs ready jobs until none is left or the batch budget is used up.
    @inline(__always)
    private func run() {
        runBatch()
        if !endedSleeps.isEmpty { runEndedSleeps() }
    }

    @inline(__always)
    private func runBatch() {
        let executor = unsafe taskFace.asUnownedTaskExecutor()
        if let group { return unsafe runBatch(in: group, executor) }
        var left = configuration.batchJobs
        while left > 0, let job = scheduler.pop() {
            beginJob(job)
            unsafe run(job, on: executor)
            if unsafe yielded != nil { resumeYielded() }
            left &-= 1
            if left & 31 == 0, driver.now &- turnStart > batchNanoseconds { break }
        }
        endBatch(UInt64(configuration.batchJobs &- left))
    }

    /// `runBatch()` where other loops take part.
    private func runBatch(in group: LoopGroup, _ ownExecutor: UnownedTaskExecutor) {
        let executor = unsafe group.asUnownedTaskExecutor()
        var left = configuration.batchJobs
        while left > 0, let job = nextOfGroup(left) {
            beginJob(job)
            unsafe run(job, on: JobReference(job).isPinned ? ownExecutor : executor)
            if unsafe yielded != nil { resumeYielded() }
            left &-= 1
            if left & 31 == 0, driver.now &- turnStart > batchNanoseconds { break }
        }
        endBatch(UInt64(configuration.batchJobs &- left))
    }

    @inline(__always)
    private func beginJob(_ job: UnownedJob) {
        operationsLeft = configuration.operationBudget
        sliceStart = 0
        if notedWord == 0 { return }
        jobsSeen &+= 1
        let job = JobReference(job)
        pulse.begins(jobsSeen, task: job.isTask ? job.bits : 0)
        if job.isTask { job.lastSeen = coarseTime }
    }

    @inline(__always)
    private func endBatch(_ jobs: UInt64) {
        counters.jobs &+= jobs
        if notedWord != 0 { pulse.ends(jobsSeen) }
    }

    /// The next job: of those that others may take one in eight at least.
    @inline(__always)
    private func nextOfGroup(_ left: Int) -> UnownedJob? {
        if scheduler.isEmpty || left & 7 == 0, let movable, movable.count > 0, let job = movable.take() { return job }
        return scheduler.pop()
    }

    /// Hands over new operations and waits in one call: not at all if a job is ready, else until the next deadline.
    @inline(__always)
    private func submitAndWait() {
        let workEnd = driver.now
        counters.busyNanoseconds &+= workEnd &- turnStart
        counters.lag.record(workEnd &- turnStart)
        let mayWait = !stopRequested.load(ordering: .relaxed) && (!isShuttingDown || pending.count > 0)
        if scheduler.isEmpty, mayWait, timers.earliest > workEnd, !findsWork(), inbox.prepareToSleep() {
            driver.wait(until: timers.earliest)
            inbox.wakeUp()
        } else {
            driver.wait(until: 0)
        }
        group?.noteBusy(number)
        turnStart = driver.now
    }

    /// Whether other loops have jobs for this one, which would wait else.
    @inline(__always)
    private func findsWork() -> Bool {
        guard let group, !isShuttingDown else { return false }
        group.noteIdle(number)
        return (movable?.count ?? 0) > 0 || group.takeJobs(for: self)
    }

    /// Resumes whoever waited for what has completed.
    @inline(__always)
    private func complete() { complete { pending.finish($0) } }

    @inline(__always)
    private func complete(_ pass: (Completion) -> Void) {
        var count: Int
        repeat {
            count = 0
            while count < Self.arrivedCapacity, let completion = driver.nextCompletion() {
                // SAFETY: below the capacity; a completion is plain words.
                unsafe arrived[count] = completion
                count &+= 1
            }
            for index in 0..<count {
                arrivedRange = index &+ 1..<count
                // While this one is passed on, the memory of those behind it comes in.
                if index &+ 6 < count { pending.prefetchSink(of: unsafe arrived[index &+ 6].operation) }
                if index &+ 3 < count { pending.prefetchWaiter(of: unsafe arrived[index &+ 3].operation) }
                pass(unsafe arrived[index])
            }
        } while count == Self.arrivedCapacity
    }

    /// Counts the turn.
    @inline(__always)
    private func account() {
        counters.turns &+= 1
        if let group { accountForGroup(group) }
    }

    private func accountForGroup(_ group: LoopGroup) {
        let readyJobs = scheduler.count &+ (movable?.count ?? 0)
        sharedLoad.store(UInt64(readyJobs) << 32 | UInt64(pending.count), ordering: .relaxed)
        shareBacklog(group)
    }

    // MARK: The turn, recorded

    /// `turn()` for a loop that notes what happens: the same phases. The ring may change or go whenever a job runs.
    @inline(never)
    private func observedTurn() {
        eventRing?.setCause(.readyFromOutside)
        collect()
        eventRing?.setCause(.readyByTimer)
        fire()
        eventRing?.setCause(.ready)
        runObserved()
        if !endedSleeps.isEmpty { runEndedSleeps() }
        eventRing?.turnWaits(readyJobs: scheduler.count)
        submitAndWait()
        eventRing?.turnBegins(at: turnStart)
        complete { completion in
            let (kind, descriptor) = pending.description(of: completion.operation)
            eventRing?.arrives(completion, kind, descriptor: descriptor)
            pending.finish(completion)
            eventRing?.hasArrived()
        }
        account()
    }

    private func runObserved() {
        let ownExecutor = unsafe taskFace.asUnownedTaskExecutor()
        let executor = unsafe group?.asUnownedTaskExecutor() ?? ownExecutor
        let isAlone = group == nil
        var left = configuration.batchJobs
        while left > 0, let job = isAlone ? scheduler.pop() : nextOfGroup(left) {
            beginJob(job)
            eventRing?.starts(JobReference(job), readyJobs: scheduler.count)
            unsafe run(job, on: isAlone || JobReference(job).isPinned ? ownExecutor : executor)
            if unsafe yielded != nil {
                eventRing?.setCause(.readyByYield)
                resumeYielded()
                eventRing?.setCause(.ready)
            }
            left &-= 1
            if left & 31 == 0, driver.now &- turnStart > batchNanoseconds { break }
        }
        endBatch(UInt64(configuration.batchJobs &- left))
    }

    // MARK: Operations

    /// Submits an operation and waits for its last completion.
    ///
    /// If the task is cancelled the driver is asked for an early end; the answer is then usually `-ECANCELED`.
    ///
    /// - Returns: what the call answered, or a negated errno.
    @inline(__always)
    func perform(_ operation: Operation) async -> Int32 {
        guard isOnOwnThread else { return await unsafe performFromElsewhere(operation) }
        if isShuttingDown { return -ECANCELED }
        let id = pending.reserve(unsafe operation.kind, on: unsafe operation.descriptor)
        // SAFETY: begin and end nest around the one suspension; this function keeps the loop alive meanwhile.
        let cancellation = unsafe rondo_cancellation_begin(
            { unsafe EventLoop.noteCancellation($0, $1) }, Unmanaged.passUnretained(self).toOpaque(), id.rawValue)
        let answer = await unsafe withUnsafeContinuation { continuation in
            unsafe begin(operation, as: id, continuation)
        }
        unsafe rondo_cancellation_end(cancellation)
        return answer
    }

    /// From any thread: the task that waits for an operation was cancelled.
    private static func noteCancellation(_ object: UnsafeMutableRawPointer?, _ number: UInt64) {
        // SAFETY: the object is the loop that `perform` keeps alive.
        unsafe Unmanaged<EventLoop>.fromOpaque(object!)._withUnsafeGuaranteedRef { loop in
            let id = OperationID(rawValue: number)
            if loop.isOnOwnThread { loop.cancel(id) } else { loop.tell(.cancel(id)) }
        }
    }

    /// As `perform`, but not even cancellation ends it early: for closing what must be closed.
    func performToTheEnd(_ operation: Operation) async -> Int32 {
        if isClosed {
            guard case .close(let descriptor) = unsafe operation else { return -ECANCELED }
            driver.closeNow(descriptor)
            return 0
        }
        guard isOnOwnThread else { return await unsafe performFromElsewhere(operation, toTheEnd: true) }
        let id = pending.reserve(unsafe operation.kind, on: unsafe operation.descriptor)
        return await unsafe withUnsafeContinuation { continuation in
            unsafe begin(operation, as: id, continuation)
        }
    }

    @inline(__always)
    private func begin(
        _ operation: Operation, as id: OperationID, _ continuation: UnsafeContinuation<Int32, Never>
    ) {
        var work: Unmanaged<OffloadWork>?
        if case .offload(let call) = unsafe operation { unsafe work = call }
        guard unsafe pending.park(id, continuation, work: work) else {
            unsafe continuation.resume(returning: -ECANCELED)
            return
        }
        if eventRing != nil { unsafe noteSubmission(operation, as: id) }
        unsafe driver.submit(operation, as: id)
    }

    /// Submits a multishot operation whose completions go to `sink`.
    func start(_ operation: Operation, sink: CompletionSink) -> OperationID {
        let id = pending.reserve(unsafe operation.kind)
        pending.attach(id, sink: sink)
        if eventRing != nil { unsafe noteSubmission(operation, as: id) }
        unsafe driver.submit(operation, as: id)
        if isShuttingDown { cancel(id) }
        return id
    }

    /// Whether the last completion of an operation has arrived, though nobody was told yet.
    func hasEnded(_ id: OperationID) -> Bool {
        // SAFETY: the range is within what `complete` has written.
        arrivedRange.contains { index in unsafe arrived[index].operation == id && !arrived[index].more }
    }

    /// Books an operation that finished without waiting, or a long one as several.
    ///
    /// - Returns: whether the job has had its share and must yield first.
    @inline(__always)
    func spendOperation(_ count: Int = 1) -> Bool {
        operationsLeft &-= count
        return operationsLeft <= 0
    }

    // MARK: Yielding

    /// Lets every other ready task go first. On the loop's thread.
    @inline(__always)
    func yieldNow() async {
        if isClosed { return await Task.yield() }
        await unsafe withUnsafeContinuation { unsafe resumeAfterJob($0) }
    }

    /// The task of `continuation` becomes ready as soon as the running job has stopped.
    @inline(__always)
    func resumeAfterJob(_ continuation: UnsafeContinuation<Void, Never>) {
        if unsafe yielded == nil { unsafe yielded = continuation } else { unsafe moreYielded.append(continuation) }
    }

    @inline(__always)
    private func resumeYielded() {
        let first = unsafe yielded
        unsafe yielded = nil
        unsafe first?.resume()
        if unsafe !moreYielded.isEmpty { unsafe moreYielded.drain { unsafe $0.resume() } }
    }

    /// Whether the running job has computed for its time slice.
    var sliceIsOver: Bool {
        let now = driver.now
        if sliceStart == 0 { sliceStart = now }
        return now &- sliceStart >= sliceNanoseconds
    }
}
