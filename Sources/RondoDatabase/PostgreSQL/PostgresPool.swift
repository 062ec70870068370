#if PostgreSQL
public import Rondo

/// Some connections to a PostgreSQL server, which any number of tasks share.
///
/// ```
/// let pool = PostgresPool(PostgresConfiguration("postgres://localhost/orders"), size: 8)
/// let row = try await pool.first("SELECT total FROM orders WHERE id = \(id)")
/// try await pool.transaction { transaction in … }
/// await pool.close()
/// ```
///
/// Each statement borrows a connection and gives it back. Who finds none free waits, first come, first served, for as
/// long as it takes: cancel the task to end the wait, or use `withTimeout`.
///
/// Connections are made when they are needed. One that has been idle is examined before it is lent, and one that was
/// lost is replaced. While the server is away, attempts to connect are made ever more rarely, up to one in a second for
/// each connection; who waits for one is told after ``Configuration/patience``. A statement that was running when its
/// connection was lost throws (``SQLError/isDisconnection``); the pool does not know whether it had its effect, so it
/// does not run it again.
///
/// With ``Configuration/pipelineDepth``, statements that find no connection free are sent ahead: before those of other
/// tasks on the same connection have been answered.
///
/// It lives on the loop that it was made on, and may be used from any.
public actor PostgresPool: SQLDatabase {
    /// The loop that it lives on.
    public nonisolated let loop: EventLoop
    public nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
    /// The loop's, for tasks that the pool starts. It is of use after the loop's end, too.
    private nonisolated let executor: any TaskExecutor

    private let server: PostgresConfiguration
    private let configuration: Configuration
    /// One for each connection that may be lent.
    private let permits: AsyncSemaphore
    /// Statements that wait for a connection, which they may share.
    private let queue: StatementQueue
    /// Whether the connection that came free last was the queue's, while others waited too.
    private var queueWasServed = false
    /// The last that came back is the first to be lent: the others may rest.
    private var idle: [IdleConnection] = []
    private var lent = 0
    private var isClosed = false
    private var connected = 0
    private var failedToConnect = 0
    private var dropped = 0
    private var absence = ServerAbsence()

    private struct IdleConnection {
        let connection: PostgresConnection
        let since: ContinuousClock.Instant
    }

    /// A pool for the calling task's loop. Nothing is connected yet.
    public init(_ server: PostgresConfiguration, size: Int = 8) {
        var configuration = Configuration()
        configuration.size = size
        self.init(server, configuration)
    }

    /// A pool for the calling task's loop. Nothing is connected yet.
    public init(_ server: PostgresConfiguration, _ configuration: Configuration) {
        guard let loop = EventLoop.current else {
            fatalError(
                "a PostgresPool was made outside of an event loop: make it in a RondoProgram or in EventLoop.run { }")
        }
        precondition(configuration.size > 0, "a pool must have a connection")
        precondition(configuration.pipelineDepth > 0, "a connection must have a statement under way")
        self.loop = loop
        executor = loop.executor
        self.server = server
        self.configuration = configuration
        permits = AsyncSemaphore(permits: configuration.size)
        queue = StatementQueue(depth: configuration.pipelineDepth, permits: permits)
    }

    /// What it has done, and has to do.
    public var statistics: Statistics {
        Statistics(
            open: lent + idle.count, idle: idle.count, waiting: permits.waiting + queue.count, connected: connected,
            failedToConnect: failedToConnect, dropped: dropped)
    }

    // MARK: Statements

    public func query(_ query: SQLQuery) async throws(SQLError) -> [SQLRow] { try await run(query).rows }

    @discardableResult
    public func execute(_ query: SQLQuery) async throws(SQLError) -> Int {
        // It may be several statements, if it has no values.
        if !query.values.isEmpty { return try await run(query).rowsAffected }
        let connection = try await borrow()
        do throws(SQLError) {
            let count = try await connection.execute(query)
            await giveBack(connection)
            return count
        } catch {
            await giveBack(connection)
            throw error
        }
    }

    private func run(_ query: SQLQuery) async throws(SQLError) -> PostgresConnection.Answer {
        let connection: PostgresConnection
        if let lent = lendNow() {
            connection = lent
        } else if queue.depth == 1 || !query.isSelfContained {
            connection = try await borrow()
        } else if permits.tryAcquire() {
            connection = try await borrowOther(asked: .now)
        } else {
            if isClosed { throw SQLError("use", "the pool", .closed) }
            let statement = QueuedStatement(query)
            queue.append(statement)
            switch await outcome(of: statement) {
            case .answered(let answer): return try answer.get()
            case .hasPermit: connection = try await borrowOther(asked: statement.asked)
            case .goesAlone: connection = try await borrow()
            }
        }
        do throws(SQLError) {
            let answer = try await connection.run(query, turn: connection.turn)
            if answer.leavesItIdle { takeBack(connection) } else { await giveBack(connection) }
            return answer
        } catch {
            await giveBack(connection)
            throw error
        }
    }

    public nonisolated func rows(_ query: SQLQuery) -> SQLRows {
        SQLRows { () async throws(SQLError) in
            let connection = try await self.borrow()
            do throws(SQLError) {
                return BorrowedRows(try await connection.startRows(query, turn: connection.turn), self)
            } catch {
                await self.giveBack(connection)
                throw error
            }
        }
    }

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
        try await withConnection { try await $0.transaction(options, body) }
    }

    /// Lends a connection, for what takes several statements on the same one: `SET`, copies, pipelines.
    ///
    /// One that comes back with an open transaction is dropped.
    @discardableResult
    public nonisolated func withConnection<Result>(
        _ body: (PostgresConnection) async throws -> Result
    ) async throws -> Result {
        let connection = try await borrow()
        do {
            let result = try await body(connection)
            await giveBack(connection)
            return result
        } catch {
            await giveBack(connection)
            throw error
        }
    }

    /// Waits until all connections have come back, and closes them. What is called later throws.
    public func close() async {
        isClosed = true
        while let statement = queue.popFirst() {
            statement.finish(.answered(.failure(SQLError("use", "the pool", .closed))))
        }
        // Those that wait get a permit, see that it is closed, and pass it on.
        let (permits, size) = (permits, configuration.size)
        await Task { try? await permits.acquire(size) }.value
        for idle in idle { await idle.connection.close() }
        idle = []
        permits.release(size)
    }

    // MARK: Lending

    private func borrow() async throws(SQLError) -> PostgresConnection {
        let asked = ContinuousClock.now
        do throws(CancellationError) {
            try await permits.acquire()
        } catch {
            throw SQLError("wait for", "a connection of the pool", .cancelled)
        }
        return if let connection = lendTrusted() { connection } else { try await borrowOther(asked: asked) }
    }

    /// Lends without a wait, if there is a permit and a connection that has just been used.
    private func lendNow() -> PostgresConnection? {
        guard !idle.isEmpty, permits.tryAcquire() else { return nil }
        if let connection = lendTrusted() { return connection }
        permits.release()
        return nil
    }

    /// With a permit: the connection that came back last, if that is not long ago.
    private func lendTrusted() -> PostgresConnection? {
        guard let last = idle.last, !isClosed, last.since.duration(to: .now) < configuration.trustedIdleTime else {
            return nil
        }
        lent += 1
        return idle.removeLast().connection
    }

    /// With a permit: an idle connection that is good, or a new one.
    private func borrowOther(asked: ContinuousClock.Instant) async throws(SQLError) -> PostgresConnection {
        lent += 1
        do throws(SQLError) {
            while let last = idle.popLast() {
                if isClosed { idle.append(last) }
                if isClosed { break }
                if await isGood(last) { return last.connection }
                dropped += 1
                await last.connection.close()
            }
            if isClosed { throw SQLError("use", "the pool", .closed) }
            return try await connect(asked: asked)
        } catch {
            lent -= 1
            releasePermit()
            throw error
        }
    }

    private func isGood(_ idle: IdleConnection) async -> Bool {
        let time = idle.since.duration(to: .now)
        if time < configuration.trustedIdleTime { return await !idle.connection.isClosed }
        guard await idle.connection.looksAlive() else { return false }
        if time < configuration.unaskedIdleTime { return true }
        let answer = try? await withTimeout(configuration.patience) { try await idle.connection.query("SELECT 1") }
        return answer != nil
    }

    /// Connects, again and again while the server is away and the caller has patience.
    private func connect(asked: ContinuousClock.Instant) async throws(SQLError) -> PostgresConnection {
        while true {
            if let failure = absence.failure {
                let patience = configuration.patience - asked.duration(to: .now)
                if patience <= .zero { throw failure }
                do {
                    try await Task.sleep(for: min(absence.timeToNextAttempt, patience))
                } catch {
                    throw SQLError("connect to", failure.subject, .cancelled)
                }
            }
            // It may have ended while this task slept.
            guard loop.isCurrent else { throw SQLError("use", "the pool", .closed) }
            do throws(SQLError) {
                let connection = try await PostgresConnection.connect(to: server)
                connected += 1
                absence = ServerAbsence()
                return connection
            } catch {
                if error.isCancellation { throw error }
                failedToConnect += 1
                // A server that refuses us is there; asking again would change nothing.
                guard error.isDisconnection else { throw error }
                absence.note(error)
                if asked.duration(to: .now) > configuration.patience { throw error }
            }
        }
    }

    fileprivate func giveBack(_ connection: PostgresConnection) async {
        if await connection.isIdleAndGood() { return takeBack(connection) }
        lent -= 1
        dropped += 1
        await connection.close()
        releasePermit()
    }

    /// Takes back a connection that somebody else may use.
    private func takeBack(_ connection: PostgresConnection) {
        guard queueTakesTurn() else {
            lent -= 1
            idle.append(IdleConnection(connection: connection, since: .now))
            return releasePermitToOthers()
        }
        // Detached: it has neither the priority nor the task-local values of the task that happens to give the
        // connection back. Tasks of all priorities wait for it.
        Task.detached(name: "PostgreSQL pipeline", executorPreference: executor, priority: .high) { [self] in
            await connection.serve(queue)
            await giveBack(connection)
        }
    }

    /// A permit has come free, and no connection with it.
    private func releasePermit() {
        if queueTakesTurn(), let statement = queue.popFirst() { return statement.finish(.hasPermit) }
        releasePermitToOthers()
    }

    private func releasePermitToOthers() {
        permits.release()
        // Who waited for it may have gone meanwhile.
        if !queue.isEmpty, permits.tryAcquire() { queue.popFirst()?.finish(.hasPermit) }
    }

    /// Decides who gets what has come free: the queue, or, in turn with it, tasks that want a connection of their own.
    private func queueTakesTurn() -> Bool {
        if queue.isEmpty { return false }
        queueWasServed = permits.waiting == 0 || !queueWasServed
        return queueWasServed
    }

    private func outcome(of statement: QueuedStatement) async -> QueuedStatement.Outcome {
        await withTaskCancellationHandler {
            await statement.wait(in: self)
        } onCancel: {
            // On any thread.
            Task(executorPreference: executor) { await self.cancel(statement) }
        }
    }

    private func cancel(_ statement: QueuedStatement) async {
        statement.isCancelled = true
        if let connection = statement.connection {
            await connection.end(statement)
        } else if !statement.isOver {
            queue.remove(statement)
            statement.finish(.answered(.failure(SQLError("run", statement.query.text, .cancelled))))
        }
    }

    /// Rows that keep their connection until they are over.
    private final class BorrowedRows: BatchSource {
        private let source: PostgresRowSource
        private let pool: PostgresPool

        init(_ source: PostgresRowSource, _ pool: PostgresPool) {
            self.source = source
            self.pool = pool
        }

        func nextBatch() async throws(SQLError) -> [SQLRow]? {
            do throws(SQLError) {
                if let rows = try await source.nextBatch() { return rows }
            } catch {
                await pool.giveBack(source.connection)
                throw error
            }
            await pool.giveBack(source.connection)
            return nil
        }

        func abandon() async {
            await source.abandon()
            await pool.giveBack(source.connection)
        }
    }
}

extension PostgresConnection {
    /// Whether the server has not ended it, as far as its socket knows.
    func looksAlive() -> Bool {
        guard let handle else { return false }
        // The first read may get what the server said last, the second then finds the end.
        return consumeInput(handle) && consumeInput(handle) && !handle.isLost
    }

    /// Waits until what was left running on it has ended.
    ///
    /// - Returns: whether somebody else may use it.
    func isIdleAndGood() async -> Bool {
        if !turn.tryAcquire() { await turn.acquireToTheEnd() }
        defer { turn.release() }
        return handle?.isOutsideTransaction ?? false
    }
}
#endif
