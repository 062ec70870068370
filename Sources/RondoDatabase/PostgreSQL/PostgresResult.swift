#if PostgreSQL
import CPostgreSQL

/// What the server has answered to a statement: rows, or what became of it.
@safe
struct PostgresResult: ~Copyable {
    // SAFETY: libpq's object is this value's own, and lives as long; it is copied from, and never changed.
    private let result: OpaquePointer

    init(_ result: OpaquePointer) { unsafe self.result = result }

    deinit { unsafe PQclear(result) }

    enum Status { case rows, singleRow, done, failed, copyIn, copyOut, pipelineSync, pipelineAborted }

    var status: Status {
        switch unsafe PQresultStatus(result) {
        case PGRES_TUPLES_OK: .rows
        case PGRES_SINGLE_TUPLE: .singleRow
        case PGRES_COMMAND_OK, PGRES_EMPTY_QUERY: .done
        case PGRES_COPY_IN: .copyIn
        case PGRES_COPY_OUT, PGRES_COPY_BOTH: .copyOut
        case PGRES_PIPELINE_SYNC: .pipelineSync
        case PGRES_PIPELINE_ABORTED: .pipelineAborted
        default: .failed
        }
    }

    /// What was done: `COMMIT`, `INSERT 0 1`.
    var tag: String { unsafe String(cString: PQcmdStatus(result)) }

    /// How many rows were inserted, changed, deleted or copied; 0 if it is about something else.
    var rowsAffected: Int {
        // `SELECT 1`, the most frequent one, counts what was read.
        if unsafe PQcmdStatus(result).pointee == CChar(UInt8(ascii: "S")) { return 0 }
        let tag = tag
        guard ["INSERT", "UPDATE", "DELETE", "MERGE", "COPY"].contains(where: tag.hasPrefix) else { return 0 }
        return tag.split(separator: " ").last.flatMap { Int($0) } ?? 0
    }

    // MARK: Rows

    var columns: PostgresColumns {
        let count = unsafe PQnfields(result)
        return PostgresColumns(
            names: (0..<count).map { unsafe String(cString: PQfname(result, $0)) },
            types: (0..<count).map { unsafe PQftype(result, $0) })
    }

    var rowCount: Int { Int(unsafe PQntuples(result)) }

    /// Appends all rows.
    func append(to rows: inout [SQLRow], _ columns: PostgresColumns) {
        let count = Int32(rowCount)
        rows.reserveCapacity(rows.count + Int(count))
        for row in 0..<count { rows.append(SQLRow(columns.shared, values(row, columns.types))) }
    }

    private func values(_ row: Int32, _ types: [PostgresType]) -> [SQLValue] {
        var values: [SQLValue] = []
        values.reserveCapacity(types.count)
        for (index, type) in types.enumerated() { values.append(value(row, Int32(index), type)) }
        return values
    }

    private func value(_ row: Int32, _ column: Int32, _ type: PostgresType) -> SQLValue {
        let length = unsafe PQgetlength(result, row, column)
        if length == 0, unsafe PQgetisnull(result, row, column) != 0 { return .null }
        return unsafe type.value(
            UnsafeRawBufferPointer(start: PQgetvalue(result, row, column), count: Int(length)))
    }

    // MARK: Errors

    /// What the server said, or libpq by itself: that has no code.
    var refusal: SQLRefusal {
        let code = field("C") ?? ""
        let message = unsafe field("M") ?? PostgresHandle.trimmed(PQresultErrorMessage(result))
        var refusal = SQLRefusal(SQLRefusal.Kind(sqlState: code), code: code, message: message)
        refusal.detail = field("D")
        refusal.hint = field("H")
        refusal.position = field("P").flatMap { Int($0) }
        refusal.constraint = field("n")
        refusal.table = field("t")
        refusal.column = field("c")
        return refusal
    }

    /// A field of an error, by the letter that the protocol gives it.
    private func field(_ letter: Character) -> String? {
        unsafe PQresultErrorField(result, Int32(letter.asciiValue!)).map { unsafe String(cString: $0) }
    }
}

extension SQLRefusal.Kind {
    /// By PostgreSQL's error codes (appendix A of its manual).
    init(sqlState: String) {
        switch sqlState {
        case "23505", "23P01": self = .uniqueViolation
        case "23503": self = .foreignKeyViolation
        case "23502": self = .notNullViolation
        case "23514": self = .checkViolation
        case "40001", "40P01", "55P03": self = .conflict
        case "42501", "25006": self = .permission
        default:
            switch sqlState.prefix(2) {
            case "42": self = .statement
            case "28": self = .permission
            case "57": self = .interrupted
            default: self = .other
            }
        }
    }
}
#endif
