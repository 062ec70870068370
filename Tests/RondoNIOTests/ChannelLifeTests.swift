// How a channel begins and ends, and what its pipeline hears of it, in which order.

import Glibc
import NIOCore
import Rondo
import RondoNIO
import Testing

@Suite struct ChannelLifeTests {
    @Test(arguments: drivers) func eventsComeInOrder(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { channel in
                #expect(!channel.isActive)
                try channel.pipeline.syncOperations.addHandler(recorder)
            }
            #expect(channel.isActive && channel.isWritable)
            #expect(channel.remoteAddress?.port == (try peer.localAddress).port)
            #expect(channel.localAddress?.port == (try peer.peerAddress).port)
            #expect(channel.localAddress?.ipAddress == "127.0.0.1")
            try await peer.write("hello")
            await recorder.wait { recorder.received.count == 5 }
            await peer.close()
            try await channel.closeFuture.get()
            #expect(recorder.events == ["added", "registered", "active", "inactive", "unregistered", "removed"])
            #expect(!channel.isActive && channel.localAddress == nil)
            #expect(recorder.errors.isEmpty)
        }
    }

    @Test(arguments: drivers) func closingTwiceIsAnError(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            try await channel.close().get()
            #expect(await failure { try await channel.close().get() } as? ChannelError == .alreadyClosed)
            #expect(
                await failure { try await channel.writeAndFlush(ByteBuffer(string: "x")).get() } as? ChannelError
                    == .ioOnClosedChannel)
            #expect(
                await failure { try await channel.setOption(.autoRead, value: false).get() } as? ChannelError
                    == .ioOnClosedChannel)
            #expect(try await peer.read() == nil)
            await peer.close()
        }
    }

    @Test(arguments: drivers) func registeringTwiceIsAnError(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            #expect(
                await failure { try await channel.register().get() } as? ChannelError == .inappropriateOperationForState
            )
            #expect(
                await failure { try await channel.bind(to: .init(ipAddress: "127.0.0.1", port: 0)).get() }
                    as? ChannelError == .operationUnsupported)
            #expect(
                await failure { try await channel.triggerUserOutboundEvent("x").get() } as? ChannelError
                    == .operationUnsupported)
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func closeFutureComesAfterTheHandlersHaveGone(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            let wasRemoved = channel.closeFuture.map { recorder.events.last == "removed" }
            channel.close(promise: nil)
            #expect(recorder.events.suffix(2) == ["inactive", "unregistered"], "at once")
            #expect(try await wasRemoved.get())
            await peer.close()
        }
    }

    @Test(arguments: drivers) func aResetIsAnErrorInThePipeline(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            await peer.abort()
            try await channel.closeFuture.get()
            #expect(recorder.errors.count == 1)
            #expect((recorder.errors.first as? NIOCore.IOError)?.errnoCode == ECONNRESET)
            #expect(recorder.events.contains("inactive"))
        }
    }

    @Test(arguments: drivers) func runServesUntilTheChannelCloses(_ driver: DriverKind) throws {
        try run(driver) {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let serving = start {
                try await listener.serve { stream in
                    try await StreamChannel.run(stream) { try $0.pipeline.syncOperations.addHandler(Echo()) }
                }
            }
            for round in 0..<20 {
                let peer = try await TCPStream.connect(to: listener.localAddress)
                try await peer.write("round \(round % 10)")
                #expect(try await peer.text(7) == "round \(round % 10)")
                await peer.close()
            }
            await listener.stopAccepting()
            try await serving.value
            #expect(try openSockets(port: listener.localAddress.port) == [])
        }
    }

    @Test(arguments: drivers) func cancellingTheTaskClosesTheChannel(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let serving = start {
                try await listener.serve { stream in
                    try await StreamChannel.run(stream) { try $0.pipeline.syncOperations.addHandler(recorder) }
                }
            }
            let peer = try await TCPStream.connect(to: listener.localAddress)
            await recorder.wait(for: "active")
            serving.cancel()
            _ = await serving.result
            #expect(try await peer.read() == nil)
            #expect(recorder.events.contains("inactive") && recorder.errors.isEmpty)
            await peer.close()
        }
    }

    @Test(arguments: drivers) func aSetUpThatThrowsClosesTheStream(_ driver: DriverKind) throws {
        struct Trouble: Error {}
        try run(driver) {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let peer = try await TCPStream.connect(to: listener.localAddress)
            let stream = try await listener.accept()
            #expect(await failure { try await StreamChannel.run(stream) { _ in throw Trouble() } } is Trouble)
            #expect(try await peer.read() == nil)
            await peer.close()
            await listener.close()
        }
    }

    @Test(arguments: drivers) func theLoopsEndClosesChannels(_ driver: DriverKind) throws {
        let recorder = Recorder()
        try run(driver) {
            _ = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
        }
        #expect(recorder.events.contains("inactive"))
    }

    @Test(arguments: drivers) func unixStreamsAreChannelsToo(_ driver: DriverKind) throws {
        try run(driver) {
            let (ours, theirs) = try UnixStream.pair()
            let channel = StreamChannel(ours)
            try channel.pipeline.syncOperations.addHandler(Echo())
            channel.start()
            try await theirs.write("over there")
            #expect(String(decoding: try await theirs.readExactly(10), as: UTF8.self) == "over there")
            await theirs.close()
            try await channel.closeFuture.get()
        }
    }
}
