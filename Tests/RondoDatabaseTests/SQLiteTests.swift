import Rondo
import Testing

@testable import RondoDatabase

extension DatabaseSuites {
    @Suite struct SQLiteTests {
        private let series: SQLQuery = """
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000) SELECT i FROM n
            """
        private static let endless: SQLQuery = """
            WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n
            """

        private func with(_ kind: LoopKind, _ body: @escaping @Sendable (SQLiteDatabase) async throws -> Void) throws {
            try kind.run {
                let database = try await SQLiteDatabase.inMemory()
                try await makeFiles(in: database, blob: "BLOB")
                try await body(database)
                await database.close()
            }
        }

        @Test(arguments: LoopKind.allCases) func lookUp(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.lookUp(in: $0) }
        }

        @Test(arguments: LoopKind.allCases) func refusals(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.refusals(in: $0) }
        }

        @Test(arguments: LoopKind.allCases) func rows(_ kind: LoopKind) throws {
            let series = series
            try with(kind) { try await DatabaseContract.rows(in: $0, series: series) }
        }

        @Test(arguments: LoopKind.allCases) func transactions(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.transactions(in: $0) }
        }

        @Test(arguments: LoopKind.allCases) func increments(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.increments(in: $0) }
        }

        @Test(arguments: LoopKind.allCases) func closing(_ kind: LoopKind) throws {
            try with(kind) { try await DatabaseContract.closing($0) }
        }

        /// Cancelling interrupts the statement, while the loop goes on; the next one does not notice.
        @Test(arguments: LoopKind.allCases) func cancellationInterrupts(_ kind: LoopKind) throws {
            try with(kind) { database in
                for _ in 0..<20 {
                    let task = start { try await database.query(Self.endless) }
                    // Wherever it is by then.
                    for _ in 0..<Int.random(in: 0...40) { await EventLoop.yield() }
                    task.cancel()
                    await #expect(throws: SQLError("run", Self.endless.text, .cancelled)) { try await task.value }
                    let next = try await database.query("SELECT 7 AS n")
                    #expect(next.map(\.values) == [[.integer(7)]])
                }
            }
        }

        @Test func aFileIsSeenByOthers() throws {
            let folder = try ScratchFolder()
            let path = "\(folder.path)/index.sqlite"
            try LoopKind.machine.run {
                let database = try await SQLiteDatabase.open(path)
                try await makeFiles(in: database, blob: "BLOB")
                try await database.execute("INSERT INTO file VALUES ('a', 12, \([1, 255] as [UInt8]), \(0.5))")
                let other = try await SQLiteDatabase.open(path)
                #expect(try await other.first("SELECT size FROM file")?.values == [.integer(12)])
                // It holds the file: who writes is told so, who reads is not kept waiting.
                try await database.transaction { transaction in
                    try await transaction.execute("UPDATE file SET size = 13")
                    #expect(try await other.first("SELECT size FROM file")?.values == [.integer(12)])
                    var impatient = SQLiteDatabase.Configuration()
                    impatient.busyTimeout = .zero
                    let third = try await SQLiteDatabase.open(path, impatient)
                    let error = try await failure { try await third.execute("DELETE FROM file") }
                    #expect(error.refusal?.kind == .conflict, "\(error)")
                    #expect("\(error)".hasSuffix("(SQLITE_BUSY 5) (another connection is writing to it)"))
                    await third.close()
                }
                await other.close()
                await database.close()
            }
            let text = try shell("sqlite3 \(path) 'SELECT path, size, hex(sha256), note FROM file'")
            #expect(text == "a|13|01FF|0.5\n")
        }

        @Test func whatCantBeOpenedSaysWhy() throws {
            let folder = try ScratchFolder()
            _ = try shell("echo 'this is a text of some length, and no database at all' > \(folder.path)/text")
            try LoopKind.machine.run {
                var error = try await failure { _ = try await SQLiteDatabase.open("\(folder.path)/no/where") }
                #expect(
                    "\(error)" == "open \(folder.path)/no/where: unable to open database file (SQLITE_CANTOPEN 14) "
                        + "(is its folder there, and may you write to it?)")
                error = try await failure { _ = try await SQLiteDatabase.open("\(folder.path)/text") }
                #expect(error.refusal?.code == "SQLITE_NOTADB 26", "\(error)")
                var configuration = SQLiteDatabase.Configuration()
                configuration.isReadOnly = true
                error = try await failure { _ = try await SQLiteDatabase.open("\(folder.path)/new", configuration) }
                #expect(error.refusal?.code == "SQLITE_CANTOPEN 14", "\(error)")
                await (try await SQLiteDatabase.open("\(folder.path)/new")).close()
                let database = try await SQLiteDatabase.open("\(folder.path)/new", configuration)
                error = try await failure { try await database.execute("CREATE TABLE t (a)") }
                #expect(error.refusal?.kind == .permission, "\(error)")
                #expect(try await database.transaction { try await $0.query("SELECT 1").count } == 1)
                await database.close()
            }
        }
    }
}
