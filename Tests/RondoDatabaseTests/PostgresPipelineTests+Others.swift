#if PostgreSQL
import Rondo
import Synchronization
import Testing

@testable import RondoDatabase

// What tasks elsewhere, and requests that come late, do to a pool whose connections have several statements under way.
extension DatabaseSuites.Postgres.PipelineTests {
    /// A task that belongs to no loop waits for its statement on the pool's: elsewhere it could miss the answer.
    @Test func aTaskOfAnotherExecutorWaitsOnThePoolsLoop() throws {
        try pipelined(.machine) { pool, observer in
            let elsewhere = HeldExecutor()
            let (gate, isInside) = (AsyncEvent(), AsyncEvent())
            let holder = start {
                try await pool.withConnection { _ in
                    isInside.set()
                    try await gate.wait()
                }
            }
            try await isInside.wait()
            let task = Task(executorPreference: elsewhere) { try await pool.query("SELECT 1") }
            try await waitUntil {
                try await offload { elsewhere.run() }
                return await pool.statistics.waiting == 1
            }
            #expect(elsewhere.count == 0)
            gate.set()
            try await holder.value
            let isOver = Shared(false)
            let result = start {
                defer { isOver.change { $0 = true } }
                return try await task.value
            }
            try await waitUntil {
                try await offload { elsewhere.run() }
                return isOver.value
            }
            #expect(try await result.value.map(\.values) == [[.integer(1)]])
        }
    }

    /// Tasks on Swift's own threads have their answers, each its own.
    @Test(arguments: LoopKind.allCases) func tasksOfOtherThreadsHaveTheirAnswers(_ kind: LoopKind) throws {
        try pipelined(kind) { pool, _ in
            try await withThrowingTaskGroup(of: Void.self) { group in
                for task in 0..<16 {
                    group.addTask(executorPreference: globalConcurrentExecutor) {
                        for round in 0..<50 {
                            let number = task * 1000 + round
                            let inner = Task { try await pool.query("SELECT \(number)::int") }
                            if round % 7 == 6 { inner.cancel() }
                            do {
                                let rows = try await inner.value
                                #expect(rows.map(\.values) == [[.integer(Int64(number))]])
                            } catch let error as SQLError {
                                #expect(round % 7 == 6 && error.isCancellation, "\(error)")
                            }
                        }
                    }
                }
                try await group.waitForAll()
            }
            let statistics = await pool.statistics
            #expect(statistics.waiting == 0 && statistics.dropped == 0)
        }
    }
}

/// An executor whose jobs run when somebody says so.
private final class HeldExecutor: TaskExecutor {
    private let jobs = Mutex<[UnownedJob]>([])

    var count: Int { jobs.withLock { $0.count } }

    func enqueue(_ job: consuming ExecutorJob) {
        let job = UnownedJob(job)
        jobs.withLock { $0.append(job) }
    }

    func run() {
        let ready = jobs.withLock { jobs in
            defer { jobs = [] }
            return jobs
        }
        // SAFETY: each job is run once.
        for job in ready { unsafe job.runSynchronously(on: asUnownedTaskExecutor()) }
    }
}
#endif
