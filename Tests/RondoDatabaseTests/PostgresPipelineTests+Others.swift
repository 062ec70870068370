#if PostgreSQL
import Rondo
import Synchronization
import Testing

@testable import RondoDatabase

// What tasks elsewhere, and requests that come late, do to a pool whose connections have several statements under way.
extension DatabaseSuites.Postgres.PipelineTests {
    /// A request to end a statement comes when that has been answered, and meets the next one: that is run once more.
    @Test(arguments: LoopKind.allCases) func whatALateRequestHasMetIsRunAgain(_ kind: LoopKind) throws {
        let cluster = try PostgresCluster.shared.get()
        try kind.run {
            let keeper = try await Gatekeeper(to: cluster)
            var configuration = PostgresPool.Configuration()
            (configuration.size, configuration.pipelineDepth) = (1, 4)
            let pool = PostgresPool(
                PostgresConfiguration("postgres://postgres@127.0.0.1:\(keeper.port)/postgres?sslmode=disable"),
                configuration)
            let observer = try await PostgresConnection.connect(to: cluster.remote())
            try await observer.execute("DROP SEQUENCE IF EXISTS runs; CREATE SEQUENCE runs")
            try await observer.execute("SELECT pg_advisory_lock(1), pg_advisory_lock(2)")
            let tasks = try await begin(
                pool, observer, first: "SELECT 'first', pg_advisory_xact_lock(1)",
                ["SELECT nextval('runs'), pg_advisory_xact_lock(2)", "SELECT 3"])
            try await waitUntil { try await waits(for: 1, observer) }
            tasks[0].cancel()
            try await keeper.hasRequest.wait()
            try await observer.execute("SELECT pg_advisory_unlock(1)")
            try await waitUntil { try await waits(for: 2, observer) }
            keeper.mayPass.set()
            // It begins again, or its task is told of an end that nobody has asked for.
            let isOver = Shared(false)
            let next = start {
                defer { isOver.change { $0 = true } }
                return try await tasks[1].value
            }
            try await waitUntil {
                let runs: Int = try await observer.first("SELECT last_value FROM runs")![0]
                return runs == 2 || isOver.value
            }
            try await observer.execute("SELECT pg_advisory_unlock(2)")
            let first = try await tasks[0].value
            #expect(first.first?.values.first == .text("first"))
            let second = try await next.value
            #expect(second.first?.values.first == .integer(2))
            let third = try await tasks[2].value
            #expect(third.map(\.values) == [[.integer(3)]])
            let statistics = await pool.statistics
            #expect(statistics.connected == 1 && statistics.dropped == 0)
            await observer.close()
            await pool.close()
            await keeper.close()
        }
    }

    /// Whether somebody waits for the advisory lock.
    private func waits(for lock: Int, _ observer: PostgresConnection) async throws -> Bool {
        try await observer.first(
            "SELECT 1 FROM pg_locks WHERE locktype = 'advisory' AND NOT granted AND objid = \(lock)") != nil
    }

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
