#if PostgreSQL
import Rondo

// A connection that runs the statements of others, as many at once as its pipeline is deep: each is sent before those
// ahead of it have been answered. Each ends with a synchronisation point of its own, so each is a transaction of its
// own, and one that fails is nobody else's failure.

/// The statement that the server runs now, of those that the connection serves.
struct ServedStatement {
    var statement: QueuedStatement?
    /// Whether the server was asked to end it.
    var wasEnded = false
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
                // The request may have come too late for it, and have met the next one.
                if served.wasEnded { for other in underWay { other.mayHaveBeenMistaken = true } }
                served = ServedStatement()
            }
            if try !opened().exitPipeline() { throw refusedToSend() }
        } catch {
            for statement in underWay { statement.finish(.answered(.failure(error))) }
            served.patience?.cancel()
            served = ServedStatement()
        }
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
        if failure != nil, prepared.find(query.text) === statement.prepared { prepared.forget(query.text) }
        var answer = try await answer(query, statement.prepared)
        failure = failure ?? answer.failure
        let atCommit = try await synchronize()
        answer.failure = failure ?? atCommit
        if handle?.isLost ?? true { throw lose(answer.failure?.message ?? handle?.errorMessage ?? "") }
        let outcome = answered(answer, statement)
        if command.stopping == nil {
            settle()
        } else {
            served.wasEnded = true
            served.patience?.cancel()
            await finish()
        }
        return outcome
    }

    private func answered(_ answer: Answer, _ statement: QueuedStatement) -> QueuedStatement.Outcome {
        guard let failure = answer.failure else { return .answered(.success(answer)) }
        let wasMistaken = failure.code == "57014" && command.stopping == nil && statement.mayHaveBeenMistaken
        if forgets(statement.prepared, statement.query, failure) || wasMistaken { return .goesAlone }
        return .answered(.failure(error(failure, statement.query)))
    }

    // MARK: Ending one of them

    /// The task of a statement that is under way was cancelled.
    func end(_ statement: QueuedStatement) {
        if statement.isOver { return }
        if served.statement === statement { return endServed() }
        // When it is the one that the server runs, it will be ended. Until then nothing can be done about it; and after
        // a while its task does not wait for that any more.
        statement.patience = Task(executorPreference: executor) {
            do { try await Task.sleep(for: self.configuration.cancelPatience) } catch { return }
            await self.giveUp(statement)
        }
    }

    private func giveUp(_ statement: QueuedStatement) {
        if served.statement === statement { return }
        let words =
            "the task was cancelled, and the statement waits on the server for another one, or was run meanwhile"
        statement.finish(.answered(.failure(SQLError("run", statement.query.text, .disconnected(words)))))
    }

    /// Asks the server to end the statement that it runs. If that does not happen in time, the connection is given up.
    private func endServed() {
        guard let statement = served.statement, command.stopping == nil else { return }
        askToStop()
        served.patience = Task(executorPreference: executor) {
            do { try await Task.sleep(for: self.configuration.cancelPatience) } catch { return }
            await self.losePatience(with: statement)
        }
    }

    private func losePatience(with statement: QueuedStatement) async {
        guard served.statement === statement, !served.wasEnded else { return }
        let watch = watch
        _ = lose("the server did not end a command within \(configuration.cancelPatience)")
        // Ends the wait for the answer.
        await watch?.close()
    }
}
#endif
