#if PostgreSQL
import Rondo
import Testing

@testable import RondoDatabase

// Pools whose connections have several statements under way.
extension DatabaseSuites.Postgres {
    @Suite struct PipelineTests {
        /// Runs `body` with a pool of one connection, and one more that observes.
        func pipelined(
            _ kind: LoopKind, depth: Int = 4,
            server: @escaping @Sendable (inout PostgresConfiguration) -> Void = { _ in },
            _ body: @escaping @Sendable (PostgresPool, PostgresConnection) async throws -> Void
        ) throws {
            let cluster = try PostgresCluster.shared.get()
            try kind.run {
                var configuration = PostgresPool.Configuration()
                (configuration.size, configuration.pipelineDepth) = (1, depth)
                var settings = cluster.remote()
                server(&settings)
                let pool = PostgresPool(settings, configuration)
                let observer = try await PostgresConnection.connect(to: cluster.remote())
                do { try await body(pool, observer) } catch { Issue.record(error) }
                await observer.close()
                await pool.close()
            }
        }

        /// Holds a lock that statements can wait for, until `body` has ended.
        func whileLocked(_ observer: PostgresConnection, _ body: () async throws -> Void) async throws {
            try await observer.execute("SELECT pg_advisory_lock(1)")
            do {
                try await body()
            } catch {
                try await observer.execute("SELECT pg_advisory_unlock(1)")
                throw error
            }
            try await observer.execute("SELECT pg_advisory_unlock(1)")
        }

        static let waitForLock: SQLQuery = "SELECT pg_advisory_xact_lock(1)"

        /// Lets the pool's connection begin to serve: the first of these statements has it to itself, the others queue.
        func begin(
            _ pool: PostgresPool, _ observer: PostgresConnection, first: SQLQuery, _ others: [SQLQuery],
            underWay: Int = 4
        ) async throws -> [Task<[SQLRow], any Error>] {
            let gate = AsyncEvent()
            let isInside = AsyncEvent()
            let holder = start {
                try await pool.withConnection { _ in
                    isInside.set()
                    try await gate.wait()
                }
            }
            try await isInside.wait()
            var tasks: [Task<[SQLRow], any Error>] = []
            for query in [first] + others {
                tasks.append(start { try await pool.query(query) })
                let count = tasks.count
                try await waitUntil { await pool.statistics.waiting == count }
            }
            gate.set()
            try await holder.value
            let waiting = max(0, tasks.count - underWay)
            try await waitUntil { await pool.statistics.waiting == waiting }
            return tasks
        }

        @Test(arguments: LoopKind.allCases) func statementsAreSentAhead(_ kind: LoopKind) throws {
            try pipelined(kind) { pool, observer in
                var tasks: [Task<[SQLRow], any Error>] = []
                try await whileLocked(observer) {
                    tasks = try await begin(
                        pool, observer, first: Self.waitForLock, (1...6).map { "SELECT \($0)::int" })
                    // Three are under way behind the first, and three wait for the first's end.
                    #expect(await pool.statistics.waiting == 3)
                }
                _ = try await tasks[0].value
                for number in 1...6 {
                    #expect(try await tasks[number].value.map(\.values) == [[.integer(Int64(number))]])
                }
                let statistics = await pool.statistics
                #expect(statistics.connected == 1 && statistics.waiting == 0)
            }
        }

        /// Each has the answer, or the error, that it would have had alone.
        @Test(arguments: LoopKind.allCases, [0, 3, 256])
        func eachHasItsOwnAnswer(_ kind: LoopKind, prepared: Int) throws {
            try pipelined(kind, server: { $0.preparedStatementsMax = prepared }) { pool, observer in
                try await observer.execute("DROP TABLE IF EXISTS pipelined; CREATE TABLE pipelined (n INT PRIMARY KEY)")
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for n in 0..<400 {
                        group.addTask(executorPreference: EventLoop.current!.executor) {
                            switch n % 8 {
                            case 0: #expect(try await pool.first("SELECT \(n)::int")?.values == [.integer(Int64(n))])
                            case 1:
                                let error = try await failure {
                                    _ = try await pool.query("SELECT 1 / (\(n)::int - \(n))")
                                }
                                #expect(error.refusal?.code == "22012", "\(error)")
                            case 2: #expect(try await pool.execute("INSERT INTO pipelined VALUES (\(n))") == 1)
                            case 3:
                                let error = try await failure {
                                    try await pool.execute(
                                        "INSERT INTO pipelined SELECT \(-n) FROM generate_series(1, 2)")
                                }
                                #expect(error.refusal?.kind == .uniqueViolation, "\(error)")
                            case 4:
                                let error = try await failure { _ = try await pool.query("SELECT * FROM nowhere") }
                                #expect(error.refusal?.code == "42P01", "\(error)")
                            case 5:
                                let rows = try await pool.query("SELECT i FROM generate_series(1, \(n % 50)) i")
                                #expect(rows.count == n % 50)
                            case 6:
                                let error = try await failure { _ = try await pool.query("SELECT \("a\0b")::text") }
                                #expect("\(error)".contains("has a NUL in it"), "\(error)")
                            default:
                                // Texts of their own, more than stay prepared.
                                let query = SQLQuery(unsafeText: "SELECT \(n)")
                                #expect(try await pool.first(query)?.values == [.integer(Int64(n))])
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                let count = try await observer.first("SELECT count(*), min(n) FROM pipelined")
                #expect(count?.values == [.integer(50), .integer(2)])
                #expect(await pool.statistics.dropped == 0)
            }
        }

        @Test(arguments: LoopKind.allCases) func oneOfThemIsCancelled(_ kind: LoopKind) throws {
            try pipelined(kind) { pool, observer in
                for cancelled in [0, 2, 5] {
                    var tasks: [Task<[SQLRow], any Error>] = []
                    try await whileLocked(observer) {
                        tasks = try await begin(
                            pool, observer, first: Self.waitForLock,
                            [
                                "SELECT 1", cancelled == 2 ? "SELECT pg_sleep(86400)" : "SELECT 2", "SELECT 3",
                                "SELECT 4",
                                "SELECT 5",
                            ])
                        tasks[cancelled].cancel()
                        // The one that the server runs is ended there, the one in the queue leaves it.
                        if cancelled != 2 {
                            #expect(try await failure { _ = try await tasks[cancelled].value }.isCancellation)
                        }
                    }
                    for number in 0...5 where number != cancelled {
                        let rows = try await tasks[number].value
                        if number > 0 { #expect(rows.map(\.values) == [[.integer(Int64(number))]]) }
                    }
                    #expect(try await failure { _ = try await tasks[cancelled].value }.isCancellation)
                }
                #expect(await pool.statistics.connected == 1)
            }
        }

        /// A request to end one of them never shows in another, though it may come late.
        @Test(arguments: LoopKind.allCases) func lateRequestsHitNobodyElse(_ kind: LoopKind) throws {
            try pipelined(kind, depth: 8) { pool, observer in
                try await observer.execute("DROP TABLE IF EXISTS counted; CREATE TABLE counted (n INT)")
                let inserted = Shared(0)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for n in 0..<600 {
                        group.addTask(executorPreference: EventLoop.current!.executor) {
                            let task = start {
                                if n % 3 == 0 { return try await pool.query("SELECT \(n)::int, pg_sleep(0.0002)") }
                                return try await pool.query("INSERT INTO counted VALUES (\(n)) RETURNING n")
                            }
                            for _ in 0..<(n % 20) { await EventLoop.yield() }
                            if n % 3 == 0 { task.cancel() }
                            do {
                                let rows = try await task.value
                                #expect(rows[0].values[0] == .integer(Int64(n)))
                                if n % 3 != 0 { inserted.change { $0 += 1 } }
                            } catch let error as SQLError {
                                #expect(n % 3 == 0 && error.isCancellation, "\(n): \(error)")
                            }
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(inserted.value == 400)
                let row = try await observer.first("SELECT count(*), count(DISTINCT n) FROM counted")
                #expect(row?.values == [.integer(400), .integer(400)])
                #expect(await pool.statistics.connected == 1)
            }
        }

        /// What the server refuses only when it commits is the failure of the statement that it belongs to.
        @Test(arguments: LoopKind.allCases) func aRefusalAtTheCommitIsNobodyElses(_ kind: LoopKind) throws {
            try pipelined(kind) { pool, observer in
                try await observer.execute(
                    """
                    DROP TABLE IF EXISTS late; CREATE TABLE late (n INT UNIQUE DEFERRABLE INITIALLY DEFERRED);
                    INSERT INTO late VALUES (1)
                    """)
                var tasks: [Task<[SQLRow], any Error>] = []
                try await whileLocked(observer) {
                    tasks = try await begin(
                        pool, observer, first: Self.waitForLock,
                        ["INSERT INTO late VALUES (1) RETURNING n", "SELECT 2", "SELECT 3", "SELECT 4"])
                }
                let error = try await failure { _ = try await tasks[1].value }
                #expect(error.refusal?.kind == .uniqueViolation, "\(error)")
                for number in 2...4 {
                    let rows = try await tasks[number].value
                    #expect(rows.map(\.values) == [[.integer(Int64(number))]])
                }
                // As one transaction.
                let whole = try await failure {
                    _ = try await pool.withConnection {
                        try await $0.pipeline(["SELECT 1", "INSERT INTO late VALUES (1)", "SELECT 2"])
                    }
                }
                #expect(whole.refusal?.kind == .uniqueViolation, "\(whole)")
                let count = try await pool.first("SELECT count(*) FROM late")
                #expect(count?.values == [.integer(1)])
                let statistics = await pool.statistics
                #expect(statistics.connected == 1 && statistics.dropped == 0)
            }
        }

        /// Nobody waits for ever for a statement that the server has not begun with.
        @Test(arguments: LoopKind.allCases) func whoIsCancelledBehindALongStatementGoesOn(_ kind: LoopKind) throws {
            try pipelined(kind, server: { $0.cancelPatience = .milliseconds(20) }) { pool, observer in
                var tasks: [Task<[SQLRow], any Error>] = []
                try await whileLocked(observer) {
                    tasks = try await begin(
                        pool, observer, first: Self.waitForLock, ["SELECT 1", "SELECT pg_sleep(86400)", "SELECT 3"])
                    tasks[2].cancel()
                    let error = try await failure { _ = try await tasks[2].value }
                    #expect(error.isDisconnection && "\(error)".contains("the task was cancelled"), "\(error)")
                }
                // When its turn comes, it is ended, and those behind it are answered.
                let rows = try await tasks[3].value
                #expect(rows.map(\.values) == [[.integer(3)]])
            }
        }

        /// Only those that a request may have met are run once more: here the time limit of the server has ended it.
        @Test(arguments: LoopKind.allCases) func whatTheServerEndsByItselfIsNotRunAgain(_ kind: LoopKind) throws {
            try pipelined(kind) { pool, observer in
                try await observer.execute("DROP SEQUENCE IF EXISTS runs; CREATE SEQUENCE runs")
                try await pool.withConnection { _ = try await $0.execute("SET statement_timeout TO 100") }
                var tasks: [Task<[SQLRow], any Error>] = []
                try await whileLocked(observer) {
                    tasks = try await begin(
                        pool, observer, first: Self.waitForLock,
                        ["SELECT 1", "SELECT 2", "SELECT 3", "SELECT nextval('runs'), pg_sleep(86400)"])
                    tasks[0].cancel()
                    _ = try await failure { _ = try await tasks[0].value }
                }
                let error = try await failure { _ = try await tasks[4].value }
                #expect(error.refusal?.code == "57014", "\(error)")
                let runs = try await observer.first("SELECT last_value FROM runs")
                #expect(runs?.values == [.integer(1)])
            }
        }

        /// The task that sends for others has nothing of the one that gave its connection back.
        @Test func nobodysTaskLocalsReachOthers() throws {
            let seen = Shared<[String]>([])
            try pipelined(.machine, server: { $0.onNotice = { _ in seen.change { $0.append(Self.name) } } }) {
                pool, _ in
                try await pool.withConnection {
                    try await $0.execute(
                        """
                        CREATE OR REPLACE FUNCTION pg_temp.note() RETURNS INT LANGUAGE plpgsql
                        AS $$ BEGIN RAISE NOTICE 'x'; RETURN 1; END $$
                        """)
                }
                let gate = AsyncEvent()
                let isInside = AsyncEvent()
                let holder = start {
                    try await Self.$name.withValue("holder") {
                        try await pool.withConnection { _ in
                            isInside.set()
                            try await gate.wait()
                        }
                    }
                }
                try await isInside.wait()
                let other = start { try await pool.query("SELECT pg_temp.note()") }
                try await waitUntil { await pool.statistics.waiting == 1 }
                gate.set()
                try await holder.value
                _ = try await other.value
            }
            #expect(seen.value == ["nobody"])
        }

        @TaskLocal private static var name = "nobody"

        /// The connection is given up, and what waits is run on another.
        @Test func aServerThatDoesNotEndItIsGivenUp() throws {
            try pipelined(.machine, server: { $0.cancelPatience = .milliseconds(50) }) { pool, observer in
                var tasks: [Task<[SQLRow], any Error>] = []
                try await whileLocked(observer) {
                    tasks = try await begin(
                        pool, observer, first: Self.waitForLock,
                        ["SELECT 1", "SELECT 2", "SELECT 3", "SELECT 4", "SELECT 5"])
                    var found: SQLRow?
                    while found == nil {
                        found = try await observer.first(
                            "SELECT pid FROM pg_stat_activity WHERE wait_event = 'advisory'")
                    }
                    let process: Int = try found![0]
                    _ = try await offload { try shell("kill -STOP \(process)") }
                    tasks[0].cancel()
                    for number in 0...3 {
                        let error = try await failure { _ = try await tasks[number].value }
                        #expect(error.isDisconnection && "\(error)".contains("did not end a command"), "\(error)")
                    }
                    for number in 4...5 {
                        #expect(try await tasks[number].value.map(\.values) == [[.integer(Int64(number))]])
                    }
                    _ = try await offload { try shell("kill -CONT \(process)") }
                }
                let statistics = await pool.statistics
                #expect(statistics.connected == 2 && statistics.dropped == 1)
            }
        }

        /// What a statement answers is changed while it is prepared, and while others of its text are under way.
        @Test(arguments: LoopKind.allCases) func staleStatementsAreRunAnew(_ kind: LoopKind) throws {
            try pipelined(kind) { pool, observer in
                try await observer.execute("DROP TABLE IF EXISTS changing; CREATE TABLE changing (a INT)")
                try await observer.execute("INSERT INTO changing VALUES (1)")
                for round in 1...5 {
                    var tasks: [Task<[SQLRow], any Error>] = []
                    try await whileLocked(observer) {
                        tasks = try await begin(
                            pool, observer, first: Self.waitForLock,
                            Array(repeating: "SELECT * FROM changing", count: 6))
                        try await observer.execute(SQLQuery(unsafeText: "ALTER TABLE changing ADD b\(round) INT"))
                    }
                    for task in tasks.dropFirst() { #expect(try await task.value[0].count == 1 + round) }
                    _ = try await tasks[0].value
                }
            }
        }

        /// Both kinds of waiting tasks get their turn, however many there are of the other kind.
        @Test(arguments: LoopKind.allCases) func nobodyStarves(_ kind: LoopKind) throws {
            try pipelined(kind) { pool, _ in
                let done = Shared((statements: 0, transactions: 0))
                let mayEnd = Shared(false)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<20 {
                        group.addTask(executorPreference: EventLoop.current!.executor) {
                            while !mayEnd.value {
                                _ = try await pool.query("SELECT 1")
                                done.change { $0.statements += 1 }
                            }
                        }
                        group.addTask(executorPreference: EventLoop.current!.executor) {
                            while !mayEnd.value {
                                _ = try await pool.transaction { try await $0.query("SELECT 1") }
                                done.change { $0.transactions += 1 }
                            }
                        }
                    }
                    try await waitUntil { done.value.statements > 400 && done.value.transactions > 100 }
                    mayEnd.change { $0 = true }
                    try await group.waitForAll()
                }
                #expect(await pool.statistics.waiting == 0)
            }
        }

        @Test(arguments: LoopKind.allCases) func aPoolIsClosed(_ kind: LoopKind) throws {
            try pipelined(kind) { pool, observer in
                var tasks: [Task<[SQLRow], any Error>] = []
                var closing: Task<Void, any Error>?
                try await whileLocked(observer) {
                    tasks = try await begin(
                        pool, observer, first: Self.waitForLock, (1...6).map { "SELECT \($0)::int" })
                    closing = start { await pool.close() }
                    for number in 4...6 {
                        let error = try await failure { _ = try await tasks[number].value }
                        #expect(error == SQLError("use", "the pool", .closed))
                    }
                }
                // Those that were under way are answered.
                for number in 0...3 { #expect(try await tasks[number].value.count == 1) }
                try await closing?.value
                #expect(try await failure { _ = try await pool.query("SELECT 1") }.cause == .closed)
            }
        }

        @Test func commandsToTheSessionHaveAConnectionOfTheirOwn() {
            for text in [
                "SELECT 1", " \n\tselect 1", "INSERT INTO a VALUES (1)", "with x as (select 1) table x", "VALUES(1)",
            ] {
                #expect(SQLQuery(unsafeText: text).isSelfContained, "\(text)")
            }
            for text in [
                "BEGIN", "SET x TO 1", "CALL p()", "VACUUM", "", "selection", "selec", "LISTEN x", "(SELECT 1)",
                "-- SELECT",
                "DISCARD ALL", "selectselect",
            ] {
                #expect(!SQLQuery(unsafeText: text).isSelfContained, "\(text)")
            }
        }
    }
}
#endif
