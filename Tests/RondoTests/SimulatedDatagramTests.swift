// UDP in a simulation.

import Glibc
import RondoTesting
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct SimulatedDatagramTests {
        /// The order in which 200 datagrams arrive.
        private func arrivals(seed: UInt64) throws -> [UInt8] {
            try Simulation.run(seed: seed) { _ in
                let server = try await UDPSocket.bind(to: .any(port: 53))
                let client = try await UDPSocket.connect(to: .loopback(port: 53))
                for index in 0..<200 { try await client.send([UInt8(index)]) }
                var order: [UInt8] = []
                for _ in 0..<200 { order.append(try await server.receive().bytes[0]) }
                await client.close()
                await server.close()
                return order
            }
        }

        @Test func theSeedDecidesTheOrder() throws {
            let order = try arrivals(seed: 1)
            #expect(try arrivals(seed: 1) == order)
            #expect(try arrivals(seed: 2) != order)
            #expect(order != order.sorted(), "some overtake others")
            #expect(order.sorted() == Array(0..<200), "each arrives once")
        }

        @Test func whatHasNoRoomIsLost() throws {
            try World.simulated.run {
                let server = try await UDPSocket.bind(to: .loopback(port: 53))
                let client = try await UDPSocket.bind(to: .any(port: 0))
                for _ in 0..<100 { try await client.send(pattern(10_000), to: server.localAddress) }
                try await Task.sleep(for: .seconds(1))
                for _ in 0..<21 { #expect(try await server.receive().bytes == pattern(10_000)) }
                let last = start { try await server.receive() }
                try await Task.sleep(for: .seconds(1))
                last.cancel()
                #expect(await ioError(of: last)?.cause == .cancelled)
                let tooLong = await ioError { try await client.send(pattern(65_508), to: server.localAddress) }
                #expect(tooLong?.errno == Errno(rawValue: EMSGSIZE))
                #expect(await ioError { try await client.send([1]) }?.errno == Errno(rawValue: EDESTADDRREQ))
                let other = await ioError { try await client.send([1], to: .loopback6(port: 53)) }
                #expect(other?.errno == .addressFamilyNotSupported)
                await client.close()
                await server.close()
            }
        }

        @Test func whatIsCutOffSaysSoAndSegmentsGoOneByOne() throws {
            try World.simulated.run {
                var options = UDPSocket.Options()
                options.coalesces = true
                options.timeToLive = 9
                let server = try await UDPSocket.bind(to: .loopback6(port: 0), options: options)
                #expect(!server.coalesces)
                #expect(try server.timeToLive == 9)
                let client = try await UDPSocket.connect(to: server.localAddress)
                try await client.send(pattern(25), inDatagramsOf: 10)
                var sizes: [Int] = []
                for _ in 0..<3 {
                    let datagram = try await server.receive(upTo: 6)
                    sizes.append(datagram.fullSize)
                    #expect(datagram.bytes.count == min(6, datagram.fullSize))
                    #expect(datagram.sender == client.localAddress)
                }
                #expect(sizes.sorted() == [5, 10, 10])
                let group = SocketAddress("ff02::1", port: 0)!
                #expect(await ioError { try server.join(group) }?.errno == .notSupportedOnSocket)
                await client.close()
                await server.close()
            }
        }
    }
}
