#if PostgreSQL
import Rondo

// Statements whose tasks wait while a connection runs them: what a pool with a pipeline hands to its connections.

/// A statement of a task that waits for its answer. Everything here is used on the loop's thread.
@safe
final class QueuedStatement: @unchecked Sendable {
    // SAFETY: touched by the pool's and its connections' own functions only, which one executor orders. The
    // continuation is taken out before it is resumed, so it is resumed once.

    /// What becomes of it.
    enum Outcome {
        case answered(Result<PostgresConnection.Answer, SQLError>)
        /// It has had no effect, and is to be run by itself.
        case goesAlone
        /// It was not run, and its task has a permit of the pool now.
        case hasPermit
    }

    let query: SQLQuery
    /// When it was asked for.
    let asked = ContinuousClock.now
    /// Who runs it; nil while it waits for its turn.
    var connection: PostgresConnection?
    /// Whether its task was cancelled.
    var isCancelled = false
    /// Whether a request to end another statement may have met this one.
    var mayHaveBeenMistaken = false
    /// The statement as the server knows it, once it was sent.
    var prepared: PreparedStatement?
    /// How many commands were sent before it, to prepare it.
    var preparations = 0
    /// Waits for it no longer than its cancelled task should.
    var patience: Task<Void, Never>?
    fileprivate var next: QueuedStatement?
    fileprivate unowned var previous: QueuedStatement?
    private var outcome: Outcome?
    private var continuation: UnsafeContinuation<Outcome, Never>?

    init(_ query: SQLQuery) { self.query = query }

    var isOver: Bool { outcome != nil }

    /// The outcome, which may have come before.
    ///
    /// - Parameter pool: whose statement it is. Its loop's thread is where the continuation is kept: a closure that
    ///   says nothing of the actor would run where its task prefers to be.
    func wait(in pool: isolated PostgresPool) async -> Outcome {
        await unsafe withUnsafeContinuation { continuation in
            guard let outcome else { return unsafe self.continuation = continuation }
            unsafe continuation.resume(returning: outcome)
        }
    }

    /// It is over. What comes after the first outcome is not heard.
    func finish(_ outcome: Outcome) {
        if isOver { return }
        self.outcome = outcome
        patience?.cancel()
        let waiting = unsafe continuation
        unsafe continuation = nil
        unsafe waiting?.resume(returning: outcome)
    }
}

/// Statements that wait for a connection to run them: first come, first served. Used on the loop's thread.
final class StatementQueue: @unchecked Sendable {
    // SAFETY: as QueuedStatement.

    /// How many statements a connection may have under way.
    let depth: Int
    private let permits: AsyncSemaphore
    private var first: QueuedStatement?
    private var last: QueuedStatement?
    /// How many wait.
    private(set) var count = 0

    /// - Parameter permits: what tasks wait for that want a connection of their own.
    init(depth: Int, permits: AsyncSemaphore) {
        self.depth = depth
        self.permits = permits
    }

    var isEmpty: Bool { count == 0 }

    func append(_ statement: QueuedStatement) {
        if let last { last.next = statement } else { first = statement }
        statement.previous = last
        last = statement
        count += 1
    }

    func popFirst() -> QueuedStatement? {
        guard let statement = first else { return nil }
        remove(statement)
        return statement
    }

    /// A statement that waits here does so no more.
    func remove(_ statement: QueuedStatement) {
        if let previous = statement.previous { previous.next = statement.next } else { first = statement.next }
        if let next = statement.next { next.previous = statement.previous } else { last = statement.previous }
        statement.next = nil
        statement.previous = nil
        count -= 1
    }

    /// The next statement for a connection that has begun with so many since it was lent. While others wait for a
    /// connection of their own it begins with no more than go into its pipeline at once.
    func next(after begun: Int) -> QueuedStatement? {
        begun >= depth && permits.waiting > 0 ? nil : popFirst()
    }
}

extension SQLQuery {
    private static let selfContainedCommands = ["select", "insert", "update", "delete", "merge", "with", "values"].map {
        firstWord(of: $0)
    }

    /// Whether the statement has no effect at all if it fails, or is ended, and tells the session nothing: then it may
    /// share a connection with others, and may be run once more.
    var isSelfContained: Bool { Self.selfContainedCommands.contains(Self.firstWord(of: text)) }

    /// Up to eight letters that a text begins with, in lower case, as the bytes of a number.
    private static func firstWord(of text: String) -> UInt64 {
        var word: UInt64 = 0
        var count = 0
        for byte in text.utf8 {
            let letter = byte | 0x20
            if count == 0, byte <= UInt8(ascii: " ") { continue }
            guard (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(letter), count < 8 else { break }
            word = word << 8 | UInt64(letter)
            count += 1
        }
        return word
    }
}
#endif
