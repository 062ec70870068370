// A loop's life: how it gets its thread, its faces and its end; and its part in the life of receive buffers.

import CRondo
import Glibc
import Synchronization

extension EventLoop {
    /// Makes this loop the executor of the whole process.
    func takeOverProgram() {
        for loop in group?.loops ?? [self] { loop.isProgramLoop = true }
        isAlone = group == nil
        takeOver(with: self)
    }

    /// Whether the caller runs on the loop's thread.
    @inline(__always)
    package var isOnOwnThread: Bool {
        // SAFETY: only the address is looked at.
        unsafe rondo_current_loop() == Unmanaged.passUnretained(self).toOpaque()
    }

    /// Whether an async function of the loop's objects may run where it is called, to its end: on the loop's thread,
    /// and in no actor that another thread could enter while the function waits, and go on with it there.
    @inline(__always)
    var isHome: Bool { isOnOwnThread && (isAlone || !isInForeignActor) }

    private var isInForeignActor: Bool {
        let actor = rondo_current_actor()
        // SAFETY: only the address is looked at.
        return unsafe actor != 0 && actor != UInt(bitPattern: Unmanaged.passUnretained(serialFace).toOpaque())
    }

    /// Makes the calling thread the loop's.
    func enterThread() {
        require(unsafe rondo_current_loop() == nil, "this thread already runs an event loop")
        // SAFETY: cleared by close(), before the loop is freed.
        unsafe rondo_set_current_loop(Unmanaged.passUnretained(self).toOpaque())
        threadID = rondo_thread_id()
    }

    /// Ends the loop after the running job. From any thread.
    func stop() {
        stopRequested.store(true, ordering: .relaxed)
        if !isOnOwnThread { driver.wake() }
    }

    /// Ends what is unfinished and frees the driver. On the loop's thread, after `runTurns`.
    ///
    /// The order: operations are cancelled and their tasks run on, until no operation is left and no job is ready; then
    /// the loop refuses jobs, and the pool and the driver close. Tasks that sleep, or that never wait, move to Swift's
    /// own executor.
    func close() {
        isShuttingDown = true
        group?.noteBusy(number)
        for id in pending.unfinished { cancel(id) }
        for callback in timers.callbacks { callback.loopShutsDown() }
        feedStarved()
        // A task that does nothing but yield would keep the loop for ever; one whose operation has just ended cleans
        // up.
        var idleTurns = 0
        while pending.count > 0 || (hasReadyJobs && idleTurns < 100) {
            idleTurns = pending.count > 0 ? 0 : idleTurns + 1
            turn()
        }
        isClosed = true
        inbox.close { entry in
            switch entry {
            case .job(let job): makeReady(job)
            case .message(let message): receive(message)
            }
        }
        runEndedSleeps()
        timers.removeAll { target, deadline in
            let nanoseconds = deadline &- min(deadline, turnStart)
            switch target {
            case .job(let job): LoopExecutor.moveSleep(job, nanoseconds: nanoseconds)
            case .callback(let callback): callback.loopCloses(nanosecondsLeft: nanoseconds)
            }
        }
        offloadPool.close()
        transferPipes.close(driver)
        driver.close()
        sharedTaskFace.withLock { $0 = nil }
        ownTaskFace = nil
        rondo_set_current_loop(nil)
        recording = nil
        while let job = scheduler.pop() ?? movable?.take() { afterLife.enqueue(job, of: self) }
        group = nil
        if let liveTasks { LiveTasks.giveBack(liveTasks) }
        // Last: nothing of the loop is used on this thread any more.
        afterLife.begin(of: self)
    }

    private var hasReadyJobs: Bool { !scheduler.isEmpty || (movable?.count ?? 0) > 0 }

    /// The face for tasks.
    @inline(__always)
    var taskFace: LoopExecutor {
        guard let ownTaskFace else { crash("this event loop is closed") }
        return ownTaskFace
    }

    /// The face for tasks, or nil if the loop has closed. From any thread.
    var sharedFace: LoopExecutor? { sharedTaskFace.withLock { $0 } }

    /// A face for tasks, even after the loop has closed. From any thread.
    var faceForNewTasks: LoopExecutor { isOnOwnThread ? taskFace : sharedFace ?? LoopExecutor(self) }
}

// MARK: Receive buffers

extension EventLoop {
    /// Gives received bytes back. On the loop's thread.
    @inline(__always)
    func release(_ slice: BufferSlice) {
        receiveBuffers.release(slice)
        if !starved.isEmpty { feedStarved() }
    }

    /// A receive ended because no buffer was free.
    func waitForBuffer(_ waiter: any BufferWaiter) {
        if receiveBuffers.grow() { waiter.bufferMayBeFree() } else { starved.append(waiter) }
    }

    private func feedStarved() {
        starved.drain { $0.bufferMayBeFree() }
    }
}
