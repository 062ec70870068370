// No task is ever lost: those that outlive their loop go on here, on Swift's own executor, still one at a time, as
// what they share with the loop's objects demands. None does so before the loop's thread has closed it: until then
// these objects are that thread's.

import CRondo
import Synchronization

/// Runs the jobs of a loop that has closed.
final class AfterLife: Sendable {
    private struct State {
        var jobs: [UnownedJob] = []
        /// Whether somebody sees to them: the loop's thread, until it calls `begin`, or a task that runs them.
        var isRunning = true
    }
    private let state = Lock(State())
    /// The thread that runs a job now; 0 for none.
    private let runner = Atomic<Int32>(0)

    /// Whether the calling thread runs one of the jobs.
    var isRunningHere: Bool { runner.load(ordering: .relaxed) == rondo_thread_id() }

    /// From any thread.
    func enqueue(_ job: UnownedJob, of loop: EventLoop) {
        let mustStart = state.withLock { state in
            state.jobs.append(job)
            defer { state.isRunning = true }
            return !state.isRunning
        }
        if mustStart { start(of: loop) }
    }

    /// The loop has closed: what came meanwhile runs, and what comes from now on. On the loop's thread, once.
    func begin(of loop: EventLoop) {
        let mustStart = state.withLock { state in
            state.isRunning = !state.jobs.isEmpty
            return state.isRunning
        }
        if mustStart { start(of: loop) }
    }

    private func start(of loop: EventLoop) {
        Task.detached { [self] in await run(on: LoopExecutor(loop)) }
    }

    private func run(on face: LoopExecutor) async {
        while true {
            let jobs = state.withLock { state in
                if state.jobs.isEmpty { state.isRunning = false }
                defer { state.jobs = [] }
                return state.jobs
            }
            if jobs.isEmpty { return }
            runner.store(rondo_thread_id(), ordering: .relaxed)
            for job in jobs { face.run(job) }
            runner.store(0, ordering: .relaxed)
            await Task.yield()
        }
    }
}
