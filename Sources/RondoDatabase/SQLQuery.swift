/// A statement and the values that are bound to it.
///
/// It is written as a string, and what is interpolated is bound, never pasted into the text: nobody's input can become
/// SQL.
///
/// ```
/// let query: SQLQuery = "SELECT sha256 FROM file WHERE path = \(path) AND size > \(limit)"
/// query.text      // SELECT sha256 FROM file WHERE path = $1 AND size > $2
/// query.values    // ['a.txt', 100]
/// ```
///
/// What is no value has a label: `\(identifier: column)` is a quoted name of a table or a column, `\(list: ids)` binds
/// each of several values (`id IN (\(list: ids))`), and `\(fragment)` inserts another `SQLQuery`, its values included.
///
/// The text is the key under which statements stay prepared, so build it from the same parts each time.
public struct SQLQuery: Hashable, Sendable {
    /// The statement, with `$1`, `$2`… for the values.
    public private(set) var text: String
    /// What is bound, in the order of the text.
    public private(set) var values: [SQLValue]
    /// Where in the text's UTF-8 each value's `$` stands.
    private var places: [Int] = []

    /// A statement from elsewhere, a file of a schema for example. It is run as it is: never put input into it.
    public init(unsafeText text: String) {
        self.text = text
        values = []
    }

    private init(capacity: Int, valueCount: Int) {
        text = ""
        text.reserveCapacity(capacity + 3 * valueCount)
        values = []
        values.reserveCapacity(valueCount)
        places.reserveCapacity(valueCount)
    }

    private mutating func bind(_ value: SQLValue) {
        places.append(text.utf8.count)
        values.append(value)
        text += "$\(values.count)"
    }

    private mutating func append(_ other: SQLQuery) {
        var rest = Substring(other.text)
        var done = 0
        for (number, place) in other.places.enumerated() {
            text += rest.utf8.prefix(place - done).string
            bind(other.values[number])
            let mark = "$\(number + 1)".utf8.count
            rest = Substring(rest.utf8.dropFirst(place - done + mark))
            done = place + mark
        }
        text += rest
    }
}

extension Substring.UTF8View {
    /// The text of these bytes, which are whole characters.
    fileprivate var string: String { String(Substring(self)) }
}

extension SQLQuery: ExpressibleByStringInterpolation {
    public init(stringLiteral value: String) { self.init(unsafeText: value) }

    public init(stringInterpolation: StringInterpolation) { self = stringInterpolation.query }

    /// Builds a query from the pieces of a string literal.
    public struct StringInterpolation: StringInterpolationProtocol {
        fileprivate var query: SQLQuery

        public init(literalCapacity: Int, interpolationCount: Int) {
            query = SQLQuery(capacity: literalCapacity, valueCount: interpolationCount)
        }

        /// The statement's own text.
        public mutating func appendLiteral(_ literal: String) { query.text += literal }

        /// Binds a value.
        public mutating func appendInterpolation(_ value: some SQLConvertible) { query.bind(value.sqlValue) }

        /// Binds a value, or `NULL` if there is none. (An operator that finds it: `IS NOT DISTINCT FROM`.)
        public mutating func appendInterpolation(_ value: (some SQLConvertible)?) {
            query.bind(value?.sqlValue ?? .null)
        }

        /// Binds each of these values, with commas between; `NULL` if there are none, so that `IN (…)` finds nothing.
        public mutating func appendInterpolation(list values: some Collection<some SQLConvertible>) {
            if values.isEmpty { query.text += "NULL" }
            for (number, value) in values.enumerated() {
                if number > 0 { query.text += ", " }
                query.bind(value.sqlValue)
            }
        }

        /// The name of a table, a column…, quoted. Upper and lower case count.
        public mutating func appendInterpolation(identifier name: String) {
            query.text +=
                "\"\(name.split(separator: "\"", omittingEmptySubsequences: false).joined(separator: "\"\""))\""
        }

        /// Another query, its values included.
        public mutating func appendInterpolation(_ fragment: SQLQuery) { query.append(fragment) }
    }
}

extension SQLQuery: CustomStringConvertible {
    public var description: String { text }
}
