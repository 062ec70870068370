// Settings of connections and listeners: what is set is what the kernel has.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TCPOptionTests {
        @Test(arguments: World.allCases) func settingsAreKept(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                var settings = try await pair.client.settings
                #expect(settings.noDelay && settings.keepAlive == nil && settings.userTimeout == nil)
                #expect(!settings.resetsOnClose)
                let times = TCPOption.KeepAlive(idle: .seconds(30), interval: .milliseconds(4500), count: 7)
                try await pair.client.set(
                    .noDelay(false), .keepAlive(times), .userTimeout(.microseconds(2_500_001)),
                    .quickAcknowledgements(false), .resetsOnClose(true))
                settings = try await pair.client.settings
                #expect(!settings.noDelay && settings.resetsOnClose)
                #expect(settings.keepAlive == TCPOption.KeepAlive(idle: .seconds(30), interval: .seconds(5), count: 7))
                #expect(settings.userTimeout == .milliseconds(2501))
                try await pair.client.set(.keepAlive(nil), .userTimeout(nil), .resetsOnClose(false), .noDelay(true))
                settings = try await pair.client.settings
                #expect(settings.noDelay && settings.keepAlive == nil && settings.userTimeout == nil)
                await pair.close()
                let error = await ioError { try await pair.client.set(.noDelay(true)) }
                #expect(error?.cause == .closed)
                #expect(error?.description.hasPrefix("set an option of 127.0.0.1:") == true)
                #expect(await ioError { try await pair.client.settings }?.cause == .closed)
            }
        }

        @Test(arguments: World.real) func bufferSizesAreTheKernels(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(
                    on: .loopback(port: 0),
                    options: [
                        .accepted(.receiveBuffer(40_000)), .accepted(.keepAlive(.init())), .accepted(.noDelay(false)),
                    ])
                let client = try await TCPStream.connect(
                    to: listener.localAddress, options: [.sendBuffer(50_000), .noDelay(false)])
                let server = try await listener.accept()
                let ends = (try await client.settings, try await server.settings)
                #expect(ends.0.sendBuffer == 100_000 && !ends.0.noDelay)
                #expect(ends.1.receiveBuffer == 80_000 && ends.1.keepAlive == .init() && !ends.1.noDelay)
                await Pair(client: client, server: server).close()
                await listener.close()
            }
        }

        @Test(arguments: World.real) func whatTheKernelRefusesSaysSo(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                // The kernel takes at most 127 questions.
                let times = TCPOption.KeepAlive(idle: .seconds(1), interval: .seconds(1), count: 1000)
                let error = await ioError { try await pair.client.set(.keepAlive(times)) }
                #expect(error?.errno == .invalidArgument)
                await pair.close()
                let address = pair.client.subject
                #expect(error?.subject == address)
                let attempt = await ioError {
                    try await TCPStream.connect(to: .loopback(port: 1), options: [.keepAlive(times)])
                }
                #expect(attempt?.description == "connect to 127.0.0.1:1: Invalid argument")
            }
        }

        @Test(arguments: World.allCases) func listenersShareAPort(world: World) throws {
            try world.run {
                let first = try await TCPListener.listen(on: .loopback(port: 0), options: [.reusePort])
                let second = try await TCPListener.listen(on: first.localAddress, options: [.reusePort])
                #expect(await ioError { try await TCPListener.listen(on: first.localAddress) }?.errno == .addressInUse)
                let accepted = Counter()
                let acceptors = [first, second].map { listener in
                    start { while true { await (try await listener.accept()).close(); accepted.add() } }
                }
                for _ in 0..<20 {
                    let client = try await TCPStream.connect(to: first.localAddress)
                    let isOver = try await client.read() == nil
                    #expect(isOver)
                    await client.close()
                }
                #expect(accepted.value == 20)
                for acceptor in acceptors {
                    acceptor.cancel()
                    #expect(await ioError(of: acceptor)?.cause == .cancelled)
                }
                await first.close()
                await second.close()
            }
        }

        @Test(arguments: World.real) func connectionsComeWithTheirFirstBytes(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(
                    on: .loopback(port: 0), options: [.deferAccept(.seconds(60))])
                let (silent, talker) = (
                    try await TCPStream.connect(to: listener.localAddress),
                    try await TCPStream.connect(to: listener.localAddress)
                )
                try await talker.write("hello")
                let server = try await listener.accept()
                #expect(try server.peerAddress == talker.localAddress, "who said nothing is not there yet")
                let hello = try await server.readExactly(5)
                #expect(hello == Array("hello".utf8))
                await silent.close()
                await Pair(client: talker, server: server).close()
                await listener.close()
            }
        }

        @Test(.enabled(if: Machine.hasIPv6), arguments: World.real)
        func oneSocketHearsBothFamilies(world: World) throws {
            try world.run {
                let both = try await TCPListener.listen(on: .any6(port: 0), options: [.ipv6Only(false)])
                let client = try await TCPStream.connect(to: .loopback(port: both.localAddress.port))
                let server = try await both.accept()
                #expect(try server.peerAddress.host == "::ffff:127.0.0.1")
                await Pair(client: client, server: server).close()
                await both.close()
                let one = try await TCPListener.listen(on: .any6(port: 0), options: [.ipv6Only(true)])
                let port = one.localAddress.port
                #expect(
                    await ioError { try await TCPStream.connect(to: .loopback(port: port)) }?.errno
                        == .connectionRefused)
                let client6 = try await TCPStream.connect(to: .loopback6(port: port))
                let server6 = try await one.accept()
                await Pair(client: client6, server: server6).close()
                await one.close()
            }
        }
    }
}
