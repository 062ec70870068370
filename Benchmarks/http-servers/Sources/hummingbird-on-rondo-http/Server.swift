// A proof, and no bridge to use: Hummingbird's router between RondoHTTP's request and answer, with no pipeline of NIO's
// at all. Requests have no body here, and answers go out in one piece.

import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import Rondo
import RondoHTTP
import RondoNIO

@main
struct Server: RondoProgram {
    func run() async throws {
        let router = Router()
        router.get("/") { _, _ in "Hello, world!\n" }
        var logger = Logger(label: "server")
        logger.logLevel = .error
        let application = Application(
            router: router, eventLoopGroupProvider: .shared(NIOLoopGroup()), logger: logger)
        let (responder, log) = (application.responder, logger)
        // A context wants a channel, for addresses and buffers; nothing goes through this one.
        let channel = StreamChannel(on: NIOLoop.current!)
        let server = try await HTTPServer.listen(on: .loopback(port: Int(CommandLine.arguments[1])!))
        try await server.serve { request, response in
            let answer = try await withLogger(log) { log in
                let source = ApplicationRequestContextSource(channel: channel, logger: log)
                let request = Request(head: request.head, body: HummingbirdCore.RequestBody(buffer: ByteBuffer()))
                return try await responder.respond(to: request, context: BasicRequestContext(source: source))
            }
            let body = Collected()
            try await answer.body.write(body)
            response.headers = answer.headers
            try await response.send(body.bytes, status: answer.status)
        }
    }
}

/// A body in memory.
final class Collected: ResponseBodyWriter, @unchecked Sendable {
    // SAFETY: used by the one task that handles the request.
    private(set) var bytes: [UInt8] = []

    func write(_ buffer: ByteBuffer) async throws { bytes += buffer.readableBytesView }

    consuming func finish(_ trailers: HTTPFields?) async throws {}
}
