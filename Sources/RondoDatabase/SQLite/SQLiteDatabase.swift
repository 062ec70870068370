import Rondo

/// A SQLite database: a file, or in memory.
///
/// ```
/// let index = try await SQLiteDatabase.open("index.sqlite")
/// try await index.execute("CREATE TABLE IF NOT EXISTS file (path TEXT PRIMARY KEY, size INTEGER NOT NULL)")
/// try await index.execute("INSERT INTO file VALUES (\(path), \(size))")
/// let row = try await index.first("SELECT size FROM file WHERE path = \(path)")
/// ```
///
/// SQLite blocks, so every call runs on a thread of the offload pool, never on the loop. There is one connection: one
/// statement runs at a time, and the others wait their turn as tasks, without a thread. Open the file a second time for
/// statements that are to run beside each other.
///
/// Cancelling a task interrupts the statement that it runs.
public final class SQLiteDatabase: SQLDatabase {
    /// How a database is opened.
    public struct Configuration: Sendable {
        /// How changes reach the file.
        public enum Journal: Hashable, Sendable {
            /// Readers in other connections see the last commit while one writes. It needs two files beside the first.
            case writeAhead
            /// One file, but for the time of a transaction. Who writes waits for all readers.
            case rollback
        }

        /// Nothing can be changed, and the file must be there.
        public var isReadOnly = false
        /// How changes reach the file. One that is read only, or in memory, is left as it is.
        public var journal = Journal.writeAhead
        /// Whether rows must refer to rows that are there.
        public var checksForeignKeys = true
        /// How long to wait for another connection that holds the file. The wait takes a thread of the offload pool.
        public var busyTimeout: Duration = .seconds(5)

        /// The defaults.
        public init() {}
    }

    /// The file; `:memory:` if there is none.
    public let path: String
    private let store: SQLiteStore
    private let turn = AsyncSemaphore(permits: 1)

    private init(_ store: SQLiteStore) {
        self.store = store
        path = store.path
    }

    /// Opens the database in a file, which is made if it is not there.
    ///
    /// - Throws: `SQLError`: the file can't be opened, or is no database.
    public static func open(
        _ path: String, _ configuration: Configuration = Configuration()
    ) async throws(SQLError) -> SQLiteDatabase {
        SQLiteDatabase(try await SQLiteStore.open(path, configuration))
    }

    /// Opens a new database in memory, which is gone when it is closed or dropped.
    public static func inMemory(
        _ configuration: Configuration = Configuration()
    ) async throws(SQLError) -> SQLiteDatabase {
        SQLiteDatabase(try await SQLiteStore.open(":memory:", configuration))
    }

    private var session: SQLiteSession { SQLiteSession(store: store, turn: turn) }

    public func query(_ query: SQLQuery) async throws(SQLError) -> [SQLRow] { try await session.query(query) }

    public func rows(_ query: SQLQuery) -> SQLRows { session.rows(query) }

    @discardableResult
    public func execute(_ query: SQLQuery) async throws(SQLError) -> Int { try await session.execute(query) }

    /// Runs a transaction that may write from the beginning (`BEGIN IMMEDIATE`), so that it can't fail half-way because
    /// another one wrote first.
    ///
    /// See ``SQLDatabase/transaction(_:)``.
    @discardableResult
    public func transaction<Result>(_ body: (SQLiteSession) async throws -> Result) async throws -> Result {
        let query: SQLQuery = "BEGIN"
        try await turn.acquire(for: query)
        defer { turn.release() }
        try await store.begin()
        do {
            let inner = SQLiteSession(store: store, turn: AsyncSemaphore(permits: 1))
            let result = try await body(inner)
            try await inner.turn.acquire(for: query)
            if Task.isCancelled { throw SQLError("run", "COMMIT", .cancelled) }
            try await store.commit()
            return result
        } catch {
            await store.rollback()
            throw error
        }
    }

    /// Waits until what runs has ended, and closes the file.
    ///
    /// What is called later throws, and says that it is closed.
    public func close() async {
        await turn.acquireToTheEnd()
        await store.close()
        turn.release()
    }
}

/// What runs statements on a SQLite database: in a transaction, this is what its body gets.
public struct SQLiteSession: SQLSession {
    let store: SQLiteStore
    /// Who has the permit may run a statement.
    let turn: AsyncSemaphore

    public func query(_ query: SQLQuery) async throws(SQLError) -> [SQLRow] {
        try await turn.acquire(for: query)
        defer { turn.release() }
        return try await store.query(query)
    }

    public func rows(_ query: SQLQuery) -> SQLRows {
        SQLRows { [self] () async throws(SQLError) in
            try await turn.acquire(for: query)
            do throws(SQLError) {
                return SQLiteRowSource(try await store.open(query), query: query, store: store, turn: turn)
            } catch {
                turn.release()
                throw error
            }
        }
    }

    @discardableResult
    public func execute(_ query: SQLQuery) async throws(SQLError) -> Int {
        try await turn.acquire(for: query)
        defer { turn.release() }
        return try await store.execute(query)
    }
}

/// Reads on in an open statement, some rows at a time. It has the session's turn until it ends.
private final class SQLiteRowSource: BatchSource {
    private let cursor: SQLiteCursor
    private let query: SQLQuery
    private let store: SQLiteStore
    private let turn: AsyncSemaphore

    init(_ cursor: SQLiteCursor, query: SQLQuery, store: SQLiteStore, turn: AsyncSemaphore) {
        self.cursor = cursor
        self.query = query
        self.store = store
        self.turn = turn
    }

    func nextBatch() async throws(SQLError) -> [SQLRow]? {
        do throws(SQLError) {
            let rows = try await store.read(cursor, of: query)
            if !rows.isEmpty { return rows }
        } catch {
            await abandon()
            throw error
        }
        await abandon()
        return nil
    }

    func abandon() async {
        await store.close(cursor)
        turn.release()
    }
}

extension AsyncSemaphore {
    /// Waits for the turn of a statement.
    func acquire(for query: SQLQuery) async throws(SQLError) {
        do throws(CancellationError) {
            try await acquire()
        } catch {
            throw SQLError("run", query.text, .cancelled)
        }
    }

    /// Waits for a permit, deaf to the task's cancellation.
    func acquireToTheEnd() async {
        if tryAcquire() { return }
        await Task { try? await self.acquire() }.value
    }
}
