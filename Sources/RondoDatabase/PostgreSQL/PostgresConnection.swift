#if PostgreSQL
public import Rondo

/// A connection to a PostgreSQL server, on the loop: nothing here blocks, and nothing runs on another thread.
///
/// ```
/// let connection = try await PostgresConnection.connect(to: PostgresConfiguration("postgres://localhost/orders"))
/// let rows = try await connection.query("SELECT id, total FROM orders WHERE customer = \(customer)")
/// try await connection.transaction { transaction in
///     try await transaction.execute("UPDATE account SET balance = balance - \(sum) WHERE id = \(from)")
///     try await transaction.execute("UPDATE account SET balance = balance + \(sum) WHERE id = \(to)")
/// }
/// await connection.close()
/// ```
///
/// It runs one statement at a time; tasks that want another one wait their turn, first come, first served. Any task may
/// call, on any loop; the work is done on the loop that it was made on. Most programs want a ``PostgresPool``.
///
/// Statements are prepared when they are first run, and stay so. If a task is cancelled, the server is asked to end its
/// statement; the call returns when that has happened, and the connection is as good as before. An answer that came in
/// spite of it is returned.
public actor PostgresConnection: SQLDatabase {
    /// The loop that it lives on.
    public nonisolated let loop: EventLoop
    public nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
    /// The loop's, for tasks that the connection starts. It is of use after the loop's end, too.
    nonisolated let executor: any TaskExecutor

    /// Who has the permit may run a command. What names it passes it on: a transaction has the permit, and one of its
    /// own for its statements.
    nonisolated let turn = AsyncSemaphore(permits: 1)
    /// For messages.
    nonisolated let subject: String
    nonisolated let configuration: PostgresConfiguration
    /// nil when it is closed or lost.
    var handle: PostgresHandle?
    /// Waits for libpq's socket. nil as the handle.
    var watch: DescriptorWatch?
    /// Why it was lost.
    var loss: SQLError?
    var prepared: PreparedStatements
    /// The memory in which values are bound.
    var parameters = PostgresParameters()
    /// What is to be known of the command that runs.
    var command = PostgresCommand()
    /// What is to be known of the one that runs for the pool's queue.
    var served = ServedStatement()
    /// Those that have come for whoever listens.
    var notifications: [PostgresNotification] = []
    /// Who listens: the number of a `listen`.
    var listener: Int?
    var listeners = 0

    init(_ handle: PostgresHandle, subject: String, configuration: PostgresConfiguration, loop: EventLoop) {
        self.handle = handle
        self.subject = subject
        self.configuration = configuration
        self.loop = loop
        executor = loop.executor
        prepared = PreparedStatements(capacity: configuration.preparedStatementsMax)
    }

    // MARK: What it is

    /// Whether it was lost or closed.
    public var isClosed: Bool { handle == nil }

    /// The server's process for this connection, as `pg_stat_activity` shows it; nil if it is closed.
    public var processID: Int32? { handle?.processID }

    /// The TLS version, `TLSv1.3`; nil if the connection is not encrypted, or is closed.
    public var encryption: String? { handle?.encryption }

    /// 150018 for 15.18; nil if it is closed.
    public var serverVersion: Int? { handle?.serverVersion }

    // MARK: Statements

    public func query(_ query: SQLQuery) async throws(SQLError) -> [SQLRow] {
        try await run(query, turn: turn).rows
    }

    public nonisolated func rows(_ query: SQLQuery) -> SQLRows { rows(query, turn: turn) }

    @discardableResult
    public func execute(_ query: SQLQuery) async throws(SQLError) -> Int {
        try await execute(query, turn: turn)
    }

    /// Runs several statements with one round trip: all are sent before the first has been answered.
    ///
    /// They are one transaction (unless one has been begun already): if one fails, none has had an effect.
    ///
    /// - Returns: the rows of each.
    /// - Throws: `SQLError`, that of the first statement that failed.
    public func pipeline(_ queries: [SQLQuery]) async throws(SQLError) -> [[SQLRow]] {
        try await pipeline(queries, turn: turn)
    }

    // MARK: Transactions

    @discardableResult
    public nonisolated func transaction<Result>(
        _ body: (PostgresTransaction) async throws -> Result
    ) async throws -> Result {
        try await transaction(PostgresTransaction.Options(), body)
    }

    /// Runs a transaction of a certain kind. See ``SQLDatabase/transaction(_:)``.
    @discardableResult
    public nonisolated func transaction<Result>(
        _ options: PostgresTransaction.Options, _ body: (PostgresTransaction) async throws -> Result
    ) async throws -> Result {
        try await begin(options)
        let transaction = PostgresTransaction(connection: self)
        let outcome: Swift.Result<Result, any Error>
        do { outcome = .success(try await body(transaction)) } catch { outcome = .failure(error) }
        // Rows that were not read to their end have the turn until the server has ended them.
        await transaction.turn.acquireToTheEnd()
        do {
            let result = try outcome.get()
            try await commit()
            await end(turn)
            return result
        } catch {
            await rollBack()
            await end(turn)
            throw error
        }
    }

    // MARK: Copies

    /// Copies into a table, as fast as the server takes it: `COPY file FROM STDIN`.
    ///
    /// ```
    /// try await connection.copyIn("COPY file (path, size) FROM STDIN") { copy in
    ///     for file in files { try await copy.write(row: file.path, file.size) }
    /// }
    /// ```
    ///
    /// If `body` throws or the task is cancelled, nothing is copied.
    ///
    /// - Returns: how many rows were copied.
    @discardableResult
    public nonisolated func copyIn(
        _ query: SQLQuery, _ body: (PostgresCopyWriter) async throws -> Void
    ) async throws -> Int {
        try await copyIn(query, turn: turn, body)
    }

    /// Copies out of a table or a query, as fast as whoever reads takes it: `COPY file TO STDOUT`.
    ///
    /// Each element is one line or some, as the server has formatted them. Who stops early ends the copy.
    public nonisolated func copyOut(_ query: SQLQuery) -> PostgresCopy { copyOut(query, turn: turn) }

    // MARK: The end

    /// Waits until what runs has ended, and closes the connection. What is called later throws.
    public func close() async {
        await turn.acquireToTheEnd()
        await shutDown()
        turn.release()
    }

    /// Closes it without waiting for anybody.
    func shutDown() async {
        handle = nil
        let watch = watch
        self.watch = nil
        await watch?.close()
    }
}
#endif
