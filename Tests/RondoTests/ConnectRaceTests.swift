// Connecting by name: the first answer wins, and the others leave nothing behind. In virtual time where it can be.

import RondoTesting
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct ConnectRaceTests {
        private static func address(_ text: String, _ port: Int = 443) -> SocketAddress {
            SocketAddress(text, port: port)!
        }

        @Test func familiesTakeTurns() {
            let addresses = ["2001:db8::1", "2001:db8::2", "2001:db8::3", "10.0.0.1", "10.0.0.2"].map {
                Self.address($0)
            }
            let order = ConnectRace.interleaved(addresses).map(\.host)
            #expect(order == ["2001:db8::1", "10.0.0.1", "2001:db8::2", "10.0.0.2", "2001:db8::3"])
            #expect(ConnectRace.interleaved([]) == [])
            #expect(ConnectRace.interleaved(addresses.reversed()).first?.host == "10.0.0.2")
        }

        /// A silent address costs a quarter of a second, not two minutes.
        @Test(arguments: 0..<20 as Range<UInt64>) func aSilentAddressIsOvertaken(seed: UInt64) throws {
            try Simulation.run(seed: seed) { simulation in
                simulation.network.setHost("example.com", addresses: ["2001:db8::1", "192.0.2.1"])
                simulation.network.silence("2001:db8::1")
                let listener = try await TCPListener.listen(on: Self.address("192.0.2.1"))
                let start = simulation.now
                let client = try await TCPStream.connect(to: "example.com", port: 443)
                let time = simulation.now - start
                #expect(time >= .milliseconds(250) && time < .milliseconds(300))
                #expect(try client.peerAddress == listener.localAddress)
                let server = try await listener.accept()
                await Pair(client: client, server: server).close()
                await listener.close()
                #expect(simulation.openDescriptors == [])
                #expect(statistics.pendingOperations == 0 && statistics.timers == 0)
            }
        }

        @Test func theStaggerCanBeChosen() throws {
            try Simulation.run { simulation in
                let addresses = ["2001:db8::1", "2001:db8::2", "192.0.2.1"].map { Self.address($0) }
                for address in addresses.dropLast() { simulation.network.silence(address.host) }
                let listener = try await TCPListener.listen(on: addresses[2])
                let start = simulation.now
                let client = try await TCPStream.connect(toFirstOf: addresses, stagger: .seconds(10))
                // IPv4 is the second that is tried.
                #expect(simulation.now - start > .seconds(10) && simulation.now - start < .seconds(11))
                await client.close()
                await listener.close()
                #expect(simulation.openDescriptors == [])
            }
        }

        @Test func aRefusalIsNotWaitedFor() throws {
            try Simulation.run { simulation in
                simulation.network.setHost("example.com", addresses: ["2001:db8::1", "192.0.2.1", "192.0.2.2"])
                let listener = try await TCPListener.listen(on: Self.address("192.0.2.2"))
                let start = simulation.now
                let client = try await TCPStream.connect(to: "example.com", port: 443)
                #expect(simulation.now - start < .milliseconds(100))
                await client.close()
                await listener.close()
                #expect(simulation.openDescriptors == [])
            }
        }

        @Test func errorsListEveryAttempt() throws {
            try Simulation.run { simulation in
                simulation.network.setHost("example.com", addresses: ["2001:db8::1", "192.0.2.1"])
                simulation.network.setHost("one.example", addresses: ["192.0.2.1"])
                simulation.network.setHost("none.example", addresses: [])
                simulation.network.silence("2001:db8::1")
                let error = await ioError { try await TCPStream.connect(to: "example.com", port: 443) }
                #expect(
                    error?.description
                        == "connect to example.com:443: no address answered: [2001:db8::1]:443: Connection timed out; "
                        + "192.0.2.1:443: Connection refused (is the server running?)")
                #expect(error?.errno == .connectionRefused)
                #expect(simulation.now > .seconds(100) && simulation.openDescriptors == [])
                let one = await ioError { try await TCPStream.connect(to: "one.example", port: 1) }
                #expect(one?.description == "connect to 192.0.2.1:1: Connection refused (is the server running?)")
                for (name, words) in [
                    ("none.example", "it has no internet address"), ("who.example", "Name or service not known"),
                ] {
                    let error = await ioError { try await TCPStream.connect(to: name, port: 1) }
                    #expect(error?.cause == .unresolved(words))
                }
                let nobody = await ioError { try await TCPStream.connect(toFirstOf: []) }
                #expect(nobody?.cause == .unresolved("it has no internet address"))
            }
        }

        /// A resolver that takes a minute does not keep a task that was cancelled.
        @Test func aSlowResolverIsNotWaitedFor() throws {
            var options = SimulationOptions()
            options.offloadLatency = .seconds(60) ... .seconds(60)
            try Simulation.run(options: options) { simulation in
                simulation.network.setHost("example.com", addresses: ["192.0.2.1"])
                let attempt = start { try await TCPStream.connect(to: "example.com", port: 443) }
                try await Task.sleep(for: .seconds(1))
                attempt.cancel()
                #expect(await ioError(of: attempt)?.description == "resolve example.com: the task was cancelled")
                #expect(simulation.now < .seconds(2))
                let addresses = try await resolve("example.com", port: 7)
                #expect(addresses == [Self.address("192.0.2.1", 7)] && simulation.now >= .seconds(61))
            }
        }

        /// Whenever it is cancelled, nothing is left.
        @Test(arguments: 0..<40 as Range<UInt64>) func cancellingEndsEveryAttempt(seed: UInt64) throws {
            try Simulation.run(seed: seed) { simulation in
                simulation.network.setHost("example.com", addresses: ["2001:db8::1", "192.0.2.1", "192.0.2.2"])
                simulation.network.silence("2001:db8::1")
                simulation.network.silence("192.0.2.1")
                let listener = try await TCPListener.listen(on: Self.address("192.0.2.2"))
                let attempt = start { try await TCPStream.connect(to: "example.com", port: 443) }
                try await Task.sleep(for: .milliseconds(Int(seed) * 15))
                attempt.cancel()
                do {
                    await (try await attempt.value).close()
                } catch let error as IOError {
                    #expect(error.cause == .cancelled)
                }
                await listener.close()
                try await Task.sleep(for: .milliseconds(10))
                #expect(simulation.openDescriptors == [])
                #expect(statistics.pendingOperations == 0 && statistics.timers == 0)
            }
        }

        /// Two attempts that succeed at the same time: one of them is closed.
        @Test(arguments: 0..<40 as Range<UInt64>) func aPhotoFinishLeavesOneConnection(seed: UInt64) throws {
            try Simulation.run(seed: seed) { simulation in
                let addresses = ["2001:db8::1", "192.0.2.1", "192.0.2.2"].map { Self.address($0) }
                let listeners = [
                    try await TCPListener.listen(on: addresses[0]), try await TCPListener.listen(on: addresses[1]),
                    try await TCPListener.listen(on: addresses[2]),
                ]
                let client = try await TCPStream.connect(toFirstOf: addresses, stagger: .microseconds(Int(seed) * 50))
                try await Task.sleep(for: .milliseconds(50))
                #expect(simulation.network.connectionCount <= 1 + 2)
                await client.close()
                for listener in listeners { await listener.close() }
                try await Task.sleep(for: .milliseconds(50))
                #expect(simulation.openDescriptors == [])
            }
        }

        @Test(.enabled(if: Machine.hasIPv6), arguments: World.real)
        func realAddressesAreRaced(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let port = listener.localAddress.port
                // Nobody listens on the first.
                let client = try await TCPStream.connect(
                    toFirstOf: [.loopback6(port: port), .loopback(port: port)], options: [.noDelay(false)])
                let server = try await listener.accept()
                #expect(try client.peerAddress == listener.localAddress)
                let settings = try await client.settings
                #expect(!settings.noDelay)
                await Pair(client: client, server: server).close()
                await listener.close()
                let error = await ioError {
                    try await TCPStream.connect(toFirstOf: [.loopback6(port: port), .loopback(port: port)])
                }
                guard case .attempts(let errors)? = error?.cause else { Issue.record("\(error as Any)"); return }
                #expect(errors.map(\.errno) == [.connectionRefused, .connectionRefused])
            }
        }
    }
}
