#if PostgreSQL
import Rondo

// One command after the other: `begin`, send, `flush`, the results, `end`.

extension PostgresConnection {
    /// What came of a command.
    struct Answer {
        var rows: [SQLRow] = []
        var rowsAffected = 0
        /// What the last statement has done: `COMMIT`.
        var tag = ""
        /// The first one.
        var failure: SQLRefusal? {
            get { refusal?.content }
            set { refusal = newValue.map { Refusal($0) } }
        }
        // One word: a refusal is twenty, and answers are handed from function to function.
        private var refusal: Refusal?

        private final class Refusal: Sendable {
            let content: SQLRefusal

            init(_ content: SQLRefusal) { self.content = content }
        }

        /// Whether the connection was outside of a transaction when it had come.
        var leavesItIdle = false
        /// Whether the server has forgotten all that was prepared.
        private(set) var forgetsStatements = false

        /// Takes in one of the command's results.
        ///
        /// - Returns: false if the server begins a copy.
        mutating func take(_ result: borrowing PostgresResult, _ statement: PreparedStatement?) -> Bool {
            switch result.status {
            case .rows, .singleRow:
                let columns = statement?.columns ?? result.columns
                statement?.columns = columns
                rows = []
                result.append(to: &rows, columns)
                (tag, rowsAffected) = (result.tag, result.rowsAffected)
            case .done:
                (rows, tag, rowsAffected) = ([], result.tag, result.rowsAffected)
                if tag == "DISCARD ALL" || tag == "DEALLOCATE ALL" { forgetsStatements = true }
            case .copyIn, .copyOut: return false
            default: if failure == nil { failure = result.refusal }
            }
            return true
        }
    }

    /// Waits for the turn.
    func begin(_ query: SQLQuery, _ turn: AsyncSemaphore) async throws(SQLError) {
        if !turn.tryAcquire() { try await turn.acquire(for: query) }
        do throws(SQLError) {
            try mayBegin(query)
        } catch {
            turn.release()
            throw error
        }
    }

    private func mayBegin(_ query: SQLQuery) throws(SQLError) {
        _ = try opened()
        if Task.isCancelled { throw SQLError("run", query.text, .cancelled) }
    }

    /// Runs a statement to its end. What usually needs no wait is no async call here: a thousand tasks that do this
    /// have a thousand stacks, and each frame on them is memory that is touched once in a round.
    func run(_ query: SQLQuery, turn: AsyncSemaphore) async throws(SQLError) -> Answer {
        if !turn.tryAcquire() { try await turn.acquire(for: query) }
        let outcome: Result<Answer, SQLError>
        do throws(SQLError) {
            try mayBegin(query)
            let statement = try sendPrepared(query)
            var answer = try await statement == nil ? attempt(query) : answer(query, statement)
            // A prepared statement may have become stale: its table was changed, or somebody has removed it. Outside of
            // a transaction nothing has happened then, and it is prepared anew.
            if let failure = answer.failure, mayTryAgain(query, failure) { answer = try await attempt(query) }
            outcome = .success(try succeeded(answer, query))
        } catch {
            outcome = .failure(error)
        }
        if command.stopping != nil { await finish() } else { settle() }
        turn.release()
        var answer = try outcome.get()
        answer.leavesItIdle = handle?.isOutsideTransaction ?? false
        return answer
    }

    private func attempt(_ query: SQLQuery) async throws(SQLError) -> Answer {
        let statement = try await send(query)
        return try await answer(query, statement)
    }

    /// Forgets a statement that the server does not run any more.
    ///
    /// - Returns: whether it may be tried again.
    func mayTryAgain(_ query: SQLQuery, _ failure: SQLRefusal) -> Bool {
        guard forgets(prepared.find(query.text), query, failure) else { return false }
        return handle?.isOutsideTransaction == true && !command.isDeaf
    }

    /// - Returns: whether a statement that was sent as `statement` has failed because the server does not run that any
    ///   more.
    func forgets(_ statement: PreparedStatement?, _ query: SQLQuery, _ failure: SQLRefusal) -> Bool {
        guard failure.code == "26000" || failure.code == "0A000" && statement != nil else { return false }
        // It may have been prepared anew meanwhile.
        if prepared.find(query.text) === statement { prepared.forget(query.text) }
        return true
    }

    /// Writes what was sent, and collects all results of the command that runs.
    func answer(_ query: SQLQuery, _ statement: PreparedStatement?) async throws(SQLError) -> Answer {
        let handle = try opened()
        if handle.flush() == 1 { try await flush() }
        var answer = Answer()
        var isLost = false
        while true {
            // If the connection is lost, what has come before is still an answer; then libpq says what has happened.
            while isLost || !handle.isBusy {
                guard let result = handle.nextResult() else {
                    if answer.forgetsStatements { prepared.forgetAll() }
                    return answer
                }
                if !answer.take(result, statement) { try await refuseCopy(query) }
            }
            try await waitUntilReadable()
            isLost = !consumeInput(handle)
        }
    }

    private func refuseCopy(_ query: SQLQuery) async throws(SQLError) {
        if handle?.isInPipeline ?? true { throw lose("a COPY can't be part of a pipeline") }
        askToStop()
        try await drain()
        throw SQLError("run", query.text, .invalid("use copyIn or copyOut for a COPY from or to the client"))
    }

    /// The answer, if it is no refusal.
    func succeeded(_ answer: Answer, _ query: SQLQuery) throws(SQLError) -> Answer {
        if handle?.isLost ?? true { throw lose(answer.failure?.message ?? handle?.errorMessage ?? "") }
        if let failure = answer.failure { throw error(failure, query) }
        return answer
    }

    func error(_ refusal: SQLRefusal, _ query: SQLQuery) -> SQLError {
        let wasCancelled = refusal.code == "57014" && command.stopping != nil
        return SQLError("run", query.text, wasCancelled ? .cancelled : .refused(refusal))
    }

    // MARK: Sending

    /// Gives a statement to libpq, with its values.
    ///
    /// - Returns: the prepared statement, if there is one.
    @discardableResult
    func send(_ query: SQLQuery) async throws(SQLError) -> PreparedStatement? {
        if prepared.capacity == 0 {
            try parameters.set(query)
            if try !opened().sendOnce(query.text, &parameters) { throw refusedToSend() }
            return nil
        }
        if let statement = try sendPrepared(query) { return statement }
        _ = try await prepare(query)
        return try sendPrepared(query)
    }

    /// As `send`, of a statement that is prepared.
    ///
    /// - Returns: nil if it is not: then nothing was sent.
    private func sendPrepared(_ query: SQLQuery) throws(SQLError) -> PreparedStatement? {
        guard let statement = prepared.find(query.text) else { return nil }
        try parameters.set(query)
        if try !opened().send(statement, &parameters) { throw refusedToSend() }
        return statement
    }

    private func prepare(_ query: SQLQuery) async throws(SQLError) -> PreparedStatement {
        try query.checkText()
        if let oldest = prepared.makeRoom() { try await remove(oldest) }
        let statement = prepared.make()
        if try !opened().sendPrepare(statement, query.text) { throw refusedToSend() }
        _ = try succeeded(try await answer(query, nil), query)
        prepared.add(statement, query.text)
        return statement
    }

    /// Makes the server forget a statement; it may have done so before, because somebody has told it to.
    private func remove(_ statement: PreparedStatement) async throws(SQLError) {
        do throws(SQLError) {
            _ = try await script(statement.deallocation)
        } catch {
            guard error.refusal?.code == "26000", handle?.isOutsideTransaction == true else { throw error }
        }
    }

    func refusedToSend() -> SQLError { lose(handle?.errorMessage ?? "") }

    // MARK: Statements without values

    func execute(_ query: SQLQuery, turn: AsyncSemaphore) async throws(SQLError) -> Int {
        guard query.values.isEmpty else { return try await run(query, turn: turn).rowsAffected }
        try await begin(query, turn)
        do throws(SQLError) {
            let answer = try await script(query)
            await end(turn)
            return answer.rowsAffected
        } catch {
            await end(turn)
            throw error
        }
    }

    /// Runs one statement or several, without values, while the caller has the turn.
    func script(_ query: SQLQuery) async throws(SQLError) -> Answer {
        try query.checkText()
        if try !opened().sendScript(query.text) { throw refusedToSend() }
        return try succeeded(try await answer(query, nil), query)
    }

    // MARK: Pipeline

    func pipeline(_ queries: [SQLQuery], turn: AsyncSemaphore) async throws(SQLError) -> [[SQLRow]] {
        guard let first = queries.first else { return [] }
        try await begin(first, turn)
        do throws(SQLError) {
            let rows = try await pipelined(queries)
            await end(turn)
            return rows
        } catch {
            await end(turn)
            throw error
        }
    }

    private func pipelined(_ queries: [SQLQuery]) async throws(SQLError) -> [[SQLRow]] {
        let handle = try opened()
        var checked = PostgresParameters()
        for query in queries { try checked.set(query) }
        guard handle.enterPipeline() else { throw refusedToSend() }
        for query in queries {
            try parameters.set(query)
            let statement = prepared.find(query.text)
            let isTaken =
                if let statement { handle.send(statement, &parameters) } else {
                    handle.sendOnce(query.text, &parameters)
                }
            if !isTaken { throw refusedToSend() }
        }
        guard handle.sendSync() else { throw refusedToSend() }
        var answers: [[SQLRow]] = []
        var failure: SQLError?
        for query in queries {
            let answer = try await answer(query, nil)
            answers.append(answer.rows)
            if failure == nil, let refusal = answer.failure {
                _ = forgets(prepared.find(query.text), query, refusal)
                failure = error(refusal, query)
            }
        }
        if let refusal = try await synchronize(), failure == nil { failure = error(refusal, queries.last!) }
        guard handle.exitPipeline() else { throw refusedToSend() }
        if handle.isLost { throw lose(handle.errorMessage) }
        if let failure { throw failure }
        return answers
    }

    /// Reads to the point at which the server is through with what was sent before. There it commits, and may still
    /// refuse: because of a constraint that is checked then, or a conflict.
    ///
    /// - Returns: the refusal.
    func synchronize() async throws(SQLError) -> SQLRefusal? {
        var refusal: SQLRefusal?
        var ends = 0
        while ends < 2 {
            if let result = try await nextResult() {
                if result.status == .pipelineSync { return refusal }
                guard result.status == .failed else { break }
                refusal = refusal ?? result.refusal
            } else {
                // The end of a refusal, which libpq reports as an answer of its own.
                ends += 1
            }
        }
        throw lose(handle?.isLost == true ? handle!.errorMessage : "the server's answers do not fit the statements")
    }
}
#endif
