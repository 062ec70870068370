// What every framework on NIO is made of, with nothing above it: the handlers of NIOHTTP1, on Rondo's loop.

import NIOCore
import NIOHTTP1
import Rondo
import RondoNIO

@main
struct Server: RondoProgram {
    func run() async throws {
        let listener = try await TCPListener.listen(on: .loopback(port: Int(CommandLine.arguments[1])!))
        try await listener.serve { stream in
            try await StreamChannel.run(stream) { channel in
                try channel.pipeline.syncOperations.configureHTTPServerPipeline(withErrorHandling: true)
                try channel.pipeline.syncOperations.addHandler(Hello())
            }
        }
    }
}

final class Hello: ChannelInboundHandler, Sendable {
    typealias InboundIn = HTTPServerRequestPart
    typealias OutboundOut = HTTPServerResponsePart
    let body = ByteBuffer(string: "Hello, world!\n")

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        guard case .end = unwrapInboundIn(data) else { return }
        let fields: HTTPHeaders = ["Content-Type": "text/plain; charset=utf-8", "Content-Length": "14"]
        let head = HTTPResponseHead(version: .http1_1, status: .ok, headers: fields)
        context.write(wrapOutboundOut(.head(head)), promise: nil)
        context.write(wrapOutboundOut(.body(.byteBuffer(body))), promise: nil)
        context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
    }
}
