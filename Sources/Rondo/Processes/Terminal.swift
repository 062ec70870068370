import CRondo
import Glibc
public import SystemPackage

/// The terminal that a descriptor stands for.
public struct Terminal: Sendable {
    /// Columns and rows of characters.
    public struct Size: Hashable, Sendable {
        /// Characters in a row.
        public var columns: Int
        /// Rows of characters.
        public var rows: Int
    }

    /// The descriptor.
    public let descriptor: FileDescriptor

    /// - Returns: nil if the descriptor is no terminal.
    public init?(_ descriptor: FileDescriptor = .standardInput) {
        if isatty(descriptor.rawValue) != 1 { return nil }
        self.descriptor = descriptor
    }

    /// How large it is now.
    public var size: Size {
        get throws(IOError) {
            var (columns, rows): (Int32, Int32) = (0, 0)
            // SAFETY: fills in the two numbers.
            let answer = unsafe rondo_terminal_size(descriptor.rawValue, &columns, &rows)
            if answer < 0 { throw IOError("ask the size of", "the terminal", IOError.cause(ofAnswer: answer)) }
            return Size(columns: Int(columns), rows: Int(rows))
        }
    }

    /// Its size, whenever that has changed (SIGWINCH).
    public func sizeChanges() throws(IOError) -> SizeChanges {
        SizeChanges(terminal: self, signals: try Signals.of(.windowChange))
    }

    /// The sizes that a terminal has become, one after the other. It ends if the task is cancelled, the loop ends, or
    /// the terminal is gone.
    public struct SizeChanges: AsyncSequence, Sendable {
        /// What comes.
        public typealias Element = Size
        /// It never throws.
        public typealias Failure = Never
        fileprivate let terminal: Terminal
        fileprivate let signals: Signals

        /// All iterators share what has come.
        public func makeAsyncIterator() -> Iterator {
            Iterator(terminal: terminal, signals: signals.makeAsyncIterator())
        }

        /// Waits for changes of size.
        public struct Iterator: AsyncIteratorProtocol {
            fileprivate let terminal: Terminal
            fileprivate var signals: Signals.Iterator

            /// Waits until the size has changed.
            public mutating func next() async -> Size? {
                guard await signals.next() != nil else { return nil }
                return try? terminal.size
            }

            /// Waits until the size has changed.
            public mutating func next(isolation actor: isolated (any Actor)?) async -> Size? { await next() }
        }
    }

    /// Runs `body` with the terminal in raw mode: every key is read at once, as it is, and not shown.
    ///
    /// The terminal is put back when `body` has ended, however it ends; and before the process ends, if it does so by
    /// `exit`, by a crash, or by a signal that nobody handles. SIGKILL alone leaves it raw (`stty sane` helps then).
    /// One terminal at a time: a second raw mode throws `EBUSY`.
    public func withRawMode<Value>(_ body: () async throws -> Value) async throws -> Value {
        let answer = rondo_terminal_make_raw(descriptor.rawValue)
        if answer < 0 { throw IOError("make raw", "the terminal", IOError.cause(ofAnswer: answer)) }
        defer { rondo_terminal_restore() }
        return try await body()
    }
}
