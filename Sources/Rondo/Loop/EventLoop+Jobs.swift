// How jobs and messages come to a loop: from the runtime, on its own thread or on another, now or after a while.

import Glibc

extension EventLoop {
    /// From any thread: the runtime wants `job` to run.
    @inline(__always)
    func enqueue(_ job: UnownedJob) {
        if isOnOwnThread { makeReady(job) } else { enqueueFromOutside(job) }
    }

    /// From any thread, through the face for tasks of this loop.
    @inline(__always)
    func enqueuePinned(_ job: UnownedJob) {
        JobReference(job).owner = .loop
        enqueue(job)
    }

    /// From any thread, through the face for actors.
    @inline(__always)
    func enqueueOfActor(_ job: UnownedJob) {
        JobReference(job).owner = .actor
        enqueue(job)
    }

    /// Runs a job of the ready queue: an actor's in its name, so that its functions call each other, and return to each
    /// other, within the job; any other in the name of `executor`.
    @inline(__always)
    func run(_ job: UnownedJob, on executor: UnownedTaskExecutor) {
        // SAFETY: the scheduler has given the job up.
        if JobReference(job).owner == .actor {
            // What the actor calls goes on in the job if that is where the task wants to be.
            let tasks = unsafe group?.asUnownedTaskExecutor() ?? taskFace.asUnownedTaskExecutor()
            unsafe job.runSynchronously(isolatedTo: serialFace.asUnownedSerialExecutor(), taskExecutor: tasks)
        } else {
            unsafe job.runSynchronously(on: executor)
        }
    }

    private func enqueueFromOutside(_ job: UnownedJob) {
        switch inbox.push(job) {
        case .pushed: break
        case .pushedAndMustWake: driver.wake()
        case .closed: afterLife.enqueue(job, of: self)
        }
    }

    /// From any thread: the runtime wants `job` to run after a while, because the current task goes to sleep. A time
    /// that is past (a negative delay) still tells who is first.
    func enqueue(_ job: UnownedJob, afterNanoseconds delay: Int64) {
        guard isOnOwnThread else {
            let isTold = tell(.perform { [unowned self] in addSleep(job, delay: delay, sleeper: nil) })
            if !isTold { LoopExecutor.moveSleep(job, nanoseconds: UInt64(max(0, delay))) }
            return
        }
        addSleep(job, delay: delay, sleeper: currentTaskReference())
    }

    private func addSleep(_ job: UnownedJob, delay: Int64, sleeper: JobReference?) {
        let now = driver.now
        let deadline = delay < 0 ? now &- min(now, delay.magnitude) : now &+ UInt64(delay)
        let timer = timers.add(deadline: min(deadline, .max - 1), target: .job(job), sleeper: sleeper)
        if let eventRing, let sleeper { eventRing.sleeps(sleeper, nanoseconds: deadline &- min(now, deadline)) }
        sleeper?.timerNote = TimerNote(timer: timer, generation: timers.generation(of: timer), loop: number)
    }

    /// Puts a job into the ready queue.
    @inline(__always)
    func makeReady(_ job: UnownedJob) {
        if !isLayoutVerified {
            LoopExecutor.verifyJobLayout(job)
            isLayoutVerified = true
        }
        let reference = JobReference(job)
        let note = reference.timerNote
        if note != .none {
            reference.timerNote = .none
            if Int(note.loop) == number { endSleepEarly(note, of: reference) } else { tellSleepIsOver(note, reference) }
        }
        if notedWord != 0 {
            if reference.firstWord != notedWord { liveTasks?.note(reference) }
            if reference.isTask { reference.lastSeen = coarseTime }
        }
        if eventRing != nil { noteReady(reference) }
        scheduler.push(job)
    }

    /// Notes that a job is ready, and its task if it is new.
    func noteReady(_ job: JobReference) {
        let isSeen = job.isSeen
        if !isSeen { job.setSeen() }
        eventRing?.becomesReady(job, isSeen: isSeen)
    }

    /// A task that sleeps became ready before its time: it was cancelled. Its wake-up job runs in this turn, finds
    /// that nobody waits, and frees itself; else it would stay until the deadline.
    @inline(__always)
    private func endSleepEarly(_ note: TimerNote, of task: JobReference) {
        guard timers.isSet(note.timer, generation: note.generation, sleeper: task) else { return }
        if case .job(let job) = timers.remove(note.timer) { endedSleeps.append(job) }
    }

    /// A task that slept on another loop has become ready on this one. It may be gone when the other hears of it, so
    /// it is only named there, by its address and the timer's generation.
    private func tellSleepIsOver(_ note: TimerNote, _ task: JobReference) {
        guard let loops = group?.loops, Int(note.loop) < loops.count else { return }
        let bits = task.bits
        let other = loops[Int(note.loop)]
        other.tell(.perform { other.endSleepEarly(note, of: JobReference(bits: bits)!) })
    }

    func runEndedSleeps() {
        endedSleeps.drain { LoopExecutor.runWakeUp($0) }
    }

    /// From any thread: a message for the loop.
    ///
    /// - Returns: false if the loop is closed: then the message is dropped.
    @discardableResult
    func tell(_ content: sending InboxMessage.Content) -> Bool {
        let outcome = inbox.push(content)
        if outcome == .pushedAndMustWake { driver.wake() }
        return outcome != .closed
    }

    /// Asks for an early end of an operation. On the loop's thread; ids of what is over are ignored.
    func cancel(_ id: OperationID) {
        switch pending.cancel(id) {
        case .none: break
        case .askDriver: if !hasEnded(id) { driver.cancel(id) }
        case .takeBack(let work):
            // SAFETY: the waiting task owns the work until the completion.
            let taken = unsafe work._withUnsafeGuaranteedRef { $0.cancelIfQueued() }
            if taken { pending.finish(Completion(operation: id, result: -ECANCELED)) }
        }
    }

    func receive(_ message: InboxMessage) {
        switch message.content {
        case .offloaded(let work):
            if let eventRing { return finishObserved(work, eventRing) }
            pending.finish(Completion(operation: work.operation, result: work.result))
        case .cancel(let id): cancel(id)
        case .release(let slice): release(slice)
        case .perform(let body): body()
        }
    }

    /// A call has come back from the offload pool: notes that as other completions are, and when it ran.
    private func finishObserved(_ work: OffloadWork, _ ring: EventRing) {
        let completion = Completion(operation: work.operation, result: work.result)
        if let times = work.times { ring.offloadRan(work.operation, from: times.start, to: times.end) }
        let (kind, descriptor) = pending.description(of: work.operation)
        ring.arrives(completion, kind, descriptor: descriptor)
        pending.finish(completion)
        eventRing?.hasArrived()
        eventRing?.setCause(.readyFromOutside)
    }
}
