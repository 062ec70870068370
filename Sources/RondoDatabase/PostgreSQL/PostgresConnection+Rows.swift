#if PostgreSQL
import Rondo

// Rows as they come, in libpq's single-row mode: it reads from the socket only what somebody asks for, so a server
// waits for a task that is slow.

/// A statement whose rows are being read. It has the turn until it is over.
final class PostgresRowSource: BatchSource, @unchecked Sendable {
    // SAFETY: what changes is touched by the connection's own functions only, which its executor orders.
    let connection: PostgresConnection
    let query: SQLQuery
    let turn: AsyncSemaphore
    var statement: PreparedStatement?
    var columns: PostgresColumns?
    var failure: SQLError?
    var isOver = false
    let isInTransaction: Bool

    init(_ connection: PostgresConnection, _ query: SQLQuery, _ turn: AsyncSemaphore, isInTransaction: Bool) {
        self.connection = connection
        self.query = query
        self.turn = turn
        self.isInTransaction = isInTransaction
    }

    func nextBatch() async throws(SQLError) -> [SQLRow]? { try await connection.nextBatch(self) }
    func abandon() async { await connection.abandon(self) }
}

extension PostgresConnection {
    nonisolated func rows(_ query: SQLQuery, turn: AsyncSemaphore) -> SQLRows {
        SQLRows { () async throws(SQLError) in try await self.startRows(query, turn: turn) }
    }

    func startRows(_ query: SQLQuery, turn: AsyncSemaphore) async throws(SQLError) -> PostgresRowSource {
        try await begin(query, turn)
        do throws(SQLError) {
            let isInTransaction = try !opened().isOutsideTransaction
            let source = PostgresRowSource(self, query, turn, isInTransaction: isInTransaction)
            try await sendForRows(source)
            return source
        } catch {
            await end(turn)
            throw error
        }
    }

    private func sendForRows(_ source: PostgresRowSource) async throws(SQLError) {
        source.statement = try await send(source.query)
        try opened().setSingleRowMode()
        try await flush()
    }

    /// How many rows go to the reader at once, if they are there.
    private static var batchRowsMax: Int { 128 }

    func nextBatch(_ source: PostgresRowSource) async throws(SQLError) -> [SQLRow]? {
        if let failure = source.failure {
            source.failure = nil
            throw failure
        }
        if source.isOver { return nil }
        var rows: [SQLRow] = []
        do throws(SQLError) {
            while rows.count < Self.batchRowsMax {
                if !rows.isEmpty, handle?.isBusy ?? true { return rows }
                guard let result = try await nextResult() else {
                    if handle?.isLost ?? true { throw lose(handle?.errorMessage ?? "") }
                    source.isOver = true
                    break
                }
                try await take(result, of: source, into: &rows)
            }
        } catch {
            // What came before the error is delivered first.
            source.failure = error
            source.isOver = true
        }
        if source.isOver { await end(source.turn) }
        if rows.isEmpty, let failure = source.failure {
            source.failure = nil
            throw failure
        }
        return rows.isEmpty ? nil : rows
    }

    private func take(
        _ result: consuming PostgresResult, of source: PostgresRowSource, into rows: inout [SQLRow]
    ) async throws(SQLError) {
        switch result.status {
        case .rows, .singleRow:
            let columns = source.columns ?? source.statement?.columns ?? result.columns
            source.columns = columns
            source.statement?.columns = columns
            result.append(to: &rows, columns)
        case .done: break
        case .failed:
            let refusal = result.refusal
            let isFirst = source.columns == nil && rows.isEmpty
            try await drain()
            if handle?.isLost ?? true { throw lose(refusal.message) }
            guard mayTryAgain(source.query, refusal), isFirst else { throw error(refusal, source.query) }
            try await sendForRows(source)
        default:
            askToStop()
            try await drain()
            throw SQLError("run", source.query.text, .invalid("use copyIn or copyOut for a COPY from or to the client"))
        }
    }

    /// Ends the statement on the server. In a transaction, which that would end too, its rows are read and dropped.
    func abandon(_ source: PostgresRowSource) async {
        if source.isOver { return }
        source.isOver = true
        if source.isInTransaction { command.isDeaf = true } else { askToStop() }
        do throws(SQLError) { try await drain() } catch { source.failure = error }
        await end(source.turn)
    }
}
#endif
