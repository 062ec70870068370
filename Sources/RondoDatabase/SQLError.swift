/// What went wrong with a database: the operation, what it was done to, why, and what to do about it.
///
/// ```
/// run SELECT pathh FROM file: column "pathh" does not exist at character 8 (42703)
/// ```
public struct SQLError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Why it went wrong.
    public enum Cause: Hashable, Sendable {
        /// The database refused it. The connection is good.
        case refused(SQLRefusal)
        /// There is no connection: it could not be made, or it was lost, in these words. Whether a statement that ran
        /// then has had its effect is not known.
        case disconnected(String)
        /// The task was cancelled, and the statement has not had its effect. Where an answer came in spite of the
        /// cancellation, it is returned.
        case cancelled
        /// The database, connection or pool was closed before by this program: a mistake of the caller.
        case closed
        /// A row has no such column; it has these.
        case noColumn(has: [String])
        /// A column has this value, which is not one of the type that was wanted.
        case otherType(SQLValue, wanted: String)
        /// The caller's arguments make no sense, in these words.
        case invalid(String)
    }

    // One word, as every async function that throws this keeps room for it.
    private let content: Content

    private final class Content: Hashable, Sendable {
        let operation: String
        let subject: String
        let cause: Cause

        init(_ operation: String, _ subject: String, _ cause: Cause) {
            self.operation = operation
            self.subject = subject
            self.cause = cause
        }

        static func == (left: Content, right: Content) -> Bool {
            left.operation == right.operation && left.subject == right.subject && left.cause == right.cause
        }

        func hash(into hasher: inout Hasher) {
            hasher.combine(operation)
            hasher.combine(subject)
            hasher.combine(cause)
        }
    }

    /// An error in these words.
    public init(_ operation: String, _ subject: String, _ cause: Cause) {
        content = Content(operation, subject, cause)
    }

    /// The verb: `connect to`, `run`, `read the column`…
    public var operation: String { content.operation }
    /// What it was done to: a statement, a server, a file, a column.
    public var subject: String { content.subject }
    /// Why it went wrong.
    public var cause: Cause { content.cause }

    /// Whether the task's cancellation ended it.
    public var isCancellation: Bool { cause == .cancelled }

    /// Whether there is no connection. Another one may work.
    public var isDisconnection: Bool { if case .disconnected = cause { true } else { false } }

    /// What the database said, if it refused.
    public var refusal: SQLRefusal? { if case .refused(let refusal) = cause { refusal } else { nil } }

    public var description: String { "\(operation) \(shortSubject): \(reason)\(hint.map { " (\($0))" } ?? "")" }

    /// A statement may be long, and of many lines.
    private var shortSubject: String {
        let line = subject.split(whereSeparator: \.isWhitespace).joined(separator: " ")
        return line.count > 200 ? line.prefix(199) + "…" : line
    }

    private var reason: String {
        switch cause {
        case .refused(let refusal): refusal.description
        case .disconnected(let words): words
        case .cancelled: "the task was cancelled"
        case .closed: "it is closed"
        case .noColumn(let names): "there is no such column, but \(names.joined(separator: ", "))"
        case .otherType(let value, let wanted): "it has \(value.kind), \(value), which is no \(wanted)"
        case .invalid(let words): words
        }
    }

    /// What to do about it, where there is one thing that usually helps.
    public var hint: String? {
        switch cause {
        case .refused(let refusal): refusal.hint
        case .closed: "do not use it after close()"
        case .otherType(.null, _): "read it as an optional"
        default: nil
        }
    }
}

/// What a database said when it refused a statement.
public struct SQLRefusal: Hashable, Sendable, CustomStringConvertible {
    /// What a program usually decides by; the same for all databases.
    public enum Kind: Hashable, Sendable {
        /// A key is there already.
        case uniqueViolation
        /// A row refers to one that is not there, or is referred to.
        case foreignKeyViolation
        /// A column must have a value.
        case notNullViolation
        /// A value does not pass a check.
        case checkViolation
        /// Another transaction was in the way: the transaction may be tried again.
        case conflict
        /// There is no such table, column, function…, or the statement is not written as SQL is.
        case statement
        /// The user may not do that.
        case permission
        /// The server or the administrator ended it: a time limit, a shutdown.
        case interrupted
        /// Anything else.
        case other
    }

    /// What a program usually decides by.
    public var kind: Kind
    /// PostgreSQL's SQLSTATE, `23505`; SQLite's name and number, `SQLITE_CONSTRAINT 2067`.
    public var code: String
    /// The database's words.
    public var message: String
    /// More of them.
    public var detail: String?
    /// What to do, in the database's words or ours.
    public var hint: String?
    /// Where in the statement, in characters from 1.
    public var position: Int?
    /// The constraint that was violated, if the database says so.
    public var constraint: String?
    /// The table that it is about, if the database says so.
    public var table: String?
    /// The column that it is about, if the database says so.
    public var column: String?

    /// A refusal of which nothing more is known.
    public init(_ kind: Kind, code: String, message: String) {
        self.kind = kind
        self.code = code
        self.message = message
    }

    public var description: String {
        let place = position.map { " at character \($0)" } ?? ""
        return "\(message)\(place) (\(code)\(detail.map { "; \($0)" } ?? ""))"
    }
}
