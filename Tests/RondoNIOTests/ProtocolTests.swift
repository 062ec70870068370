// NIO's protocol stack over these channels: HTTP/1, TLS with ALPN, HTTP/2, WebSocket, NIOAsyncChannel.

import Foundation
import NIOCore
import NIOHTTP1
import NIOHTTP2
import NIOSSL
import NIOWebSocket
import Rondo
import RondoNIO
import Testing

@Suite struct ProtocolTests {
    /// Answers every request with its method, path and body.
    private final class Answer: ChannelInboundHandler, @unchecked Sendable {
        // SAFETY: used on the loop only.
        typealias InboundIn = HTTPServerRequestPart
        typealias OutboundOut = HTTPServerResponsePart
        var text = ""

        func channelRead(context: ChannelHandlerContext, data: NIOAny) {
            switch unwrapInboundIn(data) {
            case .head(let head): text = "\(head.method) \(head.uri) "
            case .body(let part): text += String(buffer: part)
            case .end:
                let head = HTTPResponseHead(
                    version: .http1_1, status: .ok, headers: ["Content-Length": "\(text.utf8.count)"])
                context.write(wrapOutboundOut(.head(head)), promise: nil)
                context.write(wrapOutboundOut(.body(.byteBuffer(ByteBuffer(string: text)))), promise: nil)
                context.writeAndFlush(wrapOutboundOut(.end(nil)), promise: nil)
            }
        }
    }

    /// Serves with `setUp` while `body` asks.
    private func serving(
        _ setUp: @escaping @Sendable (StreamChannel) throws -> Void,
        _ body: (Rondo.SocketAddress) async throws -> Void
    ) async throws {
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        let serving = start { try await listener.serve { try await StreamChannel.run($0, setUp) } }
        try await body(listener.localAddress)
        await listener.stopAccepting()
        try await serving.value
    }

    @Test(arguments: drivers) func http1(_ driver: DriverKind) throws {
        try run(driver) {
            try await serving { channel in
                try channel.pipeline.syncOperations.configureHTTPServerPipeline()
                try channel.pipeline.syncOperations.addHandler(Answer())
            } _: { address in
                let peer = try await TCPStream.connect(to: address)
                // Two requests at once: the answers come in order.
                try await peer.write(
                    "POST /a HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\nabcGET /b HTTP/1.1\r\nHost: x\r\n\r\n")
                var all = ""
                while !all.hasSuffix("GET /b "), let chunk = try await peer.read() {
                    all += String(decoding: Array(chunk), as: UTF8.self)
                }
                #expect(all.contains("\r\n\r\nPOST /a abc"))
                #expect(all.hasSuffix("\r\n\r\nGET /b "))
                await peer.close()
            }
        }
    }

    @Test(arguments: drivers) func http2OverTLS(_ driver: DriverKind) throws {
        let identity = try Identity.make()
        try run(driver) {
            let context = try identity.serverContext(protocols: ["h2"])
            try await serving { channel in
                try channel.pipeline.syncOperations.addHandler(NIOSSLServerHandler(context: context))
                _ = try channel.pipeline.syncOperations.configureHTTP2Pipeline(
                    mode: .server, connectionConfiguration: .init(), streamConfiguration: .init()
                ) { stream in
                    stream.eventLoop.makeCompletedFuture {
                        try stream.pipeline.syncOperations.addHandlers([
                            HTTP2FramePayloadToHTTP1ServerCodec(), Answer(),
                        ])
                    }
                }
            } _: { address in
                let answer = try await Curl.run(
                    "--http2", "-k", "-s", "-d", "body", "https://127.0.0.1:\(address.port)/h2", "-w",
                    " %{http_version}")
                #expect(answer == "POST /h2 body 2")
            }
        }
    }

    @Test(arguments: drivers) func webSocket(_ driver: DriverKind) throws {
        final class EchoFrames: ChannelInboundHandler, Sendable {
            typealias InboundIn = WebSocketFrame
            typealias OutboundOut = WebSocketFrame
            func channelRead(context: ChannelHandlerContext, data: NIOAny) {
                let frame = unwrapInboundIn(data)
                let answer = WebSocketFrame(fin: true, opcode: frame.opcode, data: frame.unmaskedData)
                context.writeAndFlush(wrapOutboundOut(answer), promise: nil)
            }
        }
        try run(driver) {
            try await serving { channel in
                let upgrader = NIOWebSocketServerUpgrader { channel, _ in
                    channel.eventLoop.makeSucceededFuture([:])
                } upgradePipelineHandler: { channel, _ in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(EchoFrames())
                    }
                }
                try channel.pipeline.syncOperations.configureHTTPServerPipeline(
                    withServerUpgrade: ([upgrader], { _ in }))
            } _: { address in
                let peer = try await TCPStream.connect(to: address)
                try await peer.write(
                    "GET / HTTP/1.1\r\nHost: x\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
                let reader = BufferedReader(peer)
                let head = try #require(try await reader.readUntil(Array("\r\n\r\n".utf8), limit: 10_000))
                #expect(String(decoding: head, as: UTF8.self).lowercased().contains("s3pplmbitxaq9kygzzhzrbk+xoo="))
                try await peer.write([0x81, 0x85, 1, 2, 3, 4] + zip("hello".utf8, [1, 2, 3, 4, 1]).map { $0 ^ $1 })
                #expect(Array(try await reader.readExactly(7)) == [0x81, 5] + Array("hello".utf8))
                await peer.close()
            }
        }
    }

    @Test(arguments: drivers) func asyncChannels(_ driver: DriverKind) throws {
        try run(driver) {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let serving = start {
                try await listener.serve { stream in
                    try await StreamChannel.with(stream) { channel in
                        try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
                    } body: { channel in
                        try await channel.executeThenClose { inbound, outbound in
                            for try await message in inbound { try await outbound.write(message) }
                        }
                    }
                }
            }
            let peer = try await TCPStream.connect(to: listener.localAddress)
            for number in 0..<100 {
                try await peer.write("message \(number % 10)")
                #expect(try await peer.text(9) == "message \(number % 10)")
            }
            let size = 4 << 20
            let sending = start { try await peer.write([UInt8](repeating: 5, count: size)) }
            #expect(try await peer.readExactly(size) == [UInt8](repeating: 5, count: size))
            try await sending.value
            await peer.close()
            await listener.stopAccepting()
            try await serving.value
        }
    }

    @Test(arguments: drivers) func theUniversalBootstrapWithTLS(_ driver: DriverKind) throws {
        let identity = try Identity.make()
        try run(driver) {
            let context = try identity.serverContext(protocols: [])
            try await serving { channel in
                try channel.pipeline.syncOperations.addHandlers([NIOSSLServerHandler(context: context), Echo()])
            } _: { address in
                var configuration = TLSConfiguration.makeClientConfiguration()
                configuration.certificateVerification = .none
                let provider = try NIOSSLClientTLSProvider<ConnectionBootstrap>(
                    context: NIOSSLContext(configuration: configuration), serverHostname: nil)
                let recorder = Recorder()
                let channel = try await NIOClientTCPBootstrap(ConnectionBootstrap(), tls: provider).enableTLS()
                    .channelInitializer { channel in
                        channel.eventLoop.makeCompletedFuture {
                            try channel.pipeline.syncOperations.addHandler(recorder)
                        }
                    }
                    .connect(host: "127.0.0.1", port: address.port).get()
                try await channel.writeAndFlush(ByteBuffer(repeating: 9, count: 300_000))
                await recorder.wait { recorder.received.count == 300_000 }
                try await channel.close().get()
                #expect(recorder.errors.isEmpty)
            }
        }
    }
}
