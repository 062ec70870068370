import Testing

@testable import RondoDatabase

@Suite struct SQLQueryTests {
    @Test func whatIsInterpolatedIsBound() {
        let path = "a'; DROP TABLE file; --"
        let size: Int? = nil
        let query: SQLQuery = "SELECT * FROM file WHERE path = \(path) AND size = \(size) OR \(true)"
        #expect(query.text == "SELECT * FROM file WHERE path = $1 AND size = $2 OR $3")
        #expect(query.values == [.text(path), .null, .boolean(true)])
    }

    @Test func namesAreQuoted() {
        let query: SQLQuery = #"SELECT \#(identifier: "sel\"ect") FROM \#(identifier: "Straße")"#
        #expect(query.text == #"SELECT "sel""ect" FROM "Straße""#)
        #expect(query.values.isEmpty)
    }

    @Test func listsBindEachOfThem() {
        let query: SQLQuery = "SELECT \(0) WHERE id IN (\(list: [7, 8, 9])) AND \(1) AND x IN (\(list: [String]()))"
        #expect(query.text == "SELECT $1 WHERE id IN ($2, $3, $4) AND $5 AND x IN (NULL)")
        #expect(query.values == [.integer(0), .integer(7), .integer(8), .integer(9), .integer(1)])
    }

    @Test func fragmentsAreNumberedAnew() {
        // What looks like a value in a text is none.
        let inner: SQLQuery = "price < \(10) AND note = '$1 ä' AND owner = \("me")"
        let middle: SQLQuery = "(\(inner)) OR (\(inner))"
        let query: SQLQuery = "SELECT \(true) WHERE \(middle) LIMIT \(5)"
        #expect(
            query.text == "SELECT $1 WHERE (price < $2 AND note = '$1 ä' AND owner = $3) "
                + "OR (price < $4 AND note = '$1 ä' AND owner = $5) LIMIT $6")
        #expect(
            query.values
                == [.boolean(true), .integer(10), .text("me"), .integer(10), .text("me"), .integer(5)])
        let many: SQLQuery = "\(list: Array(1...12))"
        let twice: SQLQuery = "\(many); \(many)!"
        #expect(twice.text.hasSuffix("$22, $23, $24!"))
    }

    @Test func rowsAreReadByNameAndNumberAndType() throws {
        let row = SQLRow(
            SQLColumns(["path", "size", "sha256", "note", "path"]),
            [.text("a"), .integer(300), .blob([1, 2]), .null, .text("b")])
        let path: String = try row["path"]
        #expect(path == "a")
        #expect(try row["size", as: Int16.self] == 300)
        #expect(try row[2] == [1, 2] as [UInt8])
        #expect(try row["note", as: String?.self] == nil)
        #expect(try row["size", as: Int?.self] == 300)
        #expect(try row[4, as: String.self] == "b")
        let (first, second) = try row.decode(String.self, Double.self)
        #expect(first == "a" && second == 300)
        #expect("\(row)" == "(path: 'a', size: 300, sha256: x'0102', note: NULL, path: 'b')")
        #expect(throws: SQLError("read the column", "size", .otherType(.integer(300), wanted: "UInt8"))) {
            try row["size", as: UInt8.self]
        }
        let error = #expect(throws: SQLError.self) { try row["note", as: String.self] }
        #expect(
            "\(error!)" == "read the column note: it has NULL, NULL, which is no String (read it as an optional)")
        #expect(throws: SQLError.self) { try row["owner", as: String.self] }
        #expect(throws: SQLError.self) { try row[5, as: String.self] }
    }

    private enum State: String, SQLConvertible { case open, paid }

    @Test func valuesConvertThereAndBack() {
        #expect(State(sqlValue: State.paid.sqlValue) == .paid)
        #expect(State(sqlValue: .text("lost")) == nil)
        #expect(UInt64(sqlValue: UInt64.max.sqlValue) == .max)
        #expect(Int64(sqlValue: Int64.min.sqlValue) == .min)
        #expect(Bool(sqlValue: .integer(1)) == true && Bool(sqlValue: .integer(2)) == nil)
        #expect(Double(sqlValue: .text("1.5")) == 1.5)
        #expect(Float(sqlValue: (0.1 as Float).sqlValue) == 0.1)
        #expect(Int(sqlValue: .real(1)) == nil && String(sqlValue: .integer(1)) == nil)
        #expect([UInt8](sqlValue: .text("a")) == nil)
        #expect(SQLValue(sqlValue: .null)!.isNull)
    }
}
