/// A row that a database has answered.
///
/// ```
/// let path: String = try row["path"]
/// let size = try row["size", as: Int.self]
/// let (path, size) = try row.decode(String.self, Int.self)
/// ```
public struct SQLRow: Hashable, Sendable {
    let columns: SQLColumns
    /// Its values, in the order of the columns.
    public let values: [SQLValue]

    init(_ columns: SQLColumns, _ values: [SQLValue]) {
        self.columns = columns
        self.values = values
    }

    /// The columns' names, in order.
    public var columnNames: [String] { columns.names }

    /// How many columns it has.
    public var count: Int { values.count }

    /// The value of the first column of this name.
    ///
    /// - Throws: `SQLError`: there is no such column, or its value is not one of that type.
    public subscript<Value: SQLConvertible>(_ name: String, as type: Value.Type = Value.self) -> Value {
        get throws(SQLError) {
            guard let index = columns.index(of: name) else {
                throw SQLError("read the column", name, .noColumn(has: columns.names))
            }
            return try self[index, as: type]
        }
    }

    /// The value of a column, counted from 0.
    ///
    /// - Throws: `SQLError`: there is no such column, or its value is not one of that type.
    public subscript<Value: SQLConvertible>(_ index: Int, as type: Value.Type = Value.self) -> Value {
        get throws(SQLError) {
            guard values.indices.contains(index) else {
                throw SQLError("read the column", "number \(index)", .noColumn(has: columns.names))
            }
            guard let value = Value(sqlValue: values[index]) else {
                throw SQLError(
                    "read the column", columns.names[index], .otherType(values[index], wanted: "\(Value.self)"))
            }
            return value
        }
    }

    /// The values of the first columns as these types, one for each.
    ///
    /// - Throws: `SQLError`: there are fewer columns, or a value is not one of its type.
    public func decode<each Value: SQLConvertible>(_ type: repeat (each Value).Type) throws(SQLError) -> (
        repeat each Value
    ) {
        var index = -1
        func next<Next: SQLConvertible>(_ type: Next.Type) throws(SQLError) -> Next {
            index += 1
            return try self[index, as: type]
        }
        return (repeat try next(each type))
    }
}

extension SQLRow: CustomStringConvertible {
    public var description: String {
        "(" + zip(columns.names, values).map { "\($0): \($1)" }.joined(separator: ", ") + ")"
    }
}

/// The names of columns, which all rows of an answer share.
final class SQLColumns: Hashable, Sendable {
    let names: [String]

    init(_ names: [String]) { self.names = names }

    /// The first column of that name. Answers have few columns: looking is faster than a table.
    func index(of name: String) -> Int? { names.firstIndex(of: name) }

    static func == (left: SQLColumns, right: SQLColumns) -> Bool { left === right || left.names == right.names }

    func hash(into hasher: inout Hasher) { hasher.combine(names) }
}
