// How rows, notifications and copied lines reach a `for try await`: in batches of what is there at once, so that few of
// them cost a change of isolation or of thread. Whoever stops early drops the iterator, and that ends the statement.

import Rondo

/// Where batches come from. It holds a connection until it has answered nil, has thrown, or was abandoned.
protocol BatchSource<Element>: AnyObject, Sendable {
    associatedtype Element: Sendable

    /// Some elements, at least one; nil at the end.
    func nextBatch() async throws(SQLError) -> [Element]?

    /// Ends it early. Nobody asks for more.
    func abandon() async
}

/// An iterator's state: the source, once it has begun, and what of a batch has not been asked for.
final class BatchIteration<Element: Sendable> {
    private let start: @Sendable () async throws(SQLError) -> any BatchSource<Element>
    private var source: (any BatchSource<Element>)?
    private var batch: [Element] = []
    private var position = 0
    private var hasEnded = false

    init(start: @escaping @Sendable () async throws(SQLError) -> any BatchSource<Element>) { self.start = start }

    deinit {
        guard let source, !hasEnded else { return }
        endWhatWasDropped { await source.abandon() }
    }

    func next() async throws(SQLError) -> Element? {
        if position == batch.count, try await !load() { return nil }
        defer { position += 1 }
        return batch[position]
    }

    /// - Returns: whether there is another batch.
    // Not optimised: where a protocol has one conforming type (a build without PostgreSQL) Swift 6.3.1 calls that
    // type's function directly, and crashes while it casts the optional answer.
    @_optimize(none)
    private func load() async throws(SQLError) -> Bool {
        if hasEnded { return false }
        do {
            if source == nil { source = try await start() }
            batch = try await source!.nextBatch() ?? []
        } catch {
            hasEnded = true
            throw error
        }
        position = 0
        hasEnded = batch.isEmpty
        return !hasEnded
    }
}

/// Starts a task from a `deinit`. Who drops something on a loop may end the loop next, so the task must be the loop's:
/// one elsewhere might come when the loop of a connection has closed.
func endWhatWasDropped(_ body: @escaping @Sendable () async -> Void) {
    Task(executorPreference: EventLoop.current?.executor, operation: body)
}

/// The rows of a statement, as they come. See ``SQLSession/rows(_:)``.
///
/// Each iteration runs the statement anew.
public struct SQLRows: AsyncSequence, Sendable {
    let start: @Sendable () async throws(SQLError) -> any BatchSource<SQLRow>

    /// Asks for one row after the other. Dropping it ends the statement.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let iteration: BatchIteration<SQLRow>

        /// The next row; nil if there are no more.
        ///
        /// Cancellation ends the statement, and throws.
        public func next() async throws(SQLError) -> SQLRow? { try await iteration.next() }

        /// The next row; nil if there are no more.
        public func next(isolation actor: isolated (any Actor)?) async throws(SQLError) -> SQLRow? {
            try await iteration.next()
        }
    }

    /// An iterator, which runs the statement when its first row is asked for.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(iteration: BatchIteration(start: start)) }
}
