/// What a database stores in a column of a row, and what a statement binds.
///
/// SQLite has these cases but `boolean`, which it keeps as the integers 0 and 1. PostgreSQL has many more types: those
/// without a case of their own (`numeric`, `timestamptz`, `uuid`, `jsonb`, arrays…) come and go as the text that `psql`
/// shows, without any loss.
public enum SQLValue: Hashable, Sendable {
    /// No value.
    case null
    /// PostgreSQL's `boolean`.
    case boolean(Bool)
    /// Any integer type.
    case integer(Int64)
    /// `real`, `double precision`.
    case real(Double)
    /// `text`, and every type that has no case of its own.
    case text(String)
    /// SQLite's `BLOB`, PostgreSQL's `bytea`.
    case blob([UInt8])

    /// Whether there is no value.
    public var isNull: Bool { self == .null }
}

extension SQLValue: CustomStringConvertible {
    /// As one would write it in SQL; a blob is cut after 16 bytes.
    public var description: String {
        switch self {
        case .null: return "NULL"
        case .boolean(let value): return value ? "TRUE" : "FALSE"
        case .integer(let value): return "\(value)"
        case .real(let value): return "\(value)"
        case .text(let value): return "'\(value)'"
        case .blob(let bytes):
            let start = bytes.prefix(16).map { Self.hexadecimal($0) }.joined()
            return bytes.count > 16 ? "x'\(start)…' (\(bytes.count) bytes)" : "x'\(start)'"
        }
    }

    /// What it is, for messages.
    var kind: String {
        switch self {
        case .null: "NULL"
        case .boolean: "a boolean"
        case .integer: "an integer"
        case .real: "a real number"
        case .text: "text"
        case .blob: "a blob"
        }
    }

    private static func hexadecimal(_ byte: UInt8) -> String {
        let digits = String(byte, radix: 16)
        return byte < 16 ? "0" + digits : digits
    }
}
