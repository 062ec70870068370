#if PostgreSQL
import Rondo
import Testing

@testable import RondoDatabase

extension DatabaseSuites.Postgres {
    @Suite struct CancelTests {
        /// The server's view of a connection: `active`, `idle`, …, and what it waits for.
        private static func state(_ process: Int32, _ observer: PostgresConnection) async throws -> String {
            let row = try await observer.first(
                "SELECT state || ' ' || coalesce(wait_event, '') FROM pg_stat_activity WHERE pid = \(process)")
            return try row?[0] ?? "gone"
        }

        private func observed(
            _ kind: LoopKind,
            _ body: @escaping @Sendable (PostgresConnection, PostgresConnection) async throws -> Void
        ) throws {
            try DatabaseSuites.Postgres.connected(kind) { connection, cluster in
                let observer = try await PostgresConnection.connect(to: cluster.remote())
                try await body(connection, observer)
                await observer.close()
            }
        }

        @Test(arguments: LoopKind.allCases) func cancellationEndsTheStatementOnTheServer(_ kind: LoopKind) throws {
            try observed(kind) { connection, observer in
                let process = try #require(await connection.processID)
                for _ in 0..<3 {
                    let task = start { try await connection.query("SELECT pg_sleep(\(86_400))") }
                    try await waitUntil { try await Self.state(process, observer) == "active PgSleep" }
                    task.cancel()
                    let error = try await failure { _ = try await task.value }
                    #expect(error == SQLError("run", "SELECT pg_sleep($1)", .cancelled))
                    #expect(try await Self.state(process, observer).hasPrefix("idle "))
                    #expect(try await connection.first("SELECT \(1)::int")?.values == [.integer(1)])
                }
                await #expect(throws: TimeoutError.self) {
                    try await withTimeout(.milliseconds(20)) { try await connection.query("SELECT pg_sleep(86400)") }
                }
                #expect(await connection.processID == process)
            }
        }

        /// A server that has not begun with the statement forgets the request to end it.
        @Test(arguments: LoopKind.allCases) func cancellationMayComeBeforeTheStatementBegins(_ kind: LoopKind) throws {
            try observed(kind) { connection, _ in
                let process = try #require(await connection.processID)
                for round in 0..<100 {
                    let task = start { try await connection.query("SELECT pg_sleep(86400)") }
                    for _ in 0..<(round % 8) { await EventLoop.yield() }
                    task.cancel()
                    #expect(try await failure { _ = try await task.value }.isCancellation)
                }
                #expect(await connection.processID == process)
            }
        }

        /// A request to end one statement must never meet the next one.
        @Test(arguments: LoopKind.allCases) func lateRequestsHitNobodyElse(_ kind: LoopKind) throws {
            try observed(kind) { connection, _ in
                var (ended, answered) = (0, 0)
                for round in 0..<200 {
                    let task = start { try await connection.query("SELECT \(round)::int, pg_sleep(0.0002)") }
                    for _ in 0..<(round % 20) { await EventLoop.yield() }
                    task.cancel()
                    do {
                        let rows = try await task.value
                        #expect(rows[0].values[0] == .integer(Int64(round)))
                        answered += 1
                    } catch let error as SQLError {
                        #expect(error.isCancellation, "\(error)")
                        ended += 1
                    }
                    let next = try await connection.query("SELECT \(round)::int")
                    #expect(next[0].values == [.integer(Int64(round))])
                }
                #expect(ended > 0 && ended + answered == 200)
            }
        }

        @Test(arguments: LoopKind.allCases) func aWaitForTheTurnIsCancelled(_ kind: LoopKind) throws {
            try observed(kind) { connection, observer in
                let process = try #require(await connection.processID)
                let first = start { try await connection.query("SELECT pg_sleep(86400)") }
                try await waitUntil { try await Self.state(process, observer) == "active PgSleep" }
                let second = start { try await connection.query("SELECT 2") }
                for _ in 0..<4 { await EventLoop.yield() }
                second.cancel()
                #expect(try await failure { _ = try await second.value }.isCancellation)
                #expect(try await Self.state(process, observer) == "active PgSleep")
                first.cancel()
                #expect(try await failure { _ = try await first.value }.isCancellation)
            }
        }

        /// Rows are read as they are asked for: the server can't go on while nobody asks.
        @Test(arguments: [false, true]) func aSlowReaderHoldsTheServer(stopsByBreak: Bool) throws {
            try observed(.machine) { connection, observer in
                let process = try #require(await connection.processID)
                let task = start {
                    for try await row in connection.rows(
                        "SELECT n, repeat('x', 1000) FROM generate_series(1, 100000000) n")
                    {
                        guard try row["n", as: Int.self] == 10 else { continue }
                        try await waitUntil { try await Self.state(process, observer) == "active ClientWrite" }
                        if stopsByBreak { break }
                        unsafe withUnsafeCurrentTask { unsafe $0!.cancel() }
                    }
                }
                if stopsByBreak {
                    try await task.value
                } else {
                    #expect(try await failure { try await task.value }.isCancellation)
                }
                #expect(try await connection.first("SELECT 1")?.values == [.integer(1)])
                #expect(await connection.processID == process)
            }
        }

        @Test func largeRowsComeThroughTLS() throws {
            try DatabaseSuites.Postgres.connected(.machine, tls: true) { connection, _ in
                #expect(await connection.encryption == "TLSv1.3")
                var count = 0
                for try await row in connection.rows(
                    "SELECT n, repeat(chr(64 + n % 50), 7000 + n * 17) FROM generate_series(1, 2000) n")
                {
                    let (number, text) = try row.decode(Int.self, String.self)
                    #expect(text.utf8.count == 7000 + number * 17)
                    count += 1
                }
                #expect(count == 2000)
                let all = try await connection.query("SELECT repeat('z', 100000 + n) FROM generate_series(1, 50) n")
                #expect(all.count == 50)
            }
        }

        /// A server that does not answer to the request to end: the connection is given up.
        @Test func aServerThatDoesNotEndItIsGivenUp() throws {
            let cluster = try PostgresCluster.shared.get()
            try LoopKind.machine.run {
                var configuration = cluster.local
                configuration.cancelPatience = .milliseconds(50)
                let connection = try await PostgresConnection.connect(to: configuration)
                let observer = try await PostgresConnection.connect(to: cluster.local)
                let process = try #require(await connection.processID)
                let task = start { try await connection.query("SELECT pg_sleep(86400)") }
                try await waitUntil { try await Self.state(process, observer) == "active PgSleep" }
                _ = try await offload { try shell("kill -STOP \(process)") }
                task.cancel()
                let error = try await failure { _ = try await task.value }
                #expect(error.isDisconnection, "\(error)")
                #expect(await connection.isClosed)
                #expect(try await failure { _ = try await connection.query("SELECT 1") } == error)
                _ = try await offload { try shell("kill -CONT \(process)") }
                await observer.close()
            }
        }
    }

    @Suite struct TransactionTests {
        @Test(arguments: LoopKind.allCases) func aFailedTransactionIsNotCommitted(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.connected(kind) { connection, _ in
                try await makeFiles(in: connection, blob: "BYTEA")
                let error = try await failure {
                    try await connection.transaction { transaction in
                        try await transaction.execute("INSERT INTO file VALUES ('a', 1)")
                        // Who swallows this must not believe that the rest has happened.
                        _ = try? await transaction.query("SELECT 1 / 0")
                    }
                }
                #expect(error.refusal?.code == "25P02", "\(error)")
                #expect(try await connection.query("SELECT * FROM file").isEmpty)
                struct Inner: Error {}
                try await connection.transaction { transaction in
                    try await transaction.execute("INSERT INTO file VALUES ('a', 1)")
                    await #expect(throws: Inner.self) {
                        try await transaction.savepoint { transaction in
                            try await transaction.execute("INSERT INTO file VALUES ('b', 1)")
                            throw Inner()
                        }
                    }
                    await #expect(throws: SQLError.self) {
                        try await transaction.savepoint { _ = try await $0.query("SELECT 1 / 0") }
                    }
                    try await transaction.savepoint { _ = try await $0.execute("INSERT INTO file VALUES ('c', 1)") }
                }
                #expect(
                    try await connection.query("SELECT path FROM file ORDER BY path").map(\.values)
                        == [[.text("a")], [.text("c")]])
            }
        }

        @Test(arguments: LoopKind.allCases) func kindsOfTransactions(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.connected(kind) { connection, cluster in
                try await makeFiles(in: connection, blob: "BYTEA")
                try await connection.execute("INSERT INTO file VALUES ('a', 1)")
                let readOnly = try await failure {
                    try await connection.transaction(.init(isReadOnly: true)) {
                        _ = try await $0.execute("DELETE FROM file")
                    }
                }
                #expect(readOnly.refusal?.kind == .permission, "\(readOnly)")
                let conflict = try await failure {
                    try await connection.transaction(.init(isolation: .repeatableRead)) { transaction in
                        #expect(try await transaction.query("SELECT * FROM file").count == 1)
                        _ = try await offload { try cluster.psql("UPDATE file SET size = 2") }
                        #expect(try await transaction.first("SELECT size FROM file")?.values == [.integer(1)])
                        try await transaction.execute("UPDATE file SET size = size + 1")
                    }
                }
                #expect(conflict.refusal?.kind == .conflict, "\(conflict)")
                // Statements of others wait until it has ended.
                let isInside = AsyncEvent()
                let mayEnd = AsyncEvent()
                let transaction = start {
                    try await connection.transaction { transaction in
                        try await transaction.execute("UPDATE file SET size = 3")
                        isInside.set()
                        try await mayEnd.wait()
                    }
                }
                try await isInside.wait()
                let outside = start {
                    try await connection.first("SELECT pg_current_xact_id_if_assigned() IS NULL, size FROM file")
                }
                for _ in 0..<10 { await EventLoop.yield() }
                mayEnd.set()
                try await transaction.value
                #expect(try await outside.value?.values == [.boolean(true), .integer(3)])
            }
        }
    }
}
#endif
