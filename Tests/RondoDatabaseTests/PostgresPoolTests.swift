#if PostgreSQL
import Rondo
import Testing

@testable import RondoDatabase

extension DatabaseSuites.Postgres {
    /// Runs `body` with a pool of the shared server.
    static func pooled(
        _ kind: LoopKind, size: Int = 3, _ adjust: (inout PostgresPool.Configuration) -> Void = { _ in },
        _ body: @escaping @Sendable (PostgresPool, PostgresCluster) async throws -> Void
    ) throws {
        let cluster = try PostgresCluster.shared.get()
        var configuration = PostgresPool.Configuration()
        configuration.size = size
        adjust(&configuration)
        let settings = configuration
        try kind.run {
            let pool = PostgresPool(cluster.remote(), settings)
            do {
                try await body(pool, cluster)
            } catch {
                await pool.close()
                throw error
            }
            await pool.close()
            #expect(await pool.statistics.open == 0)
        }
    }

    @Suite struct PoolTests {
        @Test(arguments: LoopKind.allCases) func manyTasksShareFewConnections(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.pooled(kind) { pool, _ in
                let counts = Shared((inside: 0, most: 0))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<300 {
                        group.addTask(executorPreference: EventLoop.current!.executor) {
                            try await pool.withConnection { connection in
                                counts.change { $0 = ($0.inside + 1, max($0.most, $0.inside + 1)) }
                                let row = try await connection.first("SELECT \(number)::int")
                                #expect(row?.values == [.integer(Int64(number))])
                                counts.change { $0.inside -= 1 }
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(counts.value.most == 3)
                let statistics = await pool.statistics
                #expect(
                    statistics == .init(open: 3, idle: 3, waiting: 0, connected: 3, failedToConnect: 0, dropped: 0))
            }
        }

        @Test(arguments: LoopKind.allCases, [1, 4]) func firstComeFirstServed(_ kind: LoopKind, depth: Int) throws {
            try DatabaseSuites.Postgres.pooled(kind, size: 1, { $0.pipelineDepth = depth }) { pool, _ in
                let order = Shared<[Int]>([])
                let mayEnd = AsyncEvent()
                let isInside = AsyncEvent()
                let holder = start {
                    try await pool.withConnection { _ in
                        isInside.set()
                        try await mayEnd.wait()
                    }
                }
                try await isInside.wait()
                var tasks: [Task<Void, any Error>] = []
                for number in 0..<5 {
                    tasks.append(
                        start {
                            _ = try await pool.query("SELECT 1")
                            order.change { $0.append(number) }
                        })
                    try await waitUntil { await pool.statistics.waiting == number + 1 }
                }
                tasks[2].cancel()
                #expect(try await failure { try await tasks[2].value }.isCancellation)
                #expect(await pool.statistics.waiting == 4)
                mayEnd.set()
                try await holder.value
                for number in [0, 1, 3, 4] { try await tasks[number].value }
                #expect(order.value == [0, 1, 3, 4])
            }
        }

        @Test(arguments: LoopKind.allCases) func brokenConnectionsAreReplaced(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.pooled(kind, size: 2, { $0.trustedIdleTime = .zero }) { pool, cluster in
                let killAll =
                    "SELECT pg_terminate_backend(pid, 60000) FROM pg_stat_activity WHERE application_name = 'rondo'"
                for round in 1...3 {
                    // Idle ones are found dead, and nobody notices.
                    _ = try await offload { try cluster.psql("\(killAll) AND pid <> pg_backend_pid()") }
                    #expect(try await pool.first("SELECT 1")?.values == [.integer(1)])
                    #expect(await pool.statistics.connected == round)
                }
                // One that is working throws, and does not come back.
                let working = start { try await pool.query("SELECT pg_sleep(86400)") }
                try await waitUntil {
                    try await offload {
                        try cluster.psql("SELECT count(*) FROM pg_stat_activity WHERE wait_event = 'PgSleep'") == "1\n"
                    }
                }
                _ = try await offload { try cluster.psql(killAll) }
                let error = try await failure { _ = try await working.value }
                #expect(error.isDisconnection, "\(error)")
                #expect("\(error)".contains("terminating connection due to administrator command"), "\(error)")
                #expect(try await pool.first("SELECT 1")?.values == [.integer(1)])
            }
        }

        @Test(arguments: LoopKind.allCases) func whatIsLeftOpenDoesNotReachOthers(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.pooled(kind, size: 1) { pool, _ in
                try await pool.withConnection { try await $0.execute("BEGIN; CREATE TEMP TABLE secret (a INT)") }
                #expect(await pool.statistics.dropped == 1)
                #expect(try await failure { try await pool.execute("SELECT * FROM secret") }.refusal?.code == "42P01")
                // Rows that are dropped in the middle end before the connection is lent again.
                try await pool.withConnection { connection in
                    for try await _ in connection.rows("SELECT generate_series(1, 100000000)") { break }
                }
                #expect(try await pool.first("SELECT 1")?.values == [.integer(1)])
                #expect(await pool.statistics.connected == 2)
            }
        }

        @Test(arguments: LoopKind.allCases) func anIdleConnectionIsAskedAfterLong(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.pooled(
                kind, size: 1,
                {
                    ($0.trustedIdleTime, $0.unaskedIdleTime) = (.zero, .zero)
                    $0.patience = .milliseconds(50)
                }
            ) { pool, cluster in
                #expect(try await pool.first("SELECT 1") != nil)
                #expect(try await pool.first("SELECT 1") != nil)
                #expect(await pool.statistics.connected == 1)
                // Its process is there, and says nothing.
                let process: Int = try await pool.first("SELECT pg_backend_pid()")![0]
                _ = try await offload { try shell("kill -STOP \(process)") }
                #expect(try await pool.first("SELECT 1") != nil)
                #expect(await pool.statistics.connected == 2)
                _ = try await offload { try shell("kill -CONT \(process)") }
            }
        }

        @Test(arguments: LoopKind.allCases, [1, 4])
        func anAbsentServerIsWaitedForWithPatience(_ kind: LoopKind, depth: Int) throws {
            try kind.run {
                var configuration = PostgresPool.Configuration()
                configuration.size = 2
                configuration.pipelineDepth = depth
                configuration.patience = .milliseconds(300)
                let pool = PostgresPool(PostgresConfiguration("host=127.0.0.1 port=1 dbname=none"), configuration)
                let tasks = (0..<10).map { _ in start { try await pool.query("SELECT 1") } }
                for task in tasks {
                    let error = try await failure { _ = try await task.value }
                    #expect(error.isDisconnection)
                }
                // Two at a time, each after a pause that grows: 50, 100, 200 ms. The other tasks are told at once.
                let failed = await pool.statistics.failedToConnect
                #expect((2...12).contains(failed), "\(failed) attempts")
                let cancelled = start { try await pool.query("SELECT 1") }
                for _ in 0..<4 { await EventLoop.yield() }
                cancelled.cancel()
                _ = try await failure { _ = try await cancelled.value }
                await pool.close()
            }
        }

        /// The server is killed and started again while many tasks write. Each of them goes on, and what a task was
        /// told to be written is there.
        @Test(arguments: LoopKind.allCases, [1, 8])
        func tasksSurviveACrashOfTheServer(_ kind: LoopKind, depth: Int) throws {
            let cluster = try PostgresCluster()
            _ = try cluster.psql("CREATE TABLE entry (task INT, number INT, PRIMARY KEY (task, number))")
            try kind.run {
                var configuration = PostgresPool.Configuration()
                configuration.pipelineDepth = depth
                let pool = PostgresPool(cluster.remote(), configuration)
                let (tasks, rounds) = (100, 60)
                let counts = Shared((disconnections: 0, attempts: 0))
                let done = Shared<[[Int]]>(Array(repeating: [], count: tasks))
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for task in 0..<tasks {
                        group.addTask(executorPreference: EventLoop.current!.executor) {
                            for number in 0..<rounds {
                                do {
                                    try await pool.execute("INSERT INTO entry VALUES (\(task), \(number))")
                                    done.change { $0[task].append(number) }
                                } catch let error as SQLError where error.isDisconnection {
                                    counts.change { $0.disconnections += 1 }
                                }
                                counts.change { $0.attempts += 1 }
                            }
                        }
                    }
                    group.addTask(executorPreference: EventLoop.current!.executor) {
                        for crash in 1...3 {
                            try await waitUntil { counts.value.attempts > crash * tasks * rounds / 5 }
                            try await offload { try cluster.crash() }
                            try await offload { try cluster.start() }
                        }
                    }
                    try await group.waitForAll()
                }
                // Most tasks never hear of it; those whose statement was running do.
                #expect((1...200 * depth).contains(counts.value.disconnections), "\(counts.value.disconnections)")
                let rows = try await pool.query("SELECT task, number FROM entry ORDER BY 1, 2")
                var there = Array(repeating: Set<Int>(), count: tasks)
                for row in rows { there[try row[0]].insert(try row[1]) }
                for (task, numbers) in done.value.enumerated() {
                    #expect(there[task].isSuperset(of: numbers), "task \(task) has lost entries")
                }
                let statistics = await pool.statistics
                #expect(statistics.connected > 8 && statistics.open <= 8 && statistics.waiting == 0, "\(statistics)")
                await pool.close()
            }
        }
    }
}
#endif
