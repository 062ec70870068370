#if PostgreSQL
public import Rondo

/// Writes the rows of a copy to the server. See ``PostgresConnection/copyIn(_:_:)``.
///
/// It collects what is written and hands it over in large pieces; a write waits when the server does not keep up.
public final class PostgresCopyWriter {
    private let connection: PostgresConnection
    private var bytes: [UInt8] = []

    private static let pieceSize = 64 * 1024

    fileprivate init(_ connection: PostgresConnection) { self.connection = connection }

    /// Writes bytes in the format that the statement names: for text, lines whose columns a tab separates. They may end
    /// in the middle of a line.
    ///
    /// - Throws: `SQLError`: cancelled, or disconnected. What the server does not like about them shows at the end.
    public func write(_ bytes: [UInt8]) async throws(SQLError) {
        self.bytes.append(contentsOf: bytes)
        try await flushIfLarge()
    }

    /// Writes the text's UTF-8.
    public func write(_ text: String) async throws(SQLError) {
        bytes.append(contentsOf: text.utf8)
        try await flushIfLarge()
    }

    /// Writes all that comes from a file, a socket, a pipe.
    ///
    /// - Throws: `IOError`, `SQLError`.
    public func write(from source: any ByteSource) async throws {
        while let chunk = try await source.read(upTo: Self.pieceSize) {
            // SAFETY: the chunk keeps its bytes while they are copied.
            unsafe chunk.bytes.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
            try await flushIfLarge()
        }
    }

    /// Writes a row in text format, the one that a COPY has by default.
    public func write<each Value: SQLConvertible>(row values: repeat each Value) async throws(SQLError) {
        var isFirst = true
        for value in repeat each values {
            if !isFirst { bytes.append(UInt8(ascii: "\t")) }
            isFirst = false
            append(value.sqlValue)
        }
        bytes.append(UInt8(ascii: "\n"))
        try await flushIfLarge()
    }

    private func append(_ value: SQLValue) {
        switch value {
        case .null: bytes.append(contentsOf: #"\N"#.utf8)
        case .boolean(let value): bytes.append(UInt8(ascii: value ? "t" : "f"))
        case .integer(let value): bytes.append(contentsOf: "\(value)".utf8)
        case .real(let value): bytes.append(contentsOf: "\(value)".utf8)
        case .text(let text): for byte in text.utf8 { append(escaping: byte) }
        case .blob(let blob):
            bytes.append(contentsOf: #"\\x"#.utf8)
            let digits = Array("0123456789abcdef".utf8)
            for byte in blob {
                bytes.append(digits[Int(byte >> 4)])
                bytes.append(digits[Int(byte & 15)])
            }
        }
    }

    private func append(escaping byte: UInt8) {
        switch byte {
        case UInt8(ascii: "\\"): bytes.append(contentsOf: #"\\"#.utf8)
        case UInt8(ascii: "\t"): bytes.append(contentsOf: #"\t"#.utf8)
        case UInt8(ascii: "\n"): bytes.append(contentsOf: #"\n"#.utf8)
        case UInt8(ascii: "\r"): bytes.append(contentsOf: #"\r"#.utf8)
        default: bytes.append(byte)
        }
    }

    private func flushIfLarge() async throws(SQLError) { if bytes.count >= Self.pieceSize { try await flush() } }

    fileprivate func flush() async throws(SQLError) {
        if bytes.isEmpty { return }
        let piece = bytes
        bytes = []
        bytes.reserveCapacity(piece.count + Self.pieceSize / 4)
        try await connection.sendCopy(piece)
    }
}

/// What a server copies out, in pieces of whole lines. See ``PostgresConnection/copyOut(_:)``.
///
/// Each iteration runs the statement anew.
public struct PostgresCopy: AsyncSequence, Sendable {
    let start: @Sendable () async throws(SQLError) -> any BatchSource<[UInt8]>

    /// Asks for one piece after the other. Dropping it ends the copy.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let iteration: BatchIteration<[UInt8]>

        /// The next piece; nil at the end.
        ///
        /// Cancellation ends the copy, and throws.
        public func next() async throws(SQLError) -> [UInt8]? { try await iteration.next() }

        /// The next piece; nil at the end.
        public func next(isolation actor: isolated (any Actor)?) async throws(SQLError) -> [UInt8]? {
            try await iteration.next()
        }
    }

    /// An iterator, which begins to copy when its first piece is asked for.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(iteration: BatchIteration(start: start)) }

    /// Writes all of it to a file, a socket, a pipe.
    ///
    /// - Returns: how many bytes that were.
    /// - Throws: `SQLError`, or the sink's `IOError`.
    @discardableResult
    public func write(to sink: any ByteSink) async throws -> Int {
        var count = 0
        for try await piece in self {
            try await sink.write(piece)
            count += piece.count
        }
        return count
    }
}

/// A copy that is being read. It has the turn until it is over.
final class PostgresCopySource: BatchSource, @unchecked Sendable {
    // SAFETY: what changes is touched by the connection's own functions only, which its executor orders.
    let connection: PostgresConnection
    let query: SQLQuery
    let turn: AsyncSemaphore
    var isOver = false

    init(_ connection: PostgresConnection, _ query: SQLQuery, _ turn: AsyncSemaphore) {
        self.connection = connection
        self.query = query
        self.turn = turn
    }

    func nextBatch() async throws(SQLError) -> [[UInt8]]? { try await connection.nextPiece(self).map { [$0] } }
    func abandon() async { await connection.abandon(self) }
}

extension PostgresConnection {
    // MARK: To the server

    nonisolated func copyIn(
        _ query: SQLQuery, turn: AsyncSemaphore, _ body: (PostgresCopyWriter) async throws -> Void
    ) async throws -> Int {
        try await startCopy(query, turn, .copyIn)
        let writer = PostgresCopyWriter(self)
        do {
            try await body(writer)
            try await writer.flush()
        } catch {
            await endCopy(because: "\(error)", turn)
            throw error
        }
        return try await endCopy(query, turn)
    }

    /// Runs a COPY, and sees that it goes in that direction.
    func startCopy(
        _ query: SQLQuery, _ turn: AsyncSemaphore, _ direction: PostgresResult.Status
    ) async throws(SQLError) {
        try await begin(query, turn)
        do throws(SQLError) {
            guard query.values.isEmpty else {
                throw SQLError("run", query.text, .invalid("PostgreSQL binds no values in a COPY"))
            }
            if try !opened().sendScript(query.text) { throw refusedToSend() }
            try await flush()
            var answer = Answer()
            if let result = try await nextResult() {
                if result.status == direction { return }
                if result.status == .failed { answer.failure = result.refusal }
            }
            if answer.failure == nil { askToStop() }
            try await drain()
            _ = try succeeded(answer, query)
            throw SQLError("run", query.text, .invalid("it is no COPY in that direction"))
        } catch {
            await end(turn)
            throw error
        }
    }

    func sendCopy(_ bytes: [UInt8]) async throws(SQLError) {
        let handle = try opened()
        if command.isDeaf || Task.isCancelled { throw SQLError("copy to", subject, .cancelled) }
        if !handle.sendCopy(bytes) { throw refusedToSend() }
        try await flush()
    }

    private func endCopy(_ query: SQLQuery, _ turn: AsyncSemaphore) async throws(SQLError) -> Int {
        do throws(SQLError) {
            if try !opened().sendCopyEnd() { throw refusedToSend() }
            try await flush()
            var answer = Answer()
            while let result = try await nextResult() {
                if result.status == .failed { answer.failure = answer.failure ?? result.refusal }
                answer.rowsAffected = result.rowsAffected
            }
            _ = try succeeded(answer, query)
            await end(turn)
            return answer.rowsAffected
        } catch {
            await end(turn)
            throw error
        }
    }

    private func endCopy(because words: String, _ turn: AsyncSemaphore) async {
        command.onCancellation = .goesOn
        command.deadline = command.deadline ?? .now + configuration.cancelPatience
        do throws(SQLError) {
            if try !opened().sendCopyEnd(error: words) { throw refusedToSend() }
            try await flush()
            try await drain()
        } catch {
            _ = lose("\(error)")
        }
        await end(turn)
    }

    // MARK: From the server

    nonisolated func copyOut(_ query: SQLQuery, turn: AsyncSemaphore) -> PostgresCopy {
        PostgresCopy { () async throws(SQLError) in
            try await self.startCopy(query, turn, .copyOut)
            return PostgresCopySource(self, query, turn)
        }
    }

    func nextPiece(_ source: PostgresCopySource) async throws(SQLError) -> [UInt8]? {
        if source.isOver { return nil }
        do throws(SQLError) {
            var piece: [UInt8] = []
            while piece.count < 64 * 1024 {
                switch try opened().receiveCopy(into: &piece) {
                case .appended: continue
                case .notYet:
                    if !piece.isEmpty { return piece }
                    try await waitForCopy()
                case .end:
                    // What is over is asked for once more, and answers nil.
                    if !piece.isEmpty { return piece }
                    var answer = Answer()
                    while let result = try await nextResult() {
                        if result.status == .failed { answer.failure = result.refusal }
                    }
                    _ = try succeeded(answer, source.query)
                    source.isOver = true
                    await end(source.turn)
                    return nil
                }
            }
            return piece
        } catch {
            source.isOver = true
            await end(source.turn)
            throw error
        }
    }

    /// Reads and drops what is copied.
    func skipCopy() async throws(SQLError) {
        var dropped: [UInt8] = []
        while true {
            switch try opened().receiveCopy(into: &dropped) {
            case .appended: dropped.removeAll(keepingCapacity: true)
            case .notYet: try await waitForCopy()
            case .end: return
            }
        }
    }

    func abandon(_ source: PostgresCopySource) async {
        if source.isOver { return }
        source.isOver = true
        askToStop()
        do throws(SQLError) {
            try await skipCopy()
            try await drain()
        } catch {
            _ = lose("\(error)")
        }
        await end(source.turn)
    }
}
#endif
