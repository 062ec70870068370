#if PostgreSQL
// PostgreSQL servers of the tests' own: in a folder that is removed, on a free port of the loopback and a Unix socket,
// ended when the test process ends, however it does.

import Glibc
import Rondo
import RondoDatabase
import Testing

final class PostgresCluster: Sendable {
    struct Failed: Error { var words: String }

    let folder: String
    let port: Int
    private static let binaries = (try? shell("ls -d /usr/lib/postgresql/*/bin | sort -V | tail -1"))?
        .split(separator: "\n").first.map(String.init)

    static var isInstalled: Bool { binaries != nil }

    /// The one that most tests share.
    static let shared = Result { try PostgresCluster() }

    /// Makes a cluster and starts its server, blocking. Not on a loop's thread.
    init() throws {
        var template = Array("/tmp/rondo-postgres-XXXXXX".utf8CString)
        guard unsafe mkdtemp(&template) != nil, let binaries = Self.binaries else { throw Failed(words: "no folder") }
        folder = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        port = try EventLoop.run {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let port = listener.localAddress.port
            await listener.close()
            return port
        }
        // Our end of this pipe closes when we end; that ends the server.
        let stop = Self.asOwner("\(binaries)/pg_ctl -D \(folder)/data -m immediate stop")
        unsafe popen("cat > /dev/null; { \(stop); rm -rf \(folder); } > /dev/null 2>&1", "we")
        let settings = """
            fsync = off
            listen_addresses = '127.0.0.1,::1'
            unix_socket_directories = '\(folder)'
            port = \(port)
            max_connections = 60
            ssl = on
            log_min_messages = panic
            """
        let access = """
            local all all trust
            host all shop all scram-sha-256
            host all all all trust
            """
        let certificate = """
            openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost \
            -addext subjectAltName=DNS:localhost -keyout
            """.split(separator: "\n").joined()
        _ = try shell(
            """
            set -e
            chmod 755 \(folder)
            mkdir \(folder)/data
            [ $(id -u) != 0 ] || chown -R postgres \(folder)
            \(Self.asOwner("\(binaries)/initdb -D \(folder)/data -U postgres --no-sync --encoding=UTF8 --locale=C"))
            \(Self.asOwner("\(certificate) \(folder)/data/server.key -out \(folder)/data/server.crt"))
            \(Self.asOwner("\(certificate) \(folder)/data/other.key -out \(folder)/data/other.crt"))
            cp \(folder)/data/server.crt \(folder)/data/other.crt \(folder)
            chmod 644 \(folder)/*.crt
            cat >> \(folder)/data/postgresql.conf << 'END'
            \(settings)
            END
            cat > \(folder)/data/pg_hba.conf << 'END'
            \(access)
            END
            """)
        try start()
        _ = try psql("CREATE ROLE shop LOGIN PASSWORD 'secret'")
    }

    /// initdb and the server refuse to run as root.
    private static func asOwner(_ command: String) -> String {
        getuid() == 0 ? "setpriv --reuid postgres --regid postgres --clear-groups -- \(command)" : command
    }

    /// Starts the server, and waits until it takes connections.
    func start() throws {
        let command = "\(Self.binaries!)/pg_ctl -D \(folder)/data -l \(folder)/log -w -t 60 start"
        _ = try shell("cd /; \(Self.asOwner(command)) < /dev/null")
    }

    /// Ends the server as a power cut would: nothing is written down, no client is told.
    func crash() throws {
        let processes = try shell(
            "head -1 \(folder)/data/postmaster.pid; pgrep -P $(head -1 \(folder)/data/postmaster.pid)")
        let list = processes.split(separator: "\n").joined(separator: " ")
        // Its shared memory can be had again only when all of them are gone.
        _ = try shell("kill -KILL \(list); while kill -0 \(list) 2> /dev/null; do :; done; true")
    }

    /// What psql prints, one row in a line, columns separated by `|`.
    func psql(_ statement: String) throws -> String {
        try shell("psql -h \(folder) -p \(port) -U postgres -X -q -A -t << 'END'\n\(statement);\nEND")
    }

    // MARK: Ways in

    /// By the Unix socket.
    var local: PostgresConfiguration { PostgresConfiguration("host=\(folder) port=\(port) user=postgres") }

    /// By TCP; without TLS, unless the parameters say otherwise.
    func remote(_ parameters: String = "sslmode=disable", host: String = "127.0.0.1") -> PostgresConfiguration {
        PostgresConfiguration("postgres://postgres@\(host):\(port)/postgres?\(parameters)")
    }
}
#endif
