#if PostgreSQL
/// A statement that the server keeps ready on a connection.
final class PreparedStatement {
    /// Its name on the server, ending with a zero.
    let name: [CChar]
    /// Known with the first answer. The server refuses to run it if they were to change.
    var columns: PostgresColumns?
    fileprivate var lastUse = 0

    init(number: Int) { name = Array("rondo_\(number)".utf8CString) }

    /// What makes the server forget it.
    var deallocation: SQLQuery {
        SQLQuery(unsafeText: "DEALLOCATE " + String(decoding: name.dropLast().map { UInt8($0) }, as: UTF8.self))
    }
}

extension SQLQuery {
    /// - Throws: `SQLError`, if the text has a zero in it, at which libpq would cut it.
    func checkText() throws(SQLError) {
        if text.utf8.contains(0) { throw SQLError("run", text, .invalid("the statement has a NUL in it")) }
    }
}

/// What a connection has prepared, by the statements' texts.
struct PreparedStatements {
    private var statements: [String: PreparedStatement] = [:]
    private var uses = 0
    private var number = 0
    let capacity: Int

    init(capacity: Int) { self.capacity = capacity }

    mutating func find(_ text: String) -> PreparedStatement? {
        guard let statement = statements[text] else { return nil }
        uses += 1
        statement.lastUse = uses
        return statement
    }

    /// A statement with a name that was never used.
    mutating func make() -> PreparedStatement {
        number += 1
        return PreparedStatement(number: number)
    }

    /// The server has it now.
    mutating func add(_ statement: PreparedStatement, _ text: String) {
        uses += 1
        statement.lastUse = uses
        statements[text] = statement
    }

    /// Takes one out if there is no room for another: that which was not used for longest.
    mutating func makeRoom() -> PreparedStatement? {
        guard statements.count >= capacity, let oldest = statements.min(by: { $0.value.lastUse < $1.value.lastUse })
        else { return nil }
        statements[oldest.key] = nil
        return oldest.value
    }

    mutating func forget(_ text: String) { statements[text] = nil }

    mutating func forgetAll() { statements = [:] }
}
#endif
