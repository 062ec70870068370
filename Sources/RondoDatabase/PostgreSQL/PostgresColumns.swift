#if PostgreSQL
import CPostgreSQL

/// The columns of an answer. A prepared statement's are made once.
final class PostgresColumns: Sendable {
    let shared: SQLColumns
    let types: [PostgresType]

    init(names: [String], types: [Oid]) {
        shared = SQLColumns(names)
        self.types = types.map { PostgresType($0) }
    }
}

/// How the text of a column becomes a value.
///
/// All answers come as text, because libpq asks for one format for all columns, and only text says what a `numeric`, a
/// `timestamptz` or an array is. Reading an integer from text costs some nanoseconds.
enum PostgresType: Sendable {
    case boolean, integer, real, bytes, text

    /// By the number that each built-in type has in every server (`pg_type.dat`).
    init(_ oid: Oid) {
        switch oid {
        case 16: self = .boolean
        case 17: self = .bytes
        case 20, 21, 23, 26: self = .integer  // int8, int2, int4, oid
        case 700, 701: self = .real
        default: self = .text
        }
    }

    func value(_ text: UnsafeRawBufferPointer) -> SQLValue {
        // SAFETY: the buffer is read within the call.
        switch self {
        case .boolean: return unsafe .boolean(text.first == UInt8(ascii: "t"))
        case .integer: if let value = unsafe Self.integer(text) { return .integer(value) }
        case .real: if let value = unsafe Double(String(decoding: text, as: UTF8.self)) { return .real(value) }
        case .bytes: if let bytes = unsafe Self.bytes(text) { return .blob(bytes) }
        case .text: break
        }
        return unsafe .text(String(decoding: text, as: UTF8.self))
    }

    private static func integer(_ text: UnsafeRawBufferPointer) -> Int64? {
        // SAFETY: as above.
        var rest = unsafe text[...]
        let isNegative = unsafe rest.first == UInt8(ascii: "-")
        if isNegative { unsafe rest.removeFirst() }
        // Down from zero, as the least number has no counterpart.
        var value: Int64 = 0
        while let byte = unsafe rest.popFirst() {
            guard byte >= UInt8(ascii: "0"), byte <= UInt8(ascii: "9") else { return nil }
            value = value &* 10 &- Int64(byte &- UInt8(ascii: "0"))
        }
        return isNegative ? value : 0 &- value
    }

    /// From `\x0badf00d`. Where a server is set to the older format (`bytea_output = escape`), a column stays text.
    private static func bytes(_ text: UnsafeRawBufferPointer) -> [UInt8]? {
        // SAFETY: as above; the loop stays below the count, which was found to be even.
        guard text.count >= 2, text.count % 2 == 0, unsafe text[0] == UInt8(ascii: "\\"),
            unsafe text[1] == UInt8(ascii: "x")
        else { return nil }
        var bytes: [UInt8] = []
        bytes.reserveCapacity(text.count / 2 - 1)
        for index in stride(from: 2, to: text.count, by: 2) {
            guard let high = unsafe digit(text[index]), let low = unsafe digit(text[index + 1]) else { return nil }
            bytes.append(high << 4 | low)
        }
        return bytes
    }

    private static func digit(_ byte: UInt8) -> UInt8? {
        switch byte {
        case UInt8(ascii: "0")...UInt8(ascii: "9"): byte - UInt8(ascii: "0")
        case UInt8(ascii: "a")...UInt8(ascii: "f"): byte - UInt8(ascii: "a") + 10
        default: nil
        }
    }
}
#endif
