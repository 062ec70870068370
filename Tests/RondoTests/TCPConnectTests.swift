// Connecting and listening: what can be wrong with an address, and how it is said.

import Glibc
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TCPConnectTests {
        @Test(arguments: World.allCases) func aRefusedConnectionSaysSo(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let address = listener.localAddress
                await listener.close()
                let error = await ioError { try await TCPStream.connect(to: address) }
                #expect(error?.description == "connect to \(address): Connection refused (is the server running?)")
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func aPortInUseSaysSo(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let address = listener.localAddress
                let error = await ioError { try await TCPListener.listen(on: address) }
                let hint = "another program uses this port: choose another one, or stop it"
                #expect(error?.description == "listen on \(address): Address already in use (\(hint))")
                await listener.close()
                // Closed, it is free again.
                let next = try await TCPListener.listen(on: address)
                await next.close()
            }
        }

        @Test(.enabled(if: getuid() != 0 && !mayUseLowPorts), arguments: World.real)
        func aPortWithoutPermissionSaysSo(world: World) throws {
            try world.run {
                let error = await ioError { try await TCPListener.listen(on: .loopback(port: 81)) }
                let hint = "ports below 1024 are for root: use another one"
                #expect(error?.description == "listen on 127.0.0.1:81: Permission denied (\(hint))")
                await settle()
            }
        }

        /// Some systems let everybody use every port.
        private static var mayUseLowPorts: Bool {
            contents(ofFile: "/proc/sys/net/ipv4/ip_unprivileged_port_start") == Array("0\n".utf8)
        }

        @Test(arguments: World.real) func anAddressOfAnotherMachineSaysSo(world: World) throws {
            try world.run {
                let error = await ioError { try await TCPListener.listen(on: .ipv4(192, 0, 2, 1, port: 0)) }
                #expect(error?.errno == .addressNotAvailable)
                #expect(error?.hint == "this machine has no such address")
            }
        }

        @Test(arguments: World.real) func aNameThatDoesNotResolveSaysSo(world: World) throws {
            try world.run {
                let error = await ioError { try await TCPStream.connect(to: "does-not-exist.invalid", port: 80) }
                let text = try #require(error?.description)
                #expect(text.hasPrefix("resolve does-not-exist.invalid: "))
                #expect(text.hasSuffix("(check the spelling, and /etc/resolv.conf)"))
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func aPortThatIsNoneSaysSo(world: World) throws {
            try world.run {
                let error = await ioError { try await TCPStream.connect(to: "127.0.0.1", port: 65_536) }
                #expect(error?.description == "resolve 127.0.0.1:65536: 65536 is no port: use 0 to 65535")
            }
        }

        @Test(arguments: World.real) func namesAndNumbersConnect(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                for host in ["127.0.0.1", "localhost"] {
                    let client = try await TCPStream.connect(to: host, port: listener.localAddress.port)
                    let server = try await listener.accept()
                    try await client.write("x")
                    let bytes = try await server.readExactly(1)
                    #expect(bytes == [UInt8(ascii: "x")])
                    await Pair(client: client, server: server).close()
                }
                let numeric = try await resolve("::1", port: 7)
                #expect(numeric == [.loopback6(port: 7)])
                await listener.close()
            }
        }

        @Test func addressesReadAndPrint() {
            #expect("\(SocketAddress.loopback(port: 80))" == "127.0.0.1:80")
            #expect("\(SocketAddress.loopback6(port: 80))" == "[::1]:80")
            #expect("\(SocketAddress.any(port: 1))" == "0.0.0.0:1")
            #expect("\(SocketAddress.any6(port: 1))" == "[::]:1")
            #expect(SocketAddress("127.0.0.1", port: 80) == .loopback(port: 80))
            #expect(SocketAddress("[::1]", port: 80) == .loopback6(port: 80))
            #expect(SocketAddress("::1", port: 80) == .loopback6(port: 80))
            #expect(SocketAddress("localhost", port: 80) == nil)
            #expect(SocketAddress("127.0.0.1", port: 65_536) == nil)
            #expect(SocketAddress("127.0.0.1", port: -1) == nil)
            var address = SocketAddress.ipv4(10, 1, 2, 3, port: 0)
            address.port = 65_535
            #expect("\(address)" == "10.1.2.3:65535")
            #expect(address != .ipv4(10, 1, 2, 3, port: 1))
            #expect(Set([address, address]).count == 1)
        }
    }
}
