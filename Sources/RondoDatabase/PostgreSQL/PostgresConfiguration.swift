#if PostgreSQL
import Rondo

/// Where a PostgreSQL server is, and how to talk to it.
///
/// ```
/// var configuration = PostgresConfiguration("postgres://shop@db.example/orders?sslmode=verify-full")
/// configuration.connectTimeout = .seconds(3)
/// ```
public struct PostgresConfiguration: Sendable {
    /// What `psql` takes: a URL (`postgres://user@host:5432/database?sslmode=verify-full`), or `host=… dbname=…`.
    ///
    /// All of libpq's parameters work: several hosts, `target_session_attrs`, client certificates, `passfile`,
    /// `options`. What is missing comes from the environment (`PGHOST`, `PGPASSWORD`…), as with every other client.
    public var connectionString: String

    /// How long connecting may take, all hosts together.
    public var connectTimeout: Duration = .seconds(10)

    /// How many statements stay prepared on each connection; the one that was not used for longest makes room.
    ///
    /// 0 if between here and the server something gives a connection to others after each transaction (pgbouncer).
    public var preparedStatementsMax = 256

    /// How long the server may take to end a statement whose task was cancelled. The connection is dropped after that.
    public var cancelPatience: Duration = .seconds(5)

    /// Takes the server's notices and warnings, on the loop's thread. By default nobody hears them.
    public var onNotice: (@Sendable (String) -> Void)?

    /// A configuration with the defaults.
    public init(_ connectionString: String) { self.connectionString = connectionString }
}

/// libpq's parameters, and the addresses of the hosts among them: libpq would ask the resolver by itself, and block.
struct PostgresParametersOfConnection {
    private(set) var values: [String: String]

    /// - Throws: `SQLError` if the connection string can't be read, in libpq's words, or a name has no address.
    init(_ configuration: PostgresConfiguration) async throws(SQLError) {
        values = try PostgresHandle.parse(configuration.connectionString)
        values["client_encoding"] = "UTF8"
        values["fallback_application_name"] = values["fallback_application_name"] ?? "rondo"
        // libpq does not tell what it has decrypted and not handed out, as OpenSSL does: a wait could miss it.
        values["gssencmode"] = values["gssencmode"] ?? "disable"
        if values["hostaddr"] == nil, values["service"] == nil { try await resolveHosts() }
    }

    /// For messages: without the password.
    var subject: String {
        let host = values["host"] ?? "the local server"
        let port = values["port"].map { ":\($0)" } ?? ""
        return "PostgreSQL at \(host)\(port)" + (values["dbname"].map { ", database \($0)" } ?? "")
    }

    private mutating func resolveHosts() async throws(SQLError) {
        let defaults = PostgresHandle.defaults
        guard let list = values["host"] ?? defaults["host"], !list.isEmpty else { return }
        let hosts = list.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        let ports = (values["port"] ?? defaults["port"] ?? "5432")
            .split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        guard ports.count == 1 || ports.count == hosts.count else { return }  // libpq says what is wrong
        var found: [(host: String, address: String, port: String)] = []
        var failure: IOError?
        for (index, host) in hosts.enumerated() {
            let port = ports[ports.count == 1 ? 0 : index]
            guard !host.isEmpty, !host.hasPrefix("/"), !host.hasPrefix("@") else {
                found.append((host, "", port))
                continue
            }
            do throws(IOError) {
                for address in try await resolve(host, port: 0) { found.append((host, address.host, port)) }
            } catch {
                failure = error
            }
        }
        if found.isEmpty, let failure {
            throw SQLError("connect to", subject, failure.isCancellation ? .cancelled : .disconnected("\(failure)"))
        }
        values["host"] = found.map(\.host).joined(separator: ",")
        values["hostaddr"] = found.map(\.address).joined(separator: ",")
        values["port"] = found.map(\.port).joined(separator: ",")
    }
}
#endif
