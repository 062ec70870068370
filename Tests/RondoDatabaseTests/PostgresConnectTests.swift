#if PostgreSQL
import Rondo
import Testing

@testable import RondoDatabase

extension DatabaseSuites.Postgres {
    @Suite struct ConnectTests {
        private func connect(_ configuration: PostgresConfiguration) async throws {
            let connection = try await PostgresConnection.connect(to: configuration)
            #expect(try await connection.first("SELECT 1")?.values == [.integer(1)])
            await connection.close()
        }

        @Test(arguments: LoopKind.allCases) func waysIn(_ kind: LoopKind) throws {
            let cluster = try PostgresCluster.shared.get()
            try kind.run {
                try await connect(cluster.local)
                try await connect(cluster.remote())
                try await connect(cluster.remote(host: "[::1]"))
                try await connect(cluster.remote(host: "localhost"))
                // Of several hosts the first that lets us in is taken; where one was refused, another socket follows.
                let port = cluster.port
                try await connect(
                    PostgresConfiguration("host=localhost,127.0.0.1,localhost port=1,2,\(port) user=postgres"))
                try await connect(
                    PostgresConfiguration("host=\(cluster.folder),localhost port=1,\(port) user=postgres"))
                try await connect(
                    PostgresConfiguration(
                        "postgres://shop:secret@127.0.0.1:\(port)/postgres?application_name=till"))
            }
        }

        @Test(arguments: LoopKind.allCases) func encryption(_ kind: LoopKind) throws {
            let cluster = try PostgresCluster.shared.get()
            try kind.run {
                let certificate = "sslmode=verify-full&sslrootcert=\(cluster.folder)"
                let connection = try await PostgresConnection.connect(
                    to: cluster.remote("\(certificate)/server.crt", host: "localhost"))
                #expect(await connection.encryption == "TLSv1.3")
                #expect(
                    try await connection.first("SELECT ssl, version FROM pg_stat_ssl WHERE pid = pg_backend_pid()")?
                        .values == [.boolean(true), .text("TLSv1.3")])
                await connection.close()
                var error = try await failure {
                    try await connect(cluster.remote("\(certificate)/other.crt", host: "localhost"))
                }
                #expect(error.isDisconnection && "\(error)".contains("certificate verify failed"), "\(error)")
                error = try await failure { try await connect(cluster.remote("\(certificate)/server.crt")) }
                #expect(error.isDisconnection && "\(error)".contains("does not match host name"), "\(error)")
            }
        }

        @Test(arguments: LoopKind.allCases) func whatGoesWrongIsSaid(_ kind: LoopKind) throws {
            let cluster = try PostgresCluster.shared.get()
            try kind.run {
                let port = cluster.port
                var error = try await failure { try await connect(PostgresConfiguration("host=127.0.0.1 port=1")) }
                #expect(error.isDisconnection && "\(error)".contains("Connection refused"), "\(error)")
                #expect("\(error)".hasPrefix("connect to PostgreSQL at 127.0.0.1:1: "), "\(error)")
                error = try await failure {
                    try await connect(PostgresConfiguration("postgres://shop:wrong@127.0.0.1:\(port)/postgres"))
                }
                #expect(error.refusal?.code == "28P01" && error.refusal?.kind == .permission, "\(error)")
                #expect(!"\(error)".contains("wrong"))
                error = try await failure {
                    try await connect(PostgresConfiguration("postgres://postgres@127.0.0.1:\(port)/nowhere"))
                }
                #expect(error.refusal?.message == #"database "nowhere" does not exist"#, "\(error)")
                error = try await failure { try await connect(PostgresConfiguration("postgres://host/a?sslmod=off")) }
                #expect("\(error)".hasPrefix("read the connection string: "), "\(error)")
                error = try await failure { try await connect(PostgresConfiguration("host=does-not-exist.invalid")) }
                #expect(error.isDisconnection && "\(error)".contains("does-not-exist.invalid"), "\(error)")
            }
        }

        /// Something listens, and never says a word.
        @Test(arguments: LoopKind.allCases) func aSilentServerIsNotWaitedForForEver(_ kind: LoopKind) throws {
            try kind.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                var configuration = PostgresConfiguration("host=127.0.0.1 port=\(listener.localAddress.port)")
                configuration.connectTimeout = .milliseconds(20)
                let error = try await failure { try await connect(configuration) }
                #expect(error.isDisconnection && "\(error)".hasSuffix("no answer within 0.02 seconds"), "\(error)")
                let patient = PostgresConfiguration("host=127.0.0.1 port=\(listener.localAddress.port)")
                let task = start { try await connect(patient) }
                // The one that was given up, and this one.
                let first = try await listener.accept()
                let second = try await listener.accept()
                task.cancel()
                #expect(try await failure { try await task.value }.isCancellation)
                // Nobody holds their end any more.
                for stream in [first, second] {
                    _ = try await stream.readToEnd(limit: 4096)
                    await stream.close()
                }
                await listener.close()
            }
        }

        @Test func messagesOfConnectingAreUnderstood() {
            typealias Connection = PostgresConnection
            let refused = Connection.cause(
                ofConnectFailure: """
                    connection to server at "127.0.0.1", port 5432 failed: FATAL:  28P01: no password: x
                    LOCATION:  auth_failed, auth.c:338
                    """)
            #expect(
                refused
                    == .refused(SQLRefusal(.permission, code: "28P01", message: "no password: x")))
            let starting =
                "connection to server on socket \"/a: b/.s\" failed: FATAL:  57P03: the database is starting up"
            #expect(
                Connection.cause(ofConnectFailure: starting)
                    == .disconnected("the database is starting up (57P03)"))
            #expect(Connection.cause(ofConnectFailure: "one\ntwo") == .disconnected("one; two"))
            #expect(Connection.cause(ofConnectFailure: "") == .disconnected("no reason was given"))
        }
    }

    @Suite struct CopyTests {
        @Test(arguments: LoopKind.allCases) func thereAndBack(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.connected(kind) { connection, cluster in
                try await makeFiles(in: connection, blob: "BYTEA")
                let odd = "tab\t, line\n, return\r, backslash\\ and \\N, ö"
                let count = try await connection.copyIn("COPY file FROM STDIN") { copy in
                    try await copy.write(row: odd, 1, [0, 92, 255] as [UInt8], String?.none)
                    for number in 2...20_000 { try await copy.write(row: "file \(number)", number, [UInt8](), "") }
                    try await copy.write("last\t20001\t\\N")
                    try await copy.write(Array("\t\\N\n".utf8))
                }
                #expect(count == 20_001)
                let row = try await connection.first("SELECT * FROM file WHERE path = \(odd)")
                #expect(row?.values == [.text(odd), .integer(1), .blob([0, 92, 255]), .null])
                #expect(
                    try await connection.first("SELECT sum(size)::int8 FROM file")?.values == [.integer(200_030_001)])
                // Out of one connection, into another, in pieces.
                let other = try await PostgresConnection.connect(to: cluster.remote())
                try await other.execute("CREATE TEMP TABLE twin (LIKE file)")
                let copied = try await other.copyIn("COPY twin FROM STDIN (FORMAT binary)") { copy in
                    for try await piece in connection.copyOut("COPY file TO STDOUT (FORMAT binary)") {
                        try await copy.write(piece)
                    }
                }
                #expect(copied == 20_001)
                #expect(
                    try await other.query("SELECT * FROM twin EXCEPT SELECT * FROM file").isEmpty)
                await other.close()
            }
        }

        @Test(arguments: LoopKind.allCases) func toAndFromStreams(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.connected(kind) { connection, _ in
                try await connection.execute("CREATE TEMP TABLE number (n INT)")
                let (left, right) = try UnixStream.pair()
                let writing = start {
                    let count = try await connection.copyOut("COPY (SELECT generate_series(1, 50000)) TO STDOUT")
                        .write(to: left)
                    try await left.finishWriting()
                    return count
                }
                let text = try await right.readToEnd(limit: 1_000_000)
                #expect(try await writing.value == text.count)
                let back = start {
                    try await left.write(text)
                    try await left.finishWriting()
                }
                // What was written before goes the other way too.
                let loop = try UnixStream.pair()
                let sending = start {
                    try await loop.0.write(text)
                    try await loop.0.finishWriting()
                }
                #expect(
                    try await connection.copyIn("COPY number FROM STDIN") { try await $0.write(from: loop.1) } == 50_000
                )
                try await sending.value
                back.cancel()
                _ = try? await back.value
                for stream in [left, right, loop.0, loop.1] { await stream.close() }
            }
        }

        @Test(arguments: LoopKind.allCases) func whatFailsCopiesNothing(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.connected(kind) { connection, _ in
                struct Stopped: Error {}
                try await makeFiles(in: connection, blob: "BYTEA")
                await #expect(throws: Stopped.self) {
                    try await connection.copyIn("COPY file FROM STDIN") { copy in
                        for number in 0..<10_000 { try await copy.write(row: "\(number)", number, [UInt8](), "") }
                        throw Stopped()
                    }
                }
                var error = try await failure {
                    try await connection.copyIn("COPY file FROM STDIN") { copy in
                        try await copy.write("a\tno number\t\\N\t\\N\n")
                        for number in 0..<10_000 { try await copy.write(row: "\(number)", number, [UInt8](), "") }
                    }
                }
                #expect(error.refusal?.code == "22P02", "\(error)")
                let task = start {
                    try await connection.copyIn("COPY file FROM STDIN") { copy in
                        for number in 0... {
                            try await copy.write(row: "\(number)", number, [UInt8](), "")
                            if number == 20_000 { unsafe withUnsafeCurrentTask { unsafe $0!.cancel() } }
                        }
                    }
                }
                error = try await failure { _ = try await task.value }
                #expect(error.isCancellation, "\(error)")
                for try await _ in connection.copyOut("COPY (SELECT generate_series(1, 100000000)) TO STDOUT") { break }
                error = try await failure {
                    for try await _ in connection.copyOut(
                        "COPY (SELECT 1 / (5 - n) FROM generate_series(1, 9) n) TO STDOUT")
                    {}
                }
                #expect(error.refusal?.code == "22012", "\(error)")
                for text in ["COPY file TO STDOUT", "COPY file FROM STDIN", "SELECT 1"] {
                    let query = SQLQuery(unsafeText: text)
                    if !text.hasSuffix("STDIN") {
                        error = try await failure { try await connection.copyIn(query) { _ in } }
                        #expect("\(error)".hasSuffix("it is no COPY in that direction"), "\(error)")
                    }
                    if !text.hasSuffix("STDOUT") {
                        error = try await failure { for try await _ in connection.copyOut(query) {} }
                        #expect("\(error)".hasSuffix("it is no COPY in that direction"), "\(error)")
                    }
                    if text.hasPrefix("COPY") {
                        error = try await failure { try await connection.execute(query) }
                        #expect("\(error)".contains("use copyIn or copyOut"), "\(error)")
                    }
                }
                #expect(try await connection.query("SELECT * FROM file").isEmpty)
            }
        }
    }

    @Suite struct NotificationTests {
        @Test(arguments: LoopKind.allCases) func whatPsqlSaysIsHeard(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.connected(kind) { connection, cluster in
                let news = try await connection.listen(to: "orders", "Other \"news\"")
                _ = try await offload { try cluster.psql("NOTIFY orders, 'first'; NOTIFY \"Other \"\"news\"\"\"") }
                let hears = start {
                    var heard: [String] = []
                    for try await notification in news {
                        heard.append("\(notification.channel): \(notification.payload)")
                        if heard.count == 3 { break }
                    }
                    return heard
                }
                for _ in 0..<10 { await EventLoop.yield() }
                _ = try await offload { try cluster.psql("NOTIFY orders, 'ö'") }
                #expect(try await hears.value == ["orders: first", "Other \"news\": ", "orders: ö"])
                // Its iterator is gone, so the connection is for others again, and `news` has ended.
                #expect(try await connection.query("SELECT pg_listening_channels()").isEmpty)
                for try await _ in news { Issue.record("nobody listens") }
            }
        }

        @Test(arguments: LoopKind.allCases) func theEndOfListening(_ kind: LoopKind) throws {
            try DatabaseSuites.Postgres.connected(kind) { connection, cluster in
                let task = start {
                    for try await _ in try await connection.listen(to: "orders") { Issue.record("nobody says a word") }
                }
                for _ in 0..<10 { await EventLoop.yield() }
                task.cancel()
                let stopped = try await failure { try await task.value }
                #expect(stopped.isCancellation)
                _ = try await offload { try cluster.psql("NOTIFY orders") }
                #expect(try await connection.query("SELECT pg_listening_channels()").isEmpty)
                // One that nobody iterates over is no burden either.
                _ = try await connection.listen(to: "orders")
                #expect(try await connection.query("SELECT pg_listening_channels()").isEmpty)
                let process = try #require(await connection.processID)
                let listening = start {
                    for try await _ in try await connection.listen(to: "orders") {}
                }
                for _ in 0..<10 { await EventLoop.yield() }
                _ = try await offload { try cluster.psql("SELECT pg_terminate_backend(\(process))") }
                let error = try await failure { try await listening.value }
                #expect(error.isDisconnection, "\(error)")
                #expect(await connection.isClosed)
            }
        }

        /// What ends a statement or a listening may be the last thing that a loop does.
        @Test(arguments: LoopKind.allCases) func theLoopMayEndAtOnce(_ kind: LoopKind) throws {
            let cluster = try PostgresCluster.shared.get()
            for _ in 0..<10 {
                try kind.run {
                    let connection = try await PostgresConnection.connect(to: cluster.local)
                    for try await _ in connection.rows("SELECT generate_series(1, 100000)") { break }
                }
                try kind.run {
                    let connection = try await PostgresConnection.connect(to: cluster.local)
                    _ = try await connection.listen(to: "orders")
                }
            }
        }
    }
}
#endif
