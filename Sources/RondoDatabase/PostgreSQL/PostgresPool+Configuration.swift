#if PostgreSQL
// What a pool is told, and what it tells.

extension PostgresPool {
    /// How a pool behaves.
    public struct Configuration: Sendable {
        /// The most connections.
        public var size = 8
        /// The most statements that a connection may have under way, if no other is free. 1: the next one is sent when
        /// the last has been answered.
        ///
        /// More save round trips and wake-ups, on both sides: some 4 are good where all statements are short. A
        /// statement that takes long delays those that were sent after it on its connection, though others be free by
        /// then. Each statement is a transaction of its own in any case. Only those that begin with `SELECT`, `INSERT`,
        /// `UPDATE`, `DELETE`, `MERGE`, `WITH` or `VALUES` share a connection; all others, and transactions, rows that
        /// are read as they come, and ``PostgresPool/withConnection(_:)`` have one to themselves, as ever.
        ///
        /// Cancelling a task ends its statement as ever, and one that was sent after it may have to be run again. A
        /// statement that the server has not begun with waits for those before it; if that takes longer than
        /// ``PostgresConfiguration/cancelPatience``, the task goes on with a disconnection error: whether the statement
        /// has its effect is not known then.
        public var pipelineDepth = 1
        /// How long a connection may have been idle to be lent without a look at it. The look costs no round trip: it
        /// finds that the server has ended the connection.
        public var trustedIdleTime: Duration = .seconds(1)
        /// How long a connection may have been idle to be lent without asking the server, which finds that the way
        /// there is broken.
        public var unaskedIdleTime: Duration = .seconds(60)
        /// How long a task waits for a server that can't be reached, from when it has asked.
        public var patience: Duration = .seconds(5)

        /// The defaults.
        public init() {}
    }

    /// What a pool has done, and has to do.
    public struct Statistics: Hashable, Sendable {
        /// Connections that are open, lent or idle.
        public var open: Int
        /// Connections that are open and not lent.
        public var idle: Int
        /// Tasks that wait for a connection.
        public var waiting: Int
        /// Connections that were made so far.
        public var connected: Int
        /// Attempts to connect that failed.
        public var failedToConnect: Int
        /// Connections that were found broken, and dropped.
        public var dropped: Int
    }
}

/// A server that can't be reached, and when to try again: after 50 ms, and twice as long each time, up to a second.
struct ServerAbsence {
    private(set) var failure: SQLError?
    private var pause: Duration = .milliseconds(50)
    private var nextAttempt: ContinuousClock.Instant = .now

    var timeToNextAttempt: Duration { max(.zero, ContinuousClock.now.duration(to: nextAttempt)) }

    /// Several connections may fail at the same time: only the first of them makes the pause longer.
    mutating func note(_ failure: SQLError) {
        if self.failure != nil, timeToNextAttempt > .zero { return }
        self.failure = failure
        // Not all programs that have lost the same server should come back at the same moment.
        nextAttempt = .now + pause * Double.random(in: 0.75...1.25)
        pause = min(pause * 2, .seconds(1))
    }
}
#endif
