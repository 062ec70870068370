#if PostgreSQL
import Rondo

/// What the body of a transaction gets: it runs statements in the transaction. It is of no use after the body.
public struct PostgresTransaction: SQLSession {
    /// The kind of a transaction.
    public struct Options: Hashable, Sendable {
        /// What a transaction sees of others that run at the same time.
        public enum Isolation: String, Sendable {
            /// Each statement sees what was committed before it.
            case readCommitted = "READ COMMITTED"
            /// All statements see what was committed before the first.
            case repeatableRead = "REPEATABLE READ"
            /// As if transactions ran one after the other.
            case serializable = "SERIALIZABLE"
        }

        /// nil for what the server is set to.
        public var isolation: Isolation?
        /// Whether nothing can be changed.
        public var isReadOnly = false

        /// A transaction of this kind.
        public init(isolation: Isolation? = nil, isReadOnly: Bool = false) {
            self.isolation = isolation
            self.isReadOnly = isReadOnly
        }

        var begin: SQLQuery {
            let isolation = isolation.map { " ISOLATION LEVEL \($0.rawValue)" } ?? ""
            return SQLQuery(unsafeText: "BEGIN" + isolation + (isReadOnly ? " READ ONLY" : ""))
        }
    }

    /// The connection that the transaction is on. Statements that are run on it itself wait until the transaction has
    /// ended.
    public let connection: PostgresConnection
    /// Who has the permit may run a statement in the transaction.
    let turn = AsyncSemaphore(permits: 1)

    init(connection: PostgresConnection) { self.connection = connection }

    public func query(_ query: SQLQuery) async throws(SQLError) -> [SQLRow] {
        try await connection.run(query, turn: turn).rows
    }

    public func rows(_ query: SQLQuery) -> SQLRows { connection.rows(query, turn: turn) }

    @discardableResult
    public func execute(_ query: SQLQuery) async throws(SQLError) -> Int {
        try await connection.execute(query, turn: turn)
    }

    /// See ``PostgresConnection/pipeline(_:)``.
    public func pipeline(_ queries: [SQLQuery]) async throws(SQLError) -> [[SQLRow]] {
        try await connection.pipeline(queries, turn: turn)
    }

    /// See ``PostgresConnection/copyIn(_:_:)``.
    @discardableResult
    public func copyIn(_ query: SQLQuery, _ body: (PostgresCopyWriter) async throws -> Void) async throws -> Int {
        try await connection.copyIn(query, turn: turn, body)
    }

    /// See ``PostgresConnection/copyOut(_:)``.
    public func copyOut(_ query: SQLQuery) -> PostgresCopy { connection.copyOut(query, turn: turn) }

    /// Runs a part of the transaction that may fail by itself: if `body` throws, what it did is undone, and the
    /// transaction goes on.
    @discardableResult
    public func savepoint<Result>(_ body: (PostgresTransaction) async throws -> Result) async throws -> Result {
        try await execute("SAVEPOINT rondo")
        do {
            let result = try await body(self)
            try await execute("RELEASE SAVEPOINT rondo")
            return result
        } catch {
            // In a cancelled task this throws, and the whole transaction is rolled back.
            try await execute("ROLLBACK TO SAVEPOINT rondo; RELEASE SAVEPOINT rondo")
            throw error
        }
    }
}

extension PostgresConnection {
    /// Waits for the turn, and keeps it for the transaction.
    func begin(_ options: PostgresTransaction.Options) async throws(SQLError) {
        let query = options.begin
        try await begin(query, turn)
        do throws(SQLError) {
            _ = try await script(query)
        } catch {
            await end(turn)
            throw error
        }
        await finish()
    }

    /// Once it is sent, its end is waited for, cancelled or not: the caller must know it.
    func commit() async throws(SQLError) {
        if Task.isCancelled { throw SQLError("run", "COMMIT", .cancelled) }
        command.onCancellation = .goesOn
        let answer = try await script("COMMIT")
        // The server answers ROLLBACK, and no error, if a statement had failed.
        if answer.tag != "COMMIT" {
            let refusal = SQLRefusal(
                .other, code: "25P02", message: "a statement of the transaction had failed: all of it was rolled back")
            throw SQLError("run", "COMMIT", .refused(refusal))
        }
    }

    /// Ends the transaction, if there still is one, or the connection.
    func rollBack() async {
        await finish()
        command.onCancellation = .goesOn
        guard let handle, !handle.isOutsideTransaction else { return }
        command.deadline = .now + configuration.cancelPatience
        do throws(SQLError) { _ = try await script("ROLLBACK") } catch { _ = lose("\(error)") }
    }
}
#endif
