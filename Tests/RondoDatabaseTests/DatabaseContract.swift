// What every database does alike: one body for each promise, run on all of them.

import Rondo
import Testing

@testable import RondoDatabase

/// The table that the contract works on: `file (path, size, sha256)`, made anew.
func makeFiles(in database: some SQLDatabase, blob: String) async throws {
    try await database.execute("DROP TABLE IF EXISTS file")
    try await database.execute(
        SQLQuery(
            unsafeText: "CREATE TABLE file (path TEXT PRIMARY KEY, size BIGINT NOT NULL, sha256 \(blob), note TEXT)"))
}

private struct Refused: Error {}

enum DatabaseContract {
    static func lookUp(in database: some SQLDatabase) async throws {
        let sum: [UInt8] = Array(0...255)
        #expect(
            try await database.execute("INSERT INTO file VALUES (\("a.txt"), \(12), \(sum), \(String?.none))") == 1)
        try await database.execute("INSERT INTO file VALUES (\("ü'\"\\\n.txt"), \(Int64.max), \([UInt8]()), \("€"))")
        let row = try #require(
            try await database.first("SELECT path, size, sha256, note FROM file WHERE path = \("a.txt")"))
        #expect(row.columnNames == ["path", "size", "sha256", "note"])
        let (path, size, sha256, note) = try row.decode(String.self, Int.self, [UInt8].self, String?.self)
        #expect(path == "a.txt" && size == 12 && sha256 == sum && note == nil)
        let other = try await database.query("SELECT * FROM file WHERE size > \(12)")
        #expect(other.map(\.values) == [[.text("ü'\"\\\n.txt"), .integer(.max), .blob([]), .text("€")]])
        #expect(try await database.first("SELECT * FROM file WHERE path = \("none")") == nil)
        #expect(try await database.execute("UPDATE file SET size = size - \(1)") == 2)
        #expect(try await database.execute("DELETE FROM file WHERE size = \(11)") == 1)
        #expect(try await database.execute("DELETE FROM file") == 1)
    }

    static func refusals(in database: some SQLDatabase) async throws {
        try await database.execute("INSERT INTO file VALUES ('a', 1, NULL, NULL)")
        var error = try await failure { try await database.execute("INSERT INTO file VALUES (\("a"), 1, NULL, NULL)") }
        #expect(error.refusal?.kind == .uniqueViolation, "\(error)")
        #expect(error.subject == "INSERT INTO file VALUES ($1, 1, NULL, NULL)")
        error = try await failure {
            try await database.execute("INSERT INTO file VALUES ('b', \(Int?.none), NULL, NULL)")
        }
        #expect(error.refusal?.kind == .notNullViolation, "\(error)")
        for text in ["SELEC 1", "SELECT * FROM nothing"] {
            error = try await failure { _ = try await database.query(SQLQuery(unsafeText: text)) }
            #expect(error.refusal?.kind == .statement, "\(error)")
            error = try await failure { for try await _ in database.rows(SQLQuery(unsafeText: text)) {} }
            #expect(error.refusal?.kind == .statement, "\(error)")
        }
        #expect(try await database.query("SELECT path FROM file").count == 1)
    }

    /// - Parameter series: a query of the numbers from 1 to 1,000.
    static func rows(in database: some SQLDatabase, series: SQLQuery) async throws {
        var sum = 0
        for try await row in database.rows(series) { sum += try row[0, as: Int.self] }
        #expect(sum == 500_500)
        // Who stops early leaves the database usable, again and again, wherever it stops.
        for last in [1, 2, 64, 65, 200, 999, 1000] {
            var count = 0
            for try await _ in database.rows(series) {
                count += 1
                if count == last { break }
            }
            #expect(try await database.query("SELECT \(last) + 0 AS n").map(\.values) == [[.integer(Int64(last))]])
        }
        for try await _ in database.rows("SELECT 1 WHERE 1 = 0") { Issue.record("there is no row") }
    }

    static func transactions(in database: some SQLDatabase) async throws {
        func count() async throws -> Int { try await database.first("SELECT count(*) FROM file")![0] }
        let result = try await database.transaction { transaction in
            try await transaction.execute("INSERT INTO file VALUES ('a', 1, NULL, NULL)")
            for try await row in transaction.rows("SELECT path FROM file") {
                #expect(try row[0] == "a")
                break
            }
            return try await transaction.query("SELECT * FROM file").count
        }
        #expect(result == 1)
        #expect(try await count() == 1)
        await #expect(throws: Refused.self) {
            try await database.transaction { transaction in
                try await transaction.execute("DELETE FROM file")
                throw Refused()
            }
        }
        #expect(try await count() == 1)
        // A task that is cancelled in the middle has done nothing.
        let hasDeleted = AsyncEvent()
        let task = start {
            try await database.transaction { transaction in
                try await transaction.execute("DELETE FROM file")
                hasDeleted.set()
                try await AsyncEvent().wait()
            }
        }
        try await hasDeleted.wait()
        task.cancel()
        await #expect(throws: CancellationError.self) { try await task.value }
        #expect(try await count() == 1)
        // One that does not notice is not committed either.
        let deaf = start {
            try await database.transaction { transaction in
                try await transaction.execute("DELETE FROM file")
                unsafe withUnsafeCurrentTask { unsafe $0!.cancel() }
            }
        }
        await #expect(throws: SQLError("run", "COMMIT", .cancelled)) { try await deaf.value }
        #expect(try await count() == 1)
    }

    /// Many tasks take turns, and nothing is lost.
    static func increments(in database: some SQLDatabase & Sendable) async throws {
        try await database.execute("INSERT INTO file VALUES ('counter', 0, NULL, NULL)")
        try await withThrowingTaskGroup(of: Void.self) { group in
            for _ in 0..<50 {
                group.addTask(executorPreference: EventLoop.current!.executor) {
                    try await database.transaction { transaction in
                        let size: Int = try await transaction.first(
                            "SELECT size FROM file WHERE path = 'counter' \(Self.lock(database))")![0]
                        await EventLoop.yield()
                        try await transaction.execute("UPDATE file SET size = \(size + 1) WHERE path = 'counter'")
                    }
                }
            }
            try await group.waitForAll()
        }
        #expect(try await database.first("SELECT size FROM file")![0] == 50)
    }

    private static func lock(_ database: some SQLDatabase) -> SQLQuery {
        database is SQLiteDatabase ? "" : "FOR UPDATE"
    }

    static func closing(_ database: some SQLDatabase) async throws {
        await database.close()
        await database.close()
        let error = try await failure { _ = try await database.query("SELECT 1") }
        #expect(error.cause == .closed, "\(error)")
        #expect(try await failure { try await database.transaction { _ in } }.cause == .closed)
        #expect(try await failure { for try await _ in database.rows("SELECT 1") {} }.cause == .closed)
    }
}
