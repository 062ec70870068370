#if PostgreSQL
import Rondo
import Testing

@testable import RondoDatabase

// Connections and pools whose loop has ended, and statements that the server has forgotten.
extension DatabaseSuites.Postgres {
    @Suite struct LifeTests {
        /// Who uses a pool after its loop has ended is told so, whatever he was waiting for then.
        @Test(arguments: LoopKind.allCases, [1, 4])
        func aPoolOutlivesItsLoop(_ kind: LoopKind, depth: Int) async throws {
            let cluster = try PostgresCluster.shared.get()
            let gate = AsyncEvent()
            var loop = LoopConfiguration()
            if kind == .epoll { loop.driver = .epoll }
            let (pool, holder, waiting, behind) = try await withEventLoop(configuration: loop) { _ in
                var configuration = PostgresPool.Configuration()
                (configuration.size, configuration.pipelineDepth) = (1, depth)
                let pool = PostgresPool(cluster.remote(), configuration)
                let isInside = AsyncEvent()
                let holder = start {
                    try await pool.withConnection { _ in
                        isInside.set()
                        try await gate.wait()
                    }
                }
                try await isInside.wait()
                let waiting = start { try await pool.query("SELECT 1") }
                try await waitUntil { await pool.statistics.waiting == 1 }
                let behind = start { try await pool.query("SELECT 2") }
                try await waitUntil { await pool.statistics.waiting == 2 }
                return (pool, holder, waiting, behind)
            }
            waiting.cancel()
            let cancelled = try await failure { _ = try await waiting.value }
            #expect(cancelled.isCancellation, "\(cancelled)")
            gate.set()
            try await holder.value
            let lost = try await failure { _ = try await behind.value }
            #expect(lost.isDisconnection, "\(lost)")
            for _ in 0..<2 {
                let error = try await failure { _ = try await pool.query("SELECT 3") }
                #expect(error == SQLError("use", "the pool", .closed))
            }
            await pool.close()
        }

        /// A task that waits for an absent server is told, too.
        @Test(arguments: LoopKind.allCases, [1, 4])
        func whoWaitsForAServerOutlivesTheLoop(_ kind: LoopKind, depth: Int) async throws {
            var loop = LoopConfiguration()
            if kind == .epoll { loop.driver = .epoll }
            let tasks = try await withEventLoop(configuration: loop) { _ in
                var configuration = PostgresPool.Configuration()
                (configuration.size, configuration.pipelineDepth) = (2, depth)
                let pool = PostgresPool(PostgresConfiguration("host=127.0.0.1 port=1 dbname=none"), configuration)
                let tasks = (0..<4).map { _ in start { try await pool.query("SELECT 1") } }
                try await waitUntil { await pool.statistics.failedToConnect >= 2 }
                return tasks
            }
            for task in tasks {
                let error = try await failure { _ = try await task.value }
                #expect(error == SQLError("use", "the pool", .closed))
            }
        }

        /// A connection is used after its loop has ended: it throws, and can be closed.
        @Test func aConnectionOutlivesItsLoop() async throws {
            let cluster = try PostgresCluster.shared.get()
            let connection = try await withEventLoop { _ in
                try await PostgresConnection.connect(to: cluster.remote())
            }
            let error = try await failure { _ = try await connection.query("SELECT 1") }
            #expect(error.isDisconnection, "\(error)")
            #expect(await connection.isClosed)
            await connection.close()
        }

        /// Somebody has told the server to forget what was prepared: nobody else notices, though there is no room for
        /// more.
        @Test(arguments: LoopKind.allCases) func statementsThatTheServerForgotMakeRoom(_ kind: LoopKind) throws {
            let cluster = try PostgresCluster.shared.get()
            try kind.run {
                var configuration = cluster.remote()
                configuration.preparedStatementsMax = 2
                let connection = try await PostgresConnection.connect(to: configuration)
                for forgetting in [
                    "DISCARD ALL", "DEALLOCATE ALL", "SELECT 1; DEALLOCATE ALL; SELECT 2",
                    "DO $$ BEGIN EXECUTE 'DEALLOCATE ALL'; END $$",
                ] {
                    for number in 1...2 { _ = try await connection.query(SQLQuery(unsafeText: "SELECT \(number)")) }
                    try await connection.execute(SQLQuery(unsafeText: forgetting))
                    for number in 3...5 {
                        let rows = try await connection.query(SQLQuery(unsafeText: "SELECT \(number)"))
                        #expect(rows.map(\.values) == [[.integer(Int64(number))]], "\(forgetting)")
                    }
                }
                // A transaction would fail as a whole.
                try await connection.execute("DISCARD ALL")
                try await connection.transaction { transaction in
                    for number in 1...5 { _ = try await transaction.query(SQLQuery(unsafeText: "SELECT \(number)")) }
                    try await transaction.execute("DEALLOCATE ALL")
                    for number in 6...9 { _ = try await transaction.query(SQLQuery(unsafeText: "SELECT \(number)")) }
                }
                let count = try await connection.first("SELECT count(*) FROM pg_prepared_statements")
                #expect(count?.values == [.integer(2)])
                await connection.close()
            }
        }
    }
}
#endif
