// The index of the demo: a SQLite database of path, size and SHA-256. SQLite blocks, so every call goes through the
// offload pool; nothing here runs on the loop's thread for longer than it takes to hand the work over.

/// The one place where bytes meet the database library's Data.
private import Foundation
import GRDB
import Rondo

/// What the index knows of a file.
struct IndexedFile: Sendable, Equatable {
    /// Relative to the folder.
    var path: String
    var size: Int
    var sha256: [UInt8]
}

/// The database of one folder's files.
final class OrderIndex: Sendable {
    /// "Rond", so that no database of anybody else is taken for an index.
    private static let applicationID = 0x526F_6E64

    private let queue: DatabaseQueue
    let path: String

    private init(_ queue: DatabaseQueue, path: String) {
        self.queue = queue
        self.path = path
    }

    /// Opens the index of `folder`, or makes an empty one.
    static func open(_ path: String, folder: String) async throws -> OrderIndex {
        try await explaining("open", path) {
            let queue = try DatabaseQueue(path: path)
            try queue.write { try prepare($0, path: path, folder: folder) }
            return OrderIndex(queue, path: path)
        }
    }

    private static func prepare(_ database: Database, path: String, folder: String) throws {
        let isEmpty = try Int.fetchOne(database, sql: "SELECT count(*) FROM sqlite_schema") == 0
        let owner = try Int.fetchOne(database, sql: "PRAGMA application_id") ?? 0
        if !isEmpty {
            guard owner == applicationID else {
                throw CommandFailure(
                    "open index \(path): it is a database of another program (give another --database)")
            }
            let known = try String.fetchOne(database, sql: "SELECT path FROM folder") ?? ""
            guard known == folder else {
                throw CommandFailure(
                    "open index \(path): it is of the folder \(known), not of \(folder) "
                        + "(give another --database, or delete this one)")
            }
            return
        }
        try database.execute(
            sql: """
                PRAGMA application_id = \(applicationID);
                CREATE TABLE folder (path TEXT NOT NULL);
                CREATE TABLE file (path TEXT PRIMARY KEY, size INTEGER NOT NULL, sha256 BLOB NOT NULL) WITHOUT ROWID;
                """)
        try database.execute(sql: "INSERT INTO folder VALUES (?)", arguments: [folder])
    }

    /// Every file, sorted by path.
    func files() async throws -> [IndexedFile] {
        try await Self.explaining("read", path) { [queue] in
            try queue.read { database in
                try Row.fetchAll(database, sql: "SELECT path, size, sha256 FROM file ORDER BY path").map(Self.file)
            }
        }
    }

    /// The file at `path`; nil if the index has none.
    func file(at path: String) async throws -> IndexedFile? {
        try await Self.explaining("read", self.path) { [queue] in
            try queue.read { database in
                let statement = try database.cachedStatement(
                    sql: "SELECT path, size, sha256 FROM file WHERE path = ?")
                return try Row.fetchOne(statement, arguments: [path]).map(Self.file)
            }
        }
    }

    /// Adds files, all or none.
    func add(_ files: [IndexedFile]) async throws {
        try await Self.explaining("write", path) { [queue] in
            try queue.write { database in
                let statement = try database.makeStatement(sql: "INSERT INTO file VALUES (?, ?, ?)")
                for file in files {
                    try statement.execute(arguments: [file.path, file.size, Self.blob(file.sha256)])
                }
            }
        }
    }

    private static func file(_ row: Row) -> IndexedFile {
        IndexedFile(path: row[0], size: row[1], sha256: bytes(row[2]))
    }

    /// Runs a call of the database on the offload pool; its errors name the index and say what to do.
    private static func explaining<Value: Sendable>(
        _ verb: String, _ path: String, _ call: @escaping @Sendable () throws -> Value
    ) async throws -> Value {
        do {
            return try await offload { try call() }
        } catch let error as DatabaseError {
            let words = error.message ?? "\(error.resultCode)"
            throw CommandFailure("\(verb) index \(path): \(words)\(hint(for: error.resultCode))")
        }
    }

    private static func hint(for code: ResultCode) -> String {
        switch code {
        case .SQLITE_CANTOPEN: " (is its folder there, and may you write to it?)"
        case .SQLITE_READONLY, .SQLITE_PERM: " (may you write to it?)"
        case .SQLITE_FULL: " (free some space, or put it elsewhere: --database, or TMPDIR)"
        case .SQLITE_BUSY: " (another program is writing to it)"
        case .SQLITE_NOTADB, .SQLITE_CORRUPT: " (it is no index: give another --database, or delete it)"
        default: ""
        }
    }
}

extension OrderIndex {
    private static func blob(_ bytes: [UInt8]) -> Data { Data(bytes) }
    private static func bytes(_ data: Data) -> [UInt8] { Array(data) }
}
