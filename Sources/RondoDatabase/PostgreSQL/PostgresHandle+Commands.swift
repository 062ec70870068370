#if PostgreSQL
import CPostgreSQL

// Sending. Each answers whether libpq has taken it; if not, the connection is lost or libpq has no memory. What was
// taken is written by `flush`.

extension PostgresHandle {
    // SAFETY: as in PostgresHandle; all pointers are used within the call.

    /// One statement or several, without values.
    func sendScript(_ text: String) -> Bool { unsafe PQsendQuery(connection, text) != 0 }

    func sendPrepare(_ statement: PreparedStatement, _ text: String) -> Bool {
        unsafe PQsendPrepare(connection, statement.name, text, 0, nil) != 0
    }

    func send(_ statement: PreparedStatement, _ parameters: inout PostgresParameters) -> Bool {
        unsafe parameters.withPointers { count, values, lengths, formats in
            unsafe PQsendQueryPrepared(connection, statement.name, count, values, lengths, formats, 0)
        } != 0
    }

    /// A statement that is prepared for this once.
    func sendOnce(_ text: String, _ parameters: inout PostgresParameters) -> Bool {
        unsafe parameters.withPointers { count, values, lengths, formats in
            unsafe PQsendQueryParams(connection, text, count, nil, values, lengths, formats, 0)
        } != 0
    }

    /// Lets the rows of the command that was just sent come one by one.
    func setSingleRowMode() { _ = unsafe PQsetSingleRowMode(connection) }

    // MARK: Pipeline

    func enterPipeline() -> Bool { unsafe PQenterPipelineMode(connection) != 0 }
    func exitPipeline() -> Bool { unsafe PQexitPipelineMode(connection) != 0 }
    var isInPipeline: Bool { unsafe PQpipelineStatus(connection) != PQ_PIPELINE_OFF }
    func sendSync() -> Bool { unsafe PQpipelineSync(connection) != 0 }

    // MARK: Copies

    func sendCopy(_ bytes: [UInt8]) -> Bool {
        unsafe bytes.withUnsafeBytes { bytes in
            unsafe PQputCopyData(connection, bytes.baseAddress?.assumingMemoryBound(to: CChar.self), Int32(bytes.count))
        } == 1
    }

    /// Ends a copy to the server: well, or with an error in these words.
    func sendCopyEnd(error: String? = nil) -> Bool { unsafe PQputCopyEnd(connection, error) == 1 }

    enum CopiedRow { case appended, notYet, end }

    /// Appends the next row that the server copies to us.
    func receiveCopy(into bytes: inout [UInt8]) -> CopiedRow {
        var buffer: UnsafeMutablePointer<CChar>?
        let count = unsafe PQgetCopyData(connection, &buffer, 1)
        guard count > 0, let start = unsafe buffer else { return count == 0 ? .notYet : .end }
        unsafe bytes.append(contentsOf: UnsafeRawBufferPointer(start: start, count: Int(count)))
        unsafe PQfreemem(start)
        return .appended
    }

    // MARK: Cancelling

    /// What it takes to ask the server to end this connection's command.
    func makeCancelRequest() -> PostgresCancelRequest? {
        unsafe PQgetCancel(connection).map { unsafe PostgresCancelRequest($0) }
    }
}

/// A request to end a connection's command. It goes over a connection of its own, and libpq 15 blocks while it makes
/// that: see `PostgresConnection.askToStop`.
@safe
final class PostgresCancelRequest: @unchecked Sendable {
    // SAFETY: libpq's object is a constant, and PQcancel may be called by any thread.
    private let request: OpaquePointer

    init(_ request: OpaquePointer) { unsafe self.request = request }

    deinit { unsafe PQfreeCancel(request) }

    /// Returns when the server has passed the request on.
    func sendBlocking() {
        var words = [CChar](repeating: 0, count: 256)
        // What goes wrong shows by a command that does not end.
        _ = unsafe PQcancel(request, &words, Int32(words.count))
    }
}
#endif
