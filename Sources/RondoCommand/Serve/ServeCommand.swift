// `rondo serve`: a folder for whoever asks by HTTP.

import ArgumentParser
import Rondo
import RondoHTTP
import SystemPackage

/// `rondo serve DIR`.
struct ServeCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "serve",
        abstract: "Serve the files of a folder by HTTP, until it is interrupted.",
        discussion: """
            HTTP/1.1 and HTTP/2; with --cert and --key both by TLS only. Ranges, conditional requests, lists of \
            folders, and gzip for text where the client asks for it. Names that begin with a dot are hidden, and \
            nothing outside of the folder is served: symbolic links are followed if they are relative and stay \
            below it. One line for each request goes to standard output.
            """)

    @Argument(help: "The folder.")
    var folder = "."

    @Option(help: "The port; 0 for one that is free.")
    var port = 8080

    @Option(help: "The address to listen on; 0.0.0.0 or :: for everybody.")
    var host = "127.0.0.1"

    @Option(help: "The server's certificate and those that vouch for it, a PEM file.")
    var cert: String?

    @Option(help: "The key of the certificate, a PEM file without a passphrase.")
    var key: String?

    @Flag(help: "Answer 404 for folders without an index.html.")
    var noLists = false

    @Flag(help: "Send all files as they are, also to clients that ask for gzip.")
    var noGzip = false

    @Flag(help: "Print no line for each request.")
    var quiet = false

    func validate() throws {
        if (cert == nil) != (key == nil) { throw ValidationError("--cert and --key go together") }
        if !(0...65_535).contains(port) { throw ValidationError("a port is a number from 0 to 65535") }
        if SocketAddress(host, port: port) == nil { throw ValidationError("\(host) is no numeric address") }
    }

    func run() throws {
        Command.runOnLoop {
            var files = try await StaticFiles(root: FilePath(folder))
            files.listsFolders = !noLists
            if noGzip { files.compressionsAtOnce = 0 }
            let server = try await HTTPServer.listen(
                on: SocketAddress(host, port: port)!, configuration: configuration())
            let scheme = cert == nil ? "http" : "https"
            Terminal.output.write("serving \(files.root) at \(scheme)://\(server.localAddress)/\n")
            let handler = files
            try await withGracefulShutdown(deadline: .seconds(5)) { shutdown in
                try await server.serve(until: shutdown) { request, response in
                    try await handler.answer(request, with: response)
                }
            }
            return 0
        }
    }

    private func configuration() throws -> HTTPServerConfiguration {
        var configuration = HTTPServerConfiguration()
        configuration.serverName = "rondo"
        configuration.limits.bodyBytes = 0
        configuration.http2WithoutTLS = true
        if let cert, let key {
            configuration.tls = try HTTPServerTLS(certificateChainFile: cert, privateKeyFile: key)
        }
        if !quiet {
            configuration.accessLog = { access in
                Terminal.output.write(
                    "\(access.peer) \(access.method) \(access.target) \(access.status.code) \(access.bodyBytes)\n")
            }
        }
        return configuration
    }
}
