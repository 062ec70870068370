// GRDB's values and errors, and ours.

/// GRDB keeps blobs as Data.
private import Foundation
import GRDB

extension SQLQuery {
    /// The values, in the order of their marks: those of the text are numbered from 1, and each stands there once.
    var arguments: StatementArguments { StatementArguments(values.map(\.databaseValue)) }
}

extension SQLValue {
    fileprivate var databaseValue: DatabaseValue {
        switch self {
        case .null: .null
        case .boolean(let value): value.databaseValue
        case .integer(let value): value.databaseValue
        case .real(let value): value.databaseValue
        case .text(let value): value.databaseValue
        case .blob(let bytes): Data(bytes).databaseValue
        }
    }

    fileprivate init(_ value: DatabaseValue) {
        switch value.storage {
        case .null: self = .null
        case .int64(let value): self = .integer(value)
        case .double(let value): self = .real(value)
        case .string(let value): self = .text(value)
        case .blob(let data): self = .blob(Array(data))
        }
    }
}

extension SQLRow {
    init(_ columns: SQLColumns, _ row: Row) { self.init(columns, row.databaseValues.map { SQLValue($0) }) }
}

extension SQLError {
    /// What GRDB threw when it ran a statement.
    init(_ error: any Error, query: SQLQuery) { self.init(error, "run", query.text) }

    init(_ error: any Error, _ operation: String, _ subject: String) {
        switch error {
        case let error as SQLError: self = error
        case is CancellationError: self.init(operation, subject, .cancelled)
        case let error as DatabaseError where error.resultCode == .SQLITE_INTERRUPT:
            self.init(operation, subject, .cancelled)
        case let error as DatabaseError: self.init(operation, subject, .refused(SQLRefusal(error)))
        default: self.init(operation, subject, .invalid("\(error)"))
        }
    }
}

extension SQLRefusal {
    fileprivate init(_ error: DatabaseError) {
        let (primary, extended) = (error.resultCode, error.extendedResultCode)
        let name = Self.names[primary.rawValue] ?? "SQLITE"
        self.init(
            Self.kind(primary, extended),
            code: extended == primary ? "\(name) \(primary.rawValue)" : "\(name) \(extended.rawValue)",
            message: error.message ?? "\(extended)")
        hint = Self.hint(for: primary)
    }

    private static func kind(_ primary: ResultCode, _ extended: ResultCode) -> Kind {
        switch extended {
        case .SQLITE_CONSTRAINT_UNIQUE, .SQLITE_CONSTRAINT_PRIMARYKEY, .SQLITE_CONSTRAINT_ROWID: .uniqueViolation
        case .SQLITE_CONSTRAINT_FOREIGNKEY: .foreignKeyViolation
        case .SQLITE_CONSTRAINT_NOTNULL: .notNullViolation
        case .SQLITE_CONSTRAINT_CHECK: .checkViolation
        default:
            switch primary {
            case .SQLITE_BUSY, .SQLITE_LOCKED: .conflict
            case .SQLITE_ERROR: .statement
            case .SQLITE_PERM, .SQLITE_AUTH, .SQLITE_READONLY: .permission
            default: .other
            }
        }
    }

    private static func hint(for code: ResultCode) -> String? {
        switch code {
        case .SQLITE_CANTOPEN: "is its folder there, and may you write to it?"
        case .SQLITE_READONLY, .SQLITE_PERM: "may you write to it?"
        case .SQLITE_FULL: "free some space, or put it elsewhere"
        case .SQLITE_BUSY: "another connection is writing to it"
        case .SQLITE_NOTADB, .SQLITE_CORRUPT: "it is no SQLite database, or a damaged one"
        default: nil
        }
    }

    private static let names: [Int32: String] = [
        1: "SQLITE_ERROR", 3: "SQLITE_PERM", 5: "SQLITE_BUSY", 6: "SQLITE_LOCKED", 8: "SQLITE_READONLY",
        10: "SQLITE_IOERR", 11: "SQLITE_CORRUPT", 13: "SQLITE_FULL", 14: "SQLITE_CANTOPEN", 18: "SQLITE_TOOBIG",
        19: "SQLITE_CONSTRAINT", 20: "SQLITE_MISMATCH", 21: "SQLITE_MISUSE", 23: "SQLITE_AUTH", 26: "SQLITE_NOTADB",
    ]
}
