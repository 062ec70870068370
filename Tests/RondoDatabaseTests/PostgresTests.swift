#if PostgreSQL
import Rondo
import Testing

@testable import RondoDatabase

/// Runs against a PostgreSQL server of the tests' own.
extension DatabaseSuites {
    @Suite(
        .enabled(if: PostgresCluster.isInstalled, "there is no PostgreSQL server: apt-get install postgresql"),
        .serialized)
    struct Postgres {
        /// Runs `body` with a connection to the shared server.
        static func connected(
            _ kind: LoopKind, tls: Bool = false,
            _ body: @escaping @Sendable (PostgresConnection, PostgresCluster) async throws -> Void
        ) throws {
            let cluster = try PostgresCluster.shared.get()
            try kind.run {
                let configuration = tls ? cluster.remote("sslmode=require") : cluster.local
                let connection = try await PostgresConnection.connect(to: configuration)
                do {
                    try await body(connection, cluster)
                } catch {
                    await connection.close()
                    throw error
                }
                await connection.close()
            }
        }
    }
}

extension DatabaseSuites.Postgres {
    @Suite struct ContractTests {
        private func with(
            _ kind: LoopKind, _ body: @escaping @Sendable (PostgresConnection) async throws -> Void
        ) throws {
            try connected(kind) { connection, _ in
                try await makeFiles(in: connection, blob: "BYTEA")
                try await body(connection)
            }
        }

        private func withPool(_ kind: LoopKind, _ body: @escaping @Sendable (PostgresPool) async throws -> Void) throws
        {
            let cluster = try PostgresCluster.shared.get()
            try kind.run {
                let pool = PostgresPool(cluster.remote(), size: 4)
                try await makeFiles(in: pool, blob: "BYTEA")
                try await body(pool)
                await pool.close()
            }
        }

        @Test(arguments: LoopKind.allCases) func lookUp(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.lookUp(in: $0) }
            try withPool(kind) { try await DatabaseContract.lookUp(in: $0) }
        }

        @Test(arguments: LoopKind.allCases) func refusals(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.refusals(in: $0) }
            try withPool(kind) { try await DatabaseContract.refusals(in: $0) }
        }

        @Test(arguments: LoopKind.allCases) func rows(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.rows(in: $0, series: "SELECT generate_series(1, 1000)") }
            try withPool(kind) { try await DatabaseContract.rows(in: $0, series: "SELECT generate_series(1, 1000)") }
        }

        @Test(arguments: LoopKind.allCases) func transactions(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.transactions(in: $0) }
            try withPool(kind) { try await DatabaseContract.transactions(in: $0) }
        }

        @Test(arguments: LoopKind.allCases) func increments(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.increments(in: $0) }
            try withPool(kind) { try await DatabaseContract.increments(in: $0) }
        }

        @Test(arguments: LoopKind.allCases) func closing(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.closing($0) }
            try withPool(kind) { try await DatabaseContract.closing($0) }
        }

        private func connected(
            _ kind: LoopKind, _ body: @escaping @Sendable (PostgresConnection, PostgresCluster) async throws -> Void
        ) throws { try DatabaseSuites.Postgres.connected(kind, body) }
    }

    @Suite struct StatementTests {
        @Test(arguments: LoopKind.allCases) func valuesOfAllKinds(_ kind: LoopKind) throws {
            try connected(kind) { connection, _ in
                let row = try #require(
                    try await connection.first(
                        """
                        SELECT \(true)::bool, \(Int.min)::int8, \(-7)::int2, \(0.1)::float8, \(Double.infinity)::float4,
                        \("12345678901234567890.5")::numeric, \("{1,2}")::int[], \(SQLValue.null)::text, \("né")::text,
                        \([0, 39, 92, 255] as [UInt8])::bytea, '2026-11-28'::date, false, \(UInt64.max)::numeric
                        """))
                #expect(
                    row.values == [
                        .boolean(true), .integer(.min), .integer(-7), .real(0.1), .real(.infinity),
                        .text("12345678901234567890.5"), .text("{1,2}"), .null, .text("né"), .blob([0, 39, 92, 255]),
                        .text("2026-11-28"), .boolean(false), .text("18446744073709551615"),
                    ])
                #expect(try row[12] == UInt64.max)
                let error = try await failure { _ = try await connection.query("SELECT \("a\0b")::text") }
                #expect("\(error)".hasSuffix("the text for $1 has a NUL in it: bind it as [UInt8]"))
            }
        }

        @Test(arguments: LoopKind.allCases) func psqlSeesWhatWeWrote(_ kind: LoopKind) throws {
            try connected(kind) { connection, cluster in
                try await makeFiles(in: connection, blob: "BYTEA")
                try await connection.execute(
                    "INSERT INTO file VALUES (\("ö"), \(12), \([1, 255] as [UInt8]), \(String?.none))")
                let text = try await offload { try cluster.psql("SELECT *, note IS NULL FROM file") }
                #expect(text == "ö|12|\\x01ff||t\n")
            }
        }

        @Test(arguments: LoopKind.allCases) func aRefusalSaysAllThatTheServerSays(_ kind: LoopKind) throws {
            try connected(kind) { connection, _ in
                try await makeFiles(in: connection, blob: "BYTEA")
                try await connection.execute("INSERT INTO file VALUES ('a', 1)")
                let error = try await failure { try await connection.execute("INSERT INTO file VALUES (\("a"), \(1))") }
                let refusal = try #require(error.refusal)
                #expect(refusal.code == "23505" && refusal.constraint == "file_pkey" && refusal.table == "file")
                #expect(
                    "\(error)"
                        == "run INSERT INTO file VALUES ($1, $2): duplicate key value violates unique constraint "
                        + "\"file_pkey\" (23505; Key (path)=(a) already exists.)")
                let syntax = try await failure { _ = try await connection.query("SELECT pathh FROM file") }
                #expect(syntax.refusal?.position == 8)
                #expect(syntax.hint?.contains("\"file.path\"") == true, "\(syntax)")
            }
        }

        @Test(arguments: LoopKind.allCases) func statementsStayPrepared(_ kind: LoopKind) throws {
            let cluster = try PostgresCluster.shared.get()
            try kind.run {
                var configuration = cluster.local
                configuration.preparedStatementsMax = 2
                let connection = try await PostgresConnection.connect(to: configuration)
                let names = SQLQuery(unsafeText: "SELECT statement FROM pg_prepared_statements ORDER BY prepare_time")
                for _ in 0..<2 { _ = try await connection.query("SELECT \(1)::int") }
                #expect(try await connection.query(names).count == 2)
                _ = try await connection.query("SELECT \(2)::int")
                _ = try await connection.query("SELECT \(2)::text")  // pushes out `names`, not the one just used
                let left = try await connection.query("SELECT statement, \(0) + 1 FROM pg_prepared_statements")
                #expect(try left.map { try $0[0] as String }.contains("SELECT $1::text"))
                #expect(left.count == 2)
                await connection.close()
                // Without prepared statements all works alike.
                configuration.preparedStatementsMax = 0
                let other = try await PostgresConnection.connect(to: configuration)
                #expect(try await other.first("SELECT \(20)::int + 1")?.values == [.integer(21)])
                #expect(try await other.query("SELECT * FROM pg_prepared_statements").isEmpty)
                await other.close()
            }
        }

        @Test(arguments: LoopKind.allCases) func staleStatementsArePreparedAnew(_ kind: LoopKind) throws {
            try connected(kind) { connection, _ in
                try await makeFiles(in: connection, blob: "BYTEA")
                try await connection.execute("INSERT INTO file VALUES ('a', 1)")
                for _ in 0..<2 {
                    #expect(try await connection.first("SELECT * FROM file WHERE path = \("a")") != nil)
                    try await connection.execute("ALTER TABLE file ADD COLUMN extra INT")
                    let row = try #require(try await connection.first("SELECT * FROM file WHERE path = \("a")"))
                    #expect(row.columnNames == ["path", "size", "sha256", "note", "extra"])
                    var names: [String] = []
                    try await connection.execute("ALTER TABLE file DROP COLUMN \(identifier: "extra")")
                    for try await row in connection.rows("SELECT * FROM file WHERE path = \("a")") {
                        names = row.columnNames
                    }
                    #expect(names == ["path", "size", "sha256", "note"])
                    try await connection.execute("DEALLOCATE ALL")
                }
            }
        }

        @Test(arguments: LoopKind.allCases) func pipelines(_ kind: LoopKind) throws {
            try connected(kind) { connection, _ in
                try await makeFiles(in: connection, blob: "BYTEA")
                let answers = try await connection.pipeline(
                    (0..<100).map { "INSERT INTO file VALUES (\("\($0)"), \($0)) RETURNING size" })
                #expect(answers.map { $0.map(\.values) } == (0..<100).map { [[.integer($0)]] })
                let error = try await failure {
                    _ = try await connection.pipeline([
                        "DELETE FROM file", "SELECT 1 / (size - size) FROM (SELECT 1 AS size) s",
                        "SELECT 2",
                    ])
                }
                #expect(error.refusal?.code == "22012", "\(error)")
                #expect(try await connection.first("SELECT count(*) FROM file")?.values == [.integer(100)])
                #expect(try await connection.pipeline([]).isEmpty)
            }
        }

        /// Both sides have more to say than their buffers hold: whoever only wrote would wait for ever.
        @Test(arguments: [false, true]) func largePipelinesDoNotLockUp(tls: Bool) throws {
            try connected(.machine, tls: tls) { connection, _ in
                let text = String(repeating: "x", count: 40_000)
                let answers = try await connection.pipeline(
                    (0..<300).map { "SELECT repeat('y', 40000), \(text)::text, \($0)::int" })
                #expect(answers.count == 300)
                for (number, answer) in answers.enumerated() {
                    let (left, right, index) = try answer[0].decode(String.self, String.self, Int.self)
                    #expect(left.utf8.count == 40_000 && right == text && index == number)
                }
            }
        }

        @Test func noticesAreHeard() throws {
            let cluster = try PostgresCluster.shared.get()
            let heard = BoundedChannel<String>(capacity: 10)
            try LoopKind.machine.run {
                var configuration = cluster.local
                configuration.onNotice = { _ = heard.trySend($0) }
                let connection = try await PostgresConnection.connect(to: configuration)
                try await connection.execute("DO $$ BEGIN RAISE WARNING 'well, well'; END $$")
                await connection.close()
            }
            #expect(heard.tryReceive() == "WARNING:  well, well")
        }

        private func connected(
            _ kind: LoopKind, tls: Bool = false,
            _ body: @escaping @Sendable (PostgresConnection, PostgresCluster) async throws -> Void
        ) throws { try DatabaseSuites.Postgres.connected(kind, tls: tls, body) }
    }
}
#endif
