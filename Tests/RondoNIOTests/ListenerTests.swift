// Listening channels and bootstraps.

import Foundation
import NIOCore
import NIOExtras
import Rondo
import RondoNIO
import Testing

@Suite struct ListenerTests {
    private func echo(_ bootstrap: ListenerBootstrap = ListenerBootstrap()) -> ListenerBootstrap {
        bootstrap.childChannelInitializer { channel in
            channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(Echo()) }
        }
    }

    @Test(arguments: drivers) func bootstrapsMeet(_ driver: DriverKind) throws {
        try run(driver) {
            let listener = try await echo().bind(host: "127.0.0.1", port: 0).get()
            #expect(listener.isActive && !listener.isWritable)
            for _ in 0..<10 {
                let recorder = Recorder()
                let channel = try await ConnectionBootstrap()
                    .channelInitializer { channel in
                        channel.eventLoop.makeCompletedFuture {
                            try channel.pipeline.syncOperations.addHandler(recorder)
                        }
                    }
                    .connect(to: listener.localAddress!).get()
                #expect(channel.isActive && channel.remoteAddress == listener.localAddress)
                try await channel.writeAndFlush(ByteBuffer(string: "there and back"))
                await recorder.wait { recorder.text == "there and back" }
                try await channel.close().get()
                #expect(recorder.events.prefix(3) == ["added", "registered", "active"])
            }
            let port = listener.localAddress!.port!
            try await listener.close().get()
            #expect(!listener.isActive)
            // The other ends of the connections close when they have read the end.
            for _ in 0..<1000 where try !openSockets(port: port).isEmpty { await Loop.yield() }
            #expect(try openSockets(port: port) == [])
        }
    }

    @Test(arguments: drivers) func unixSockets(_ driver: DriverKind) throws {
        try run(driver) {
            let path = "/tmp/rondo-nio-\(UInt64.random(in: 0 ... .max))"
            let listener = try await echo().bind(unixDomainSocketPath: path).get()
            #expect(listener.localAddress?.pathname == path)
            let recorder = Recorder()
            let channel = try await ConnectionBootstrap()
                .channelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture { try channel.pipeline.syncOperations.addHandler(recorder) }
                }
                .connect(unixDomainSocketPath: path).get()
            try await channel.writeAndFlush(ByteBuffer(string: "local"))
            await recorder.wait { recorder.text == "local" }
            try await channel.close().get()
            try await listener.close().get()
            #expect(!FileManager.default.fileExists(atPath: path))
        }
    }

    @Test(arguments: drivers) func anAddressInUseIsAnError(_ driver: DriverKind) throws {
        try run(driver) {
            let listener = try await echo().bind(host: "127.0.0.1", port: 0).get()
            let error = await failure { _ = try await echo().bind(to: listener.localAddress!).get() }
            #expect((error as? NIOCore.IOError)?.errnoCode == EADDRINUSE)
            try await listener.close().get()
        }
    }

    @Test(arguments: drivers) func aRefusedConnectionIsAnError(_ driver: DriverKind) throws {
        try run(driver) {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let port = listener.localAddress.port
            await listener.close()
            let recorder = Recorder()
            let error = await failure {
                _ = try await ConnectionBootstrap()
                    .channelInitializer { channel in
                        channel.eventLoop.makeCompletedFuture {
                            try channel.pipeline.syncOperations.addHandler(recorder)
                        }
                    }
                    .connect(host: "127.0.0.1", port: port).get()
            }
            #expect((error as? NIOCore.IOError)?.errnoCode == ECONNREFUSED)
            await recorder.wait(for: "removed")
            #expect(recorder.events == ["added", "registered", "unregistered", "removed"])
        }
    }

    @Test(arguments: drivers) func connectingCanBeGivenUp(_ driver: DriverKind) throws {
        try run(driver) {
            // A listener whose queue is full answers nobody.
            let full = try await TCPListener.listen(on: .loopback(port: 0), backlog: 0)
            let address = try NIOCore.SocketAddress(ipAddress: "127.0.0.1", port: full.localAddress.port)
            var queued: [any Channel] = []
            var refused: (any Error)?
            while refused == nil {
                do {
                    queued.append(
                        try await ConnectionBootstrap().connectTimeout(.milliseconds(100)).connect(to: address).get())
                } catch {
                    refused = error
                }
            }
            #expect(refused as? ChannelError == .connectTimeout(.milliseconds(100)))
            for channel in queued { try await channel.close().get() }
            await full.close()
        }
    }

    @Test(arguments: drivers) func connectingTwiceIsAnError(_ driver: DriverKind) throws {
        try run(driver) {
            let listener = try await echo().bind(host: "127.0.0.1", port: 0).get()
            let channel = StreamChannel(on: NIOLoop.current!)
            let address = listener.localAddress!
            #expect(
                await failure { try await channel.connect(to: address).get() } as? ChannelError
                    == .inappropriateOperationForState)
            try await channel.register().get()
            async let first: Void = channel.connect(to: address).get()
            async let second = failure { try await channel.connect(to: address).get() }
            try await first
            #expect(await second != nil)
            try await channel.writeAndFlush(ByteBuffer(string: "x"))
            try await channel.close().get()
            try await listener.close().get()
        }
    }

    @Test(arguments: drivers) func withoutAutoReadNobodyIsAccepted(_ driver: DriverKind) throws {
        try run(driver) {
            let listener = try await echo().serverChannelOption(.autoRead, value: false)
                .bind(host: "127.0.0.1", port: 0).get()
            let peer = try await TCPStream.connect(to: .loopback(port: listener.localAddress!.port!))
            let other = try await TCPStream.connect(to: .loopback(port: listener.localAddress!.port!))
            try await peer.write("one")
            try await other.write("two")
            listener.read()
            let one = try await peer.text(3)
            for _ in 0..<50 { await Loop.yield() }
            listener.read()
            let two = try await other.text(3)
            #expect(one == "one" && two == "two")
            await peer.close()
            await other.close()
            try await listener.close().get()
        }
    }

    /// NIOExtras' helper: the listener closes, connections are asked to end, and the promise waits for the last.
    @Test(arguments: drivers) func quiescing(_ driver: DriverKind) throws {
        final class Polite: ChannelInboundHandler, Sendable {
            typealias InboundIn = ByteBuffer
            func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
                if event is ChannelShouldQuiesceEvent {
                    context.writeAndFlush(NIOAny(ByteBuffer(string: "bye")), promise: nil)
                    context.close(promise: nil)
                }
            }
        }
        try run(driver) {
            let loop = NIOLoop.current!
            let quiescing = ServerQuiescingHelper(group: loop)
            let listener = try await ListenerBootstrap()
                .serverChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandler(
                            quiescing.makeServerChannelHandler(channel: channel))
                    }
                }
                .childChannelInitializer { channel in
                    channel.eventLoop.makeCompletedFuture {
                        try channel.pipeline.syncOperations.addHandlers([Polite(), Echo()])
                    }
                }
                .bind(host: "127.0.0.1", port: 0).get()
            let port = listener.localAddress!.port!
            let peers = [
                try await TCPStream.connect(to: .loopback(port: port)),
                try await TCPStream.connect(to: .loopback(port: port)),
            ]
            for peer in peers {
                try await peer.write("x")
                #expect(try await peer.text(1) == "x")
            }
            let done = loop.makePromise(of: Void.self)
            quiescing.initiateShutdown(promise: done)
            try await done.futureResult.get()
            for peer in peers {
                #expect(String(decoding: try await peer.readToEnd(limit: 100), as: UTF8.self) == "bye")
                await peer.close()
            }
            #expect(!listener.isActive)
            #expect(await failure { _ = try await TCPStream.connect(to: .loopback(port: port)) } != nil)
        }
    }
}
