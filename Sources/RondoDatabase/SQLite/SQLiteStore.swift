// SQLite's connection, and the calls that block, each of which runs on a thread of the offload pool. Whoever calls here
// has the database's turn: no two calls run at once.

import GRDB
import Rondo
import Synchronization

final class SQLiteStore: Sendable {
    let path: String
    private let queue: DatabaseQueue
    private let isReadOnly: Bool
    private let isClosed = Atomic(false)

    /// How many rows are read with one trip to the offload pool.
    private static let batchSize = 64

    private init(_ queue: DatabaseQueue, path: String, isReadOnly: Bool) {
        self.queue = queue
        self.path = path
        self.isReadOnly = isReadOnly
    }

    static func open(
        _ path: String, _ configuration: SQLiteDatabase.Configuration
    ) async throws(SQLError) -> SQLiteStore {
        var settings = GRDB.Configuration()
        settings.readonly = configuration.isReadOnly
        settings.foreignKeysEnabled = configuration.checksForeignKeys
        settings.busyMode = .timeout(Double(configuration.busyTimeout / .milliseconds(1)) / 1000)
        // A transaction spans several calls here; who may call is ours to see to.
        settings.allowsUnsafeTransactions = true
        let frozen = settings
        let usesWriteAhead = configuration.journal == .writeAhead && !configuration.isReadOnly && path != ":memory:"
        return try await explaining("open", path) {
            let queue = try DatabaseQueue(path: path, configuration: frozen)
            try queue.inDatabase { database in
                // Opening reads nothing: what is no database is found here.
                if usesWriteAhead {
                    try database.execute(sql: "PRAGMA journal_mode = WAL; PRAGMA synchronous = NORMAL")
                } else {
                    _ = try Int.fetchOne(database, sql: "PRAGMA schema_version")
                }
            }
            return SQLiteStore(queue, path: path, isReadOnly: configuration.isReadOnly)
        }
    }

    // MARK: Statements

    func query(_ query: SQLQuery) async throws(SQLError) -> [SQLRow] {
        try await run(query) { database in
            let statement = try database.cachedStatement(sql: query.text)
            let cursor = try Row.fetchCursor(statement, arguments: query.arguments)
            let columns = SQLColumns(statement.columnNames)
            var rows: [SQLRow] = []
            while let row = try cursor.next() { rows.append(SQLRow(columns, row)) }
            return rows
        }
    }

    func execute(_ query: SQLQuery) async throws(SQLError) -> Int {
        try await run(query) { database in
            let before = database.totalChangesCount
            if query.values.isEmpty {
                try database.execute(sql: query.text)
            } else {
                try database.cachedStatement(sql: query.text).execute(arguments: query.arguments)
            }
            return database.totalChangesCount == before ? 0 : database.changesCount
        }
    }

    // MARK: Rows, some at a time

    func open(_ query: SQLQuery) async throws(SQLError) -> SQLiteCursor {
        try await run(query) { database in
            let statement = try database.makeStatement(sql: query.text)
            let columns = SQLColumns(statement.columnNames)
            return SQLiteCursor(try Row.fetchCursor(statement, arguments: query.arguments), columns)
        }
    }

    /// The next rows; none at the end.
    func read(_ cursor: SQLiteCursor, of query: SQLQuery) async throws(SQLError) -> [SQLRow] {
        try await run(query) { _ in try cursor.read(Self.batchSize) }
    }

    /// Ends its statement.
    func close(_ cursor: SQLiteCursor) async {
        await runToTheEnd { _ in cursor.close() }
    }

    // MARK: Transactions

    func begin() async throws(SQLError) {
        let kind = isReadOnly ? Database.TransactionKind.deferred : .immediate
        try await run("BEGIN") { try $0.beginTransaction(kind) }
    }

    /// Not interrupted: a commit that has begun has an end that the caller must know.
    func commit() async throws(SQLError) {
        if let error = await runToTheEnd({ try $0.commit() }) { throw error }
    }

    func rollback() async {
        // SQLite has rolled back by itself where an interrupted statement or a full disk left no other way.
        await runToTheEnd { if $0.isInsideTransaction { try $0.rollback() } }
    }

    func close() async {
        if isClosed.exchange(true, ordering: .acquiringAndReleasing) { return }
        await Task { [queue] in try? await offload { try queue.close() } }.value
    }

    // MARK: On the offload pool

    /// Runs a call for a statement; the task's cancellation interrupts it.
    private func run<Value: Sendable>(
        _ query: SQLQuery, _ call: @escaping @Sendable (Database) throws -> Value
    ) async throws(SQLError) -> Value {
        if isClosed.load(ordering: .acquiring) { throw SQLError("run", query.text, .closed) }
        let interruption = Interruption()
        do {
            return try await withTaskCancellationHandler {
                try await offload { [queue] in
                    try queue.inDatabase { database in
                        try interruption.begin()
                        // SQLite forgets an interruption that comes before a statement's first step: it is told again.
                        database.trace { _ in interruption.repeatIfCancelled(queue) }
                        defer {
                            database.trace(nil)
                            interruption.end()
                        }
                        return try call(database)
                    }
                }
            } onCancel: {
                interruption.interrupt(queue)
            }
        } catch {
            throw SQLError(error, query: query)
        }
    }

    /// Runs a call that a cancelled task must make too.
    ///
    /// - Returns: what went wrong.
    @discardableResult
    private func runToTheEnd(_ call: @escaping @Sendable (Database) throws -> Void) async -> SQLError? {
        let task = Task { [queue] in try await offload { try queue.inDatabase(call) } }
        do {
            try await task.value
            return nil
        } catch {
            return SQLError(error, query: "COMMIT")
        }
    }

    private static func explaining<Value: Sendable>(
        _ verb: String, _ path: String, _ call: @escaping @Sendable () throws -> Value
    ) async throws(SQLError) -> Value {
        do {
            return try await offload { try call() }
        } catch {
            throw SQLError(error, verb, path)
        }
    }
}

/// A call that may be interrupted while it runs: its own statements, and never the next call's.
private final class Interruption: Sendable {
    private enum Phase { case before, running, cancelled, over }
    private let phase = Mutex(Phase.before)

    /// - Throws: `CancellationError` if it came before.
    func begin() throws {
        try phase.withLock { phase in
            if phase == .cancelled { throw CancellationError() }
            phase = .running
        }
    }

    func end() { phase.withLock { $0 = .over } }

    /// `end` waits for the lock, so the call that is interrupted is this one.
    func interrupt(_ queue: DatabaseQueue) {
        phase.withLock { phase in
            if phase == .running { queue.interrupt() }
            if phase != .over { phase = .cancelled }
        }
    }

    /// A statement has made its first step: from here on SQLite heeds an interruption.
    func repeatIfCancelled(_ queue: DatabaseQueue) {
        phase.withLock { if $0 == .cancelled { queue.interrupt() } }
    }
}

/// A statement whose rows are read in several calls.
final class SQLiteCursor: @unchecked Sendable {
    // SAFETY: touched by the calls of a `SQLiteStore` only, of which one runs at a time; the queue orders them.
    private var cursor: RowCursor?
    private let columns: SQLColumns

    init(_ cursor: RowCursor, _ columns: SQLColumns) {
        self.cursor = cursor
        self.columns = columns
    }

    func read(_ limit: Int) throws -> [SQLRow] {
        var rows: [SQLRow] = []
        while rows.count < limit, let row = try cursor?.next() { rows.append(SQLRow(columns, row)) }
        return rows
    }

    func close() { cursor = nil }
}
