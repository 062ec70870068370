/// What statements are run on: a database, a connection, a pool, a transaction.
///
/// ```
/// for try await row in session.rows("SELECT path, size FROM file WHERE size > \(limit)") {
///     print(try row["path", as: String.self])
/// }
/// ```
///
/// Any task may run statements on it, on any loop or thread. They run one after the other where there is one
/// connection: in the order in which they were asked for.
///
/// If the task is cancelled, the statement is ended in the database, and the session is as good as before.
public protocol SQLSession: Sendable {
    /// Runs a statement and collects its rows.
    func query(_ query: SQLQuery) async throws(SQLError) -> [SQLRow]

    /// The rows of a statement, one by one, as they are asked for: the database waits for whoever is slow.
    ///
    /// The statement begins with the first row that is asked for, and keeps its connection until the last one has come,
    /// or the iterator is dropped, which ends it early.
    func rows(_ query: SQLQuery) -> SQLRows

    /// Runs a statement for its effect; several, with semicolons between them, if no values are bound.
    ///
    /// - Returns: how many rows the last one inserted, changed or deleted; 0 if it is about something else.
    @discardableResult
    func execute(_ query: SQLQuery) async throws(SQLError) -> Int
}

/// A database that is open: SQLite's file, or the way to a PostgreSQL server.
public protocol SQLDatabase: SQLSession {
    /// What runs the statements of a transaction.
    associatedtype Transaction: SQLSession

    /// Runs a transaction: what `body` does with the session that it gets happens as a whole, or not at all.
    ///
    /// It is committed when `body` returns, and rolled back when `body` throws or the task is cancelled. Statements
    /// that are not run on that session are not part of it.
    ///
    /// - Throws: what `body` throws, or `SQLError`.
    @discardableResult
    func transaction<Result>(_ body: (Transaction) async throws -> Result) async throws -> Result

    /// Waits until what runs has ended, and closes it. Not even cancellation of the task cuts this short.
    func close() async
}

extension SQLSession {
    /// Runs a statement and answers its first row; nil if there is none.
    public func first(_ query: SQLQuery) async throws(SQLError) -> SQLRow? { try await self.query(query).first }
}
