#if PostgreSQL
import Rondo

// How a command waits for the server, and what becomes of it when its task is cancelled. Between a cancellation and the
// command's end its waits are those of another task, because a cancelled one can't wait.

/// What is to be known of the command that runs.
struct PostgresCommand {
    enum OnCancellation { case stops, goesOn }

    /// Whether cancelling the task ends the command on the server, or is not heard: a rollback.
    var onCancellation = OnCancellation.stops
    /// Whether the task's cancellation has been noticed.
    var isDeaf = false
    /// When the connection is given up, because the server has not answered to the request to end.
    var deadline: ContinuousClock.Instant?
    /// The request to end it, if there was one.
    var stopping: StopRequest?

    struct StopRequest {
        /// Whether it need not be made again.
        let isOver = AsyncEvent()
        /// Whether it has been passed on, and is not made again.
        let isPassedOn = AsyncEvent()
    }
}

extension PostgresConnection {
    /// The next result of the command that runs; nil at its end.
    func nextResult() async throws(SQLError) -> PostgresResult? {
        let handle = try opened()
        while handle.isBusy {
            try await waitUntilReadable()
            // If the connection is lost, what has come before is still an answer; then libpq says what has happened.
            if !consumeInput(handle) { break }
        }
        return handle.nextResult()
    }

    /// Writes all that libpq has to write. It reads meanwhile: the server may want to be rid of something first.
    func flush() async throws(SQLError) {
        let handle = try opened()
        while true {
            switch handle.flush() {
            case 0: return
            case 1:
                try await waitForEither()
                _ = consumeInput(handle)
            // What the server said last is in the results, and is a better reason than "broken pipe".
            default: return
            }
        }
    }

    /// Takes what has come, notifications too.
    func consumeInput(_ handle: PostgresHandle) -> Bool {
        repeat {
            guard handle.consumeInput() else { return false }
            while let notification = handle.nextNotification() {
                if listener != nil { notifications.append(notification) }
            }
        } while (handle.isBusy || listener != nil) && handle.hasDecryptedInput
        return true
    }

    func opened() throws(SQLError) -> PostgresHandle {
        if let handle { return handle }
        throw loss ?? SQLError("use", subject, .closed)
    }

    // MARK: Waits

    func waitUntilReadable() async throws(SQLError) {
        // What has left the socket and was not asked for yet: no poll would tell of it.
        if handle?.hasDecryptedInput == true { return }
        guard let watch else { throw loss ?? SQLError("use", subject, .closed) }
        if !command.isDeaf {
            do throws(IOError) { return try await watch.waitUntilReadable() } catch { try heard(error) }
        }
        try await waitDeaf { () async throws(IOError) in try await watch.waitUntilReadable() }
    }

    /// Waits for more of a copy.
    func waitForCopy() async throws(SQLError) {
        let handle = try opened()
        try await waitUntilReadable()
        if !consumeInput(handle), handle.isLost { throw lose(handle.errorMessage) }
    }

    private func waitForEither() async throws(SQLError) {
        guard let watch else { throw loss ?? SQLError("use", subject, .closed) }
        if !command.isDeaf {
            do throws(IOError) { return try await Self.waitForEither(watch) } catch { try heard(error) }
        }
        try await waitDeaf { () async throws(IOError) in try await Self.waitForEither(watch) }
    }

    private static func waitForEither(_ watch: DescriptorWatch) async throws(IOError) {
        let outcome = await withTaskGroup(of: Result<Void, IOError>.self) { group in
            group.addTask { await Result { () async throws(IOError) in try await watch.waitUntilReadable() } }
            group.addTask { await Result { () async throws(IOError) in try await watch.waitUntilWritable() } }
            let first = await group.next()!
            group.cancelAll()
            return first
        }
        try outcome.get()
    }

    /// A wait has ended early: because the task is cancelled, or because the connection is of no use.
    private func heard(_ error: IOError) throws(SQLError) {
        guard error.isCancellation else { throw lose("\(error)") }
        command.isDeaf = true
        if command.onCancellation == .stops { askToStop() }
    }

    /// Waits whether the task is cancelled or not, until the command's deadline.
    private func waitDeaf(_ wait: @escaping @Sendable () async throws(IOError) -> Void) async throws(SQLError) {
        let left = command.deadline.map { max(.zero, ContinuousClock.now.duration(to: $0)) }
        let task = Task(executorPreference: executor) {
            if let left { try await withTimeout(left) { try await wait() } } else { try await wait() }
        }
        do {
            try await task.value
        } catch is TimeoutError {
            throw lose("the server did not end a command within \(configuration.cancelPatience)")
        } catch {
            throw lose("\(error)")
        }
    }

    // MARK: Ending a command early

    /// Asks the server to end the command that runs. Its results come as ever; the last is an error, if it was in time.
    ///
    /// libpq 15 makes the connection for the request with blocking calls, and tells nobody the key that it takes to do
    /// it otherwise: so an offload thread does it. At most two at once, so that a server that has vanished can't take
    /// all of these threads.
    ///
    /// PostgreSQL forgets a request that comes before it has begun with the command, so it is made again after a while.
    func askToStop() {
        command.isDeaf = true
        guard command.stopping == nil else { return }
        let deadline = ContinuousClock.now + configuration.cancelPatience
        command.deadline = deadline
        guard let request = handle?.makeCancelRequest() else { return }
        let stopping = PostgresCommand.StopRequest()
        command.stopping = stopping
        Task(executorPreference: executor) {
            var pause = Duration.milliseconds(20)
            repeat {
                try? await Self.cancelRequests.withPermit { try await offload { request.sendBlocking() } }
                if (try? await withTimeout(pause) { try await stopping.isOver.wait() }) != nil { break }
                pause *= 2
            } while .now < deadline
            stopping.isPassedOn.set()
        }
    }

    private static let cancelRequests = AsyncSemaphore(permits: 2)

    /// Reads what is left of the command that runs, whatever it is.
    func drain() async throws(SQLError) {
        while let result = try await nextResult() {
            switch result.status {
            case .copyIn:
                _ = handle?.sendCopyEnd(error: "the client has ended the copy")
                try await flush()
            case .copyOut: try await skipCopy()
            default: break
            }
        }
    }

    /// The command is over: the next one may come.
    ///
    /// A request to end it must not meet the next one, so it is waited for.
    func end(_ turn: AsyncSemaphore) async {
        await finish()
        turn.release()
    }

    /// As `end`, of a caller who keeps the turn.
    func finish() async {
        command.stopping?.isOver.set()
        if let stopping = command.stopping, handle != nil {
            let left = command.deadline.map { max(.zero, ContinuousClock.now.duration(to: $0)) } ?? .zero
            let isPassedOn = await Task(executorPreference: executor) {
                (try? await withTimeout(left) { try await stopping.isPassedOn.wait() }) != nil
            }.value
            if !isPassedOn { _ = lose("a request to end a command could not be sent") }
        }
        settle()
    }

    /// What `finish` does when it need not wait.
    func settle() {
        if handle?.isLost == true { _ = lose(handle?.errorMessage ?? "") }
        command = PostgresCommand()
    }

    /// Gives the connection up.
    func lose(_ words: String) -> SQLError {
        let error = loss ?? SQLError("use", subject, .disconnected(words))
        loss = error
        handle = nil
        command.stopping?.isOver.set()
        // Its end closes it.
        watch = nil
        return error
    }
}

extension Result {
    /// What an async call returns or throws.
    fileprivate init(_ call: () async throws(Failure) -> Success) async {
        do throws(Failure) { self = .success(try await call()) } catch { self = .failure(error) }
    }
}
#endif
