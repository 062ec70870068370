// An ordinary Hummingbird application on Rondo's loop: the router, the middleware and the handlers know nothing of it.
//
//     swift run --package-path Integrations hummingbird-server --port 8080
//     swift run --package-path Integrations hummingbird-server --port 8443 --cert chain.pem --key key.pem
//     swift run --package-path Integrations hummingbird-server --port 8080 --protocol rondo
//
// You see where it listens. `curl 127.0.0.1:8080/where` says what serves you; `curl -T FILE 127.0.0.1:8080/echo` gets
// the file back, `/checksum` instead its length and sum. With a certificate it speaks HTTP/2, too. Ctrl-C ends it.
// By itself the pipeline is Hummingbird's, on Rondo's loop; with `--protocol rondo` RondoHTTP stands in its place.

import Hummingbird
import HummingbirdHTTP2
import NIOSSL
import Rondo
import RondoHTTP
import RondoHummingbird
import RondoNIO

@main
struct Server: RondoProgram {
    func run() async throws {
        // Told of no group, an application starts one of NIO's, with a thread for each processor.
        let application = Application(router: routes(), eventLoopGroupProvider: .shared(NIOLoopGroup()))
        let address = SocketAddress.loopback(port: Int(option("--port") ?? "0") ?? 0)
        if option("--protocol") == "rondo" { return try await serve(application, by: try await server(at: address)) }
        let listener = try await TCPListener.listen(on: address)
        print("listening on \(listener.localAddress)")
        guard let tls = try tls() else { return try await application.runService(on: listener) }
        try await application.runService(on: listener) { try HTTP2UpgradeChannel(tlsConfiguration: tls, responder: $0) }
    }

    /// The other way: RondoHTTP speaks HTTP, and NIO only TLS and HTTP/2.
    func serve(_ application: some ApplicationProtocol, by server: HTTPServer) async throws {
        print("listening on \(server.localAddress)")
        try await application.runService(on: server)
    }

    func server(at address: SocketAddress) async throws -> HTTPServer {
        var configuration = HTTPServerConfiguration()
        configuration.limits.bodyBytes = 100 << 20
        if let chain = option("--cert"), let key = option("--key") {
            configuration.tls = try HTTPServerTLS(certificateChainFile: chain, privateKeyFile: key)
        }
        return try await HTTPServer.listen(on: address, configuration: configuration)
    }

    func routes() -> Router<BasicRequestContext> {
        let router = Router()
        router.add(middleware: Signature())
        router.get("/") { _, _ in "Hello, world!\n" }
        router.get("where") { _, _ in Place() }
        router.get("zeros/:count") { _, context in
            let count = try context.parameters.require("count", as: Int.self)
            let body = ResponseBody { writer in
                for start in stride(from: 0, to: count, by: 65_536) {
                    try await writer.write(ByteBuffer(repeating: 0, count: min(65_536, count - start)))
                }
                try await writer.finish(nil)
            }
            return Response(status: .ok, body: body)
        }
        router.put("echo") { request, _ in Response(status: .ok, body: .init(asyncSequence: request.body)) }
        router.put("checksum") { request, _ in
            var (length, sum) = (0, 0)
            for try await part in request.body {
                length += part.readableBytes
                sum = [UInt8](buffer: part).reduce(sum) { ($0 &* 31 &+ Int($1)) & 0xFFFF_FFFF }
            }
            return "\(length) bytes, sum \(sum)\n"
        }
        return router
    }

    /// What stands behind a name in the command line.
    func option(_ name: String) -> String? { CommandLine.arguments.drop { $0 != name }.dropFirst().first }

    func tls() throws -> TLSConfiguration? {
        guard let chain = option("--cert"), let key = option("--key") else { return nil }
        return .makeServerConfiguration(
            certificateChain: try NIOSSLCertificate.fromPEMFile(chain).map { .certificate($0) },
            privateKey: .privateKey(try NIOSSLPrivateKey(file: key, format: .pem)))
    }
}

/// What runs a handler: as JSON, the answer of `/where`.
struct Place: ResponseEncodable {
    var driver = EventLoop.current?.driverName
    var isOnLoop = EventLoop.current?.isCurrent ?? false
}

/// Signs every answer.
struct Signature<Context: RequestContext>: RouterMiddleware {
    func handle(
        _ request: Request, context: Context, next: (Request, Context) async throws -> Response
    ) async throws -> Response {
        var response = try await next(request, context)
        response.headers[.server] = "Hummingbird on Rondo"
        return response
    }
}
