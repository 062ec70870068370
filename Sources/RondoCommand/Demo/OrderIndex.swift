// The index of the demo: a database of path, size and SHA-256. In SQLite, which blocks, every call goes through the
// offload pool; PostgreSQL is asked on the loop itself. Nothing here is different for the two but how they are opened.

import Rondo
import RondoDatabase

/// What the index knows of a file.
struct IndexedFile: Sendable, Equatable {
    /// Relative to the folder.
    var path: String
    var size: Int
    var sha256: [UInt8]
}

/// What a database knows of one folder's files.
struct OrderIndex: Sendable {
    /// "Rond", so that no SQLite database of anybody else is taken for an index.
    private static let applicationID = 0x526F_6E64

    private let database: any SQLDatabase
    private let folder: String

    /// Opens the index in a SQLite file or in a PostgreSQL server (`postgres://…`), and makes it where there is none.
    static func open(_ place: String, folder: String) async throws -> OrderIndex {
        let database: any SQLDatabase = isServer(place) ? try openServer(place) : try await openFile(place)
        // Types that both databases understand: of SQLite's columns each takes any value.
        try await database.execute(
            """
            CREATE TABLE IF NOT EXISTS rondo_demo_file (
                folder TEXT NOT NULL, path TEXT NOT NULL, size BIGINT NOT NULL, sha256 BYTEA NOT NULL,
                PRIMARY KEY (folder, path))
            """)
        return OrderIndex(database: database, folder: folder)
    }

    /// Whether this names a server, and no file.
    static func isServer(_ place: String) -> Bool {
        place.hasPrefix("postgres://") || place.hasPrefix("postgresql://")
    }

    private static func openServer(_ url: String) throws -> any SQLDatabase {
        #if PostgreSQL
        return PostgresPool(PostgresConfiguration(url))
        #else
        throw CommandFailure(
            "\(url): this rondo was built without PostgreSQL: build it with `swift build --traits PostgreSQL` "
                + "(./dev demo does that by itself)")
        #endif
    }

    private static func openFile(_ path: String) async throws -> any SQLDatabase {
        var configuration = SQLiteDatabase.Configuration()
        // One file, which is all that its user sees.
        configuration.journal = .rollback
        let database = try await SQLiteDatabase.open(path, configuration)
        let tables: Int = try await database.first("SELECT count(*) FROM sqlite_schema")![0]
        let owner: Int = try await database.first("PRAGMA application_id")![0]
        if tables > 0, owner != applicationID {
            throw CommandFailure(
                "open index \(path): it is a database of another program (give another --database)")
        }
        try await database.execute(SQLQuery(unsafeText: "PRAGMA application_id = \(applicationID)"))
        return database
    }

    /// Every file, sorted by path.
    func files() async throws -> [IndexedFile] {
        try await database.query(
            "SELECT path, size, sha256 FROM rondo_demo_file WHERE folder = \(folder) ORDER BY path"
        ).map(Self.file)
    }

    /// The file at `path`; nil if the index has none.
    func file(at path: String) async throws -> IndexedFile? {
        try await database.first(
            "SELECT path, size, sha256 FROM rondo_demo_file WHERE folder = \(folder) AND path = \(path)"
        ).map(Self.file)
    }

    /// Adds files, all or none.
    func add(_ files: [IndexedFile]) async throws { try await add(files, to: database) }

    private func add(_ files: [IndexedFile], to database: some SQLDatabase) async throws {
        try await database.transaction { session in
            for file in files {
                try await session.execute(
                    "INSERT INTO rondo_demo_file VALUES (\(folder), \(file.path), \(file.size), \(file.sha256))")
            }
        }
    }

    private static func file(_ row: SQLRow) throws(SQLError) -> IndexedFile {
        IndexedFile(path: try row[0], size: try row[1], sha256: try row[2])
    }
}
