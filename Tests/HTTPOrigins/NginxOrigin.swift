import Glibc
import Rondo
import Synchronization
public import SystemPackage

/// nginx with a configuration of its own: the files of a folder, over HTTP and, if asked, HTTPS with HTTP/2.
public final class NginxOrigin: Sendable {
    /// Where it listens.
    public let port: Int
    /// Where it listens for TLS; 0 for nowhere.
    public let securePort: Int
    /// Its certificate, which clients must trust.
    public var certificate: FilePath { folder.appending("certificate.pem") }

    private let folder: FilePath
    private let process = Mutex<ServerProcess?>(nil)

    /// Starts it.
    ///
    /// - Parameters:
    ///   - folder: a temporary folder; what it serves is in its folder `files`.
    ///   - locations: more lines of nginx's configuration, within `server`.
    public init(in folder: FilePath, isSecure: Bool = false, locations: String = "") async throws {
        self.folder = folder
        port = try await freePort()
        securePort = isSecure ? try await freePort() : 0
        try await Files.makeDirectory(folder.appending("files"), withParents: true)
        if isSecure { try await makeCertificate() }
        let secure = """
            listen 127.0.0.1:\(securePort) ssl http2;
            ssl_certificate \(certificate);
            ssl_certificate_key \(folder)/key.pem;
            """
        let text = """
            daemon off;
            \(geteuid() == 0 ? "user root;" : "")
            worker_processes 1;
            pid \(folder)/nginx.pid;
            error_log stderr notice;
            events { worker_connections 1024; }
            http {
                access_log off;
                default_type application/octet-stream;
                client_body_temp_path \(folder)/client;
                proxy_temp_path \(folder)/proxy;
                fastcgi_temp_path \(folder)/fastcgi;
                uwsgi_temp_path \(folder)/uwsgi;
                scgi_temp_path \(folder)/scgi;
                gzip_types *;
                server {
                    listen 127.0.0.1:\(port);
                    \(isSecure ? secure : "")
                    root \(folder)/files;
                    \(locations)
                }
            }
            """
        try await File.write(Array(text.utf8), to: folder.appending("nginx.conf"))
        try await start()
    }

    /// A file's URL.
    public func url(_ path: String) -> String { "http://127.0.0.1:\(port)/\(path)" }

    /// A file's URL with TLS.
    public func secureURL(_ path: String) -> String { "https://localhost:\(securePort)/\(path)" }

    /// Starts it again at the same port.
    public func start() async throws {
        // nginx tells of a configuration without error_log before it has read its own.
        let command = ChildProcess.Command(
            Installed.nginx!, ["-p", folder.string, "-c", "\(folder)/nginx.conf", "-e", "stderr"])
        let started = try await ServerProcess.start(command) { $0.contains("start worker process ") }.0
        process.withLock { $0 = started }
    }

    /// Ends it at once (SIGTERM), connections and all.
    public func stop() async {
        let running = process.withLock { process in
            defer { process = nil }
            return process
        }
        await running?.stop()
    }

    private func makeCertificate() async throws {
        let made = try await ChildProcess.run(
            ChildProcess.Command(
                Installed.openssl!,
                [
                    "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
                    "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout",
                    "\(folder)/key.pem", "-out", "\(folder)/certificate.pem",
                ]))
        if !made.status.isSuccess {
            throw ServerProcess.StartFailure(words: String(decoding: made.errors, as: UTF8.self))
        }
    }
}
