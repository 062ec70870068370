// A loop's life: how it gets its thread, its faces and its end; and its part in the life of receive buffers.

import CRondo
import Glibc
import Synchronization

extension EventLoop {
    /// Makes this loop the executor of the whole process.
    func takeOverProgram() {
        isProgramLoop = true
        takeOver(with: self)
    }

    /// Whether the caller runs on the loop's thread.
    @inline(__always)
    package var isOnOwnThread: Bool {
        // SAFETY: only the address is looked at.
        unsafe rondo_current_loop() == Unmanaged.passUnretained(self).toOpaque()
    }

    /// Makes the calling thread the loop's.
    func enterThread() {
        require(unsafe rondo_current_loop() == nil, "this thread already runs an event loop")
        // SAFETY: cleared by close(), before the loop is freed.
        unsafe rondo_set_current_loop(Unmanaged.passUnretained(self).toOpaque())
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
        for id in pending.unfinished { cancel(id) }
        for callback in timers.callbacks { callback.loopShutsDown() }
        feedStarved()
        // A task that does nothing but yield would keep the loop for ever; one whose operation has just ended cleans
        // up.
        var idleTurns = 0
        while pending.count > 0 || (!scheduler.isEmpty && idleTurns < 100) {
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
        driver.close()
        sharedTaskFace.withLock { $0 = nil }
        faces = nil
        rondo_set_current_loop(nil)
        while let job = scheduler.pop() { afterLife.enqueue(job, of: self) }
    }

    /// The face for tasks.
    @inline(__always)
    var taskFace: LoopExecutor {
        guard let faces else { crash("this event loop is closed") }
        return faces.tasks
    }

    /// The face for tasks, or nil if the loop has closed. From any thread.
    var sharedFace: LoopExecutor? { sharedTaskFace.withLock { $0 } }

    /// A face for tasks, even after the loop has closed. From any thread.
    var faceForNewTasks: LoopExecutor { isOnOwnThread ? taskFace : sharedFace ?? LoopExecutor(self) }

    /// The face for actors.
    var serialFace: LoopSerialExecutor {
        guard let faces else { crash("this event loop is closed") }
        return faces.serial
    }
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
