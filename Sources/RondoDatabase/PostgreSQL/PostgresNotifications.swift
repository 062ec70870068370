#if PostgreSQL
import Rondo
import Synchronization

/// What somebody has said with `NOTIFY`.
public struct PostgresNotification: Hashable, Sendable {
    /// The channel's name.
    public var channel: String
    /// What was said; empty if nothing was.
    public var payload: String
    /// The server's process of the session that has said it.
    public var processID: Int32
}

/// Notifications, as they come. See ``PostgresConnection/listen(to:)``.
public struct PostgresNotifications: AsyncSequence, Sendable {
    fileprivate let start: @Sendable () async throws(SQLError) -> any BatchSource<PostgresNotification>

    /// Waits for one notification after the other. Dropping it ends listening.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let iteration: BatchIteration<PostgresNotification>

        /// The next notification; nil if another iterator has ended the listening. A connection that is lost throws.
        ///
        /// Cancellation ends listening, and throws.
        public func next() async throws(SQLError) -> PostgresNotification? { try await iteration.next() }

        /// The next notification.
        public func next(isolation actor: isolated (any Actor)?) async throws(SQLError) -> PostgresNotification? {
            try await iteration.next()
        }
    }

    /// An iterator of these notifications: there is one.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(iteration: BatchIteration(start: start)) }
}

extension PostgresConnection {
    /// Listens to channels: what is said from now on is in the sequence, and waits there for whoever is slow.
    ///
    /// ```
    /// let connection = try await PostgresConnection.connect(to: configuration)
    /// let news = try await connection.listen(to: "orders")
    /// let open = try await pool.query("SELECT id FROM orders WHERE NOT done")   // what was before
    /// for try await notification in news { print(notification.payload) }
    /// ```
    ///
    /// Listening takes the connection for itself, until the iterator is dropped or has thrown; it can't be left to a
    /// pool. When the connection is lost the sequence throws: connect anew, listen, and look what has been missed.
    public func listen(to channels: String...) async throws(SQLError) -> PostgresNotifications {
        guard !channels.isEmpty else {
            throw SQLError("listen on", subject, .invalid("there must be at least one channel"))
        }
        var query: SQLQuery = ""
        for channel in channels { query = "\(query)LISTEN \(identifier: channel); " }
        try await begin(query, turn)
        listeners += 1
        let number = listeners
        listener = number
        do throws(SQLError) {
            _ = try await script(query)
            await finish()
        } catch {
            listener = nil
            await end(turn)
            throw error
        }
        // Only an iterator that has begun is dropped with a word, so the source sees to its own end.
        let source = NotificationSource(self, number)
        return PostgresNotifications { () async throws(SQLError) in source }
    }

    fileprivate func nextNotifications(_ number: Int) async throws(SQLError) -> [PostgresNotification]? {
        guard listener == number else { return nil }
        while notifications.isEmpty {
            let handle = try opened()
            guard let watch else { throw lose("") }
            do throws(IOError) {
                if !handle.hasDecryptedInput { try await watch.waitUntilReadable() }
            } catch {
                await stopListening(number)
                throw SQLError("listen on", subject, error.isCancellation ? .cancelled : .disconnected("\(error)"))
            }
            if !consumeInput(handle) {
                let error = lose(handle.errorMessage)
                await stopListening(number)
                throw error
            }
        }
        defer { notifications = [] }
        return notifications
    }

    fileprivate func stopListening(_ number: Int) async {
        guard listener == number else { return }
        listener = nil
        command.onCancellation = .goesOn
        command.deadline = .now + configuration.cancelPatience
        if handle != nil {
            do throws(SQLError) { _ = try await script("UNLISTEN *") } catch { _ = lose("\(error)") }
        }
        notifications = []
        await end(turn)
    }
}

/// Listens until it is dropped.
private final class NotificationSource: BatchSource {
    private let connection: PostgresConnection
    private let number: Int
    /// Whether there is nothing left to be ended.
    private let hasStopped = Atomic(false)

    init(_ connection: PostgresConnection, _ number: Int) {
        self.connection = connection
        self.number = number
    }

    deinit {
        if hasStopped.load(ordering: .acquiring) { return }
        let (connection, number) = (connection, number)
        endWhatWasDropped { await connection.stopListening(number) }
    }

    func nextBatch() async throws(SQLError) -> [PostgresNotification]? {
        try await connection.nextNotifications(number)
    }

    func abandon() async {
        await connection.stopListening(number)
        hasStopped.store(true, ordering: .releasing)
    }
}
#endif
