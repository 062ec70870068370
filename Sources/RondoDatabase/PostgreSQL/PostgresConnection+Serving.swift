#if PostgreSQL
import Rondo

// A connection that runs the statements of others, as many at once as its pipeline is deep: each is sent before those
// ahead of it have been answered. Each ends with a synchronisation point of its own, so each is a transaction of its
// own, and one that fails is nobody else's failure.

/// The statement that the server runs now, of those that the connection serves.
struct ServedStatement {
    var statement: QueuedStatement?
    /// Whether the server was asked to end one of those that came before it.
    var wasOneEnded = false
    /// Waits until the server has ended the one that it was asked to end.
    var patience: Task<Void, Never>?
}

extension PostgresConnection {
    /// Runs statements of the queue until there are no more for it. The caller has borrowed the connection.
    func serve(_ queue: StatementQueue) async {
        if !turn.tryAcquire() { await turn.acquireToTheEnd() }
        var underWay: [QueuedStatement] = []
        var begun = 0
        do throws(SQLError) {
            if try !opened().enterPipeline() { throw refusedToSend() }
            while true {
                while underWay.count < queue.depth, let statement = queue.next(after: begun) {
                    begun += 1
                    underWay.append(statement)
                    if try !start(statement) { underWay.removeLast() }
                }
                guard let statement = underWay.first else { break }
                statement.finish(try await outcome(of: statement))
                underWay.removeFirst()
            }
            if try !opened().exitPipeline() { throw refusedToSend() }
        } catch {
            for statement in underWay { statement.finish(.answered(.failure(error))) }
        }
        served = ServedStatement()
        turn.release()
    }

    /// Sends a statement, and before it what it takes to prepare it.
    ///
    /// - Returns: false if it was not sent, because it can't be: its task has been told.
    private func start(_ statement: QueuedStatement) throws(SQLError) -> Bool {
        let query = statement.query
        let handle = try opened()
        statement.connection = self
        statement.prepared = prepared.find(query.text)
        do throws(SQLError) {
            if statement.prepared == nil { try query.checkText() }
            try parameters.set(query)
        } catch {
            statement.finish(.answered(.failure(error)))
            return false
        }
        var isTaken = true
        if prepared.capacity > 0, statement.prepared == nil { isTaken = sendPreparation(of: statement, handle) }
        if let known = statement.prepared {
            isTaken = isTaken && handle.send(known, &parameters)
        } else {
            isTaken = handle.sendOnce(query.text, &parameters)
        }
        guard isTaken, handle.sendSync() else { throw refusedToSend() }
        return true
    }

    /// Those that are sent meanwhile count on it: if it fails, they fail because the server does not know the
    /// statement, and are run by themselves.
    private func sendPreparation(of statement: QueuedStatement, _ handle: PostgresHandle) -> Bool {
        let text = statement.query.text
        if let oldest = prepared.makeRoom() {
            statement.preparations += 1
            var nothing = PostgresParameters()
            guard handle.sendOnce(oldest.deallocation.text, &nothing) else { return false }
        }
        let new = prepared.make()
        statement.preparations += 1
        statement.prepared = new
        prepared.add(new, text)
        return handle.sendPrepare(new, text)
    }

    /// Waits for the answer to the statement that the server runs now.
    private func outcome(of statement: QueuedStatement) async throws(SQLError) -> QueuedStatement.Outcome {
        served.statement = statement
        if statement.isCancelled { endServed() }
        let query = statement.query
        var failure: SQLRefusal?
        for _ in 0..<statement.preparations {
            let preparation = try await answer(query, nil)
            failure = failure ?? preparation.failure
        }
        var answer = try await answer(query, statement.prepared)
        answer.failure = failure ?? answer.failure
        // The point at which the server is through with it.
        _ = try await nextResult()
        if handle?.isLost ?? true { throw lose(answer.failure?.message ?? handle?.errorMessage ?? "") }
        if failure != nil { prepared.forget(query.text) }
        let outcome = answered(answer, statement)
        if command.stopping == nil {
            settle()
        } else {
            served.wasOneEnded = true
            await finish()
            served.patience?.cancel()
        }
        return outcome
    }

    private func answered(_ answer: Answer, _ statement: QueuedStatement) -> QueuedStatement.Outcome {
        guard let failure = answer.failure else { return .answered(.success(answer)) }
        // A request to end a statement that came too late for it has met the next one.
        let wasMistaken = failure.code == "57014" && command.stopping == nil && served.wasOneEnded
        if forgets(statement.prepared, statement.query, failure) || wasMistaken { return .goesAlone }
        return .answered(.failure(error(failure, statement.query)))
    }

    // MARK: Ending one of them

    /// The task of a statement that is under way was cancelled.
    func end(_ statement: QueuedStatement) {
        // When it is the one that the server runs, it will be ended.
        if served.statement === statement { endServed() }
    }

    /// Asks the server to end the statement that it runs. If that does not happen in time, the connection is given up.
    private func endServed() {
        guard let statement = served.statement, !statement.isOver, command.stopping == nil else { return }
        askToStop()
        served.patience = Task(executorPreference: loop.executor) {
            try? await Task.sleep(for: self.configuration.cancelPatience)
            await self.losePatience(with: statement)
        }
    }

    private func losePatience(with statement: QueuedStatement) async {
        if statement.isOver { return }
        let watch = watch
        _ = lose("the server did not end a command within \(configuration.cancelPatience)")
        // Ends the wait for the answer.
        await watch?.close()
    }
}
#endif
