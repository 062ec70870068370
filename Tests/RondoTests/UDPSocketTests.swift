// UDP over the loopback interface.

import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct UDPSocketTests {
        @Test(arguments: World.allCases) func aThousandDatagramsArriveEachAsItWasSent(world: World) throws {
            try world.run {
                for address in Machine.loopbacks {
                    let server = try await UDPSocket.bind(to: address)
                    let client = try await UDPSocket.connect(to: server.localAddress)
                    #expect(server.localAddress.port != 0 && server.peerAddress == nil)
                    #expect(client.peerAddress == server.localAddress)
                    let receiving = start {
                        for index in 0..<1000 {
                            let datagram = try await server.receive()
                            #expect(datagram.bytes == pattern(index % 700, from: index))
                            #expect(datagram.sender == client.localAddress && !datagram.isTruncated)
                            try await server.send(datagram.bytes, to: datagram.sender)
                        }
                    }
                    for index in 0..<1000 {
                        let bytes = pattern(index % 700, from: index)
                        try await client.send(bytes)
                        let answer = try await client.receive()
                        #expect(answer.bytes == bytes && answer.sender == server.localAddress)
                    }
                    try await receiving.value
                    await client.close()
                    await server.close()
                }
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func whatIsTooLongIsCutOffAndSaysSo(world: World) throws {
            try world.run {
                let server = try await UDPSocket.bind(to: .loopback(port: 0))
                let client = try await UDPSocket.bind(to: .loopback(port: 0))
                try await client.send(pattern(500), to: server.localAddress)
                try await client.send(pattern(5, from: 1), to: server.localAddress)
                try await client.send([], to: server.localAddress)
                try await client.send([9], to: server.localAddress)
                let long = try await server.receive(upTo: 100)
                #expect(long.bytes == pattern(100) && long.fullSize == 500 && long.isTruncated)
                let short = try await server.receive(upTo: 5)
                #expect(short.bytes == pattern(5, from: 1) && !short.isTruncated)
                let empty = try await server.receive(upTo: 0)
                #expect(empty == Datagram(bytes: [], sender: client.localAddress))
                #expect(try await server.receive(upTo: 0).fullSize == 1)
                let tooLong = await ioError { try await client.send(pattern(70_000), to: server.localAddress) }
                let text = "send to \(server.localAddress): Message too long (send less in one message)"
                #expect(tooLong?.description == text)
                let nowhere = await ioError { try await client.send([1]) }
                #expect(nowhere?.errno == Errno(rawValue: EDESTADDRREQ))
                await client.close()
                await server.close()
            }
        }

        @Test(arguments: World.allCases) func aConnectedSocketIsToldThatNobodyIsThere(world: World) throws {
            try world.run {
                let gone = try await UDPSocket.bind(to: .loopback(port: 0))
                await gone.close()
                let client = try await UDPSocket.connect(to: gone.localAddress)
                let receiving = start { try await client.receive() }
                await settle()
                try await client.send([1])
                let error = await ioError(of: receiving)
                let text = "receive from \(gone.localAddress): Connection refused (is the server running?)"
                #expect(error?.description == text)
                // It goes on.
                let back = try await UDPSocket.bind(to: gone.localAddress)
                try await client.send([2])
                #expect(try await back.receive().bytes == [2])
                await back.close()
                await client.close()
            }
        }

        @Test(arguments: World.allCases) func aConnectedSocketHearsNobodyElse(world: World) throws {
            try world.run {
                let server = try await UDPSocket.bind(to: .loopback(port: 0))
                let client = try await UDPSocket.connect(to: server.localAddress, from: .loopback(port: 0))
                let stranger = try await UDPSocket.bind(to: .loopback(port: 0))
                try await stranger.send([1], to: client.localAddress)
                try await server.send([2], to: client.localAddress)
                #expect(try await client.receive().bytes == [2])
                for socket in [server, client, stranger] { await socket.close() }
            }
        }

        @Test(arguments: World.allCases) func anAddressInUseSaysSo(world: World) throws {
            try world.run {
                let first = try await UDPSocket.bind(to: .loopback(port: 0))
                let address = first.localAddress
                let error = await ioError { try await UDPSocket.bind(to: address) }
                #expect(error?.description.hasPrefix("bind \(address): Address already in use") == true)
                await first.close()
                var options = UDPSocket.Options()
                options.reusesPort = true
                let sockets = [
                    try await UDPSocket.bind(to: address, options: options),
                    try await UDPSocket.bind(to: address, options: options),
                ]
                for socket in sockets { await socket.close() }
            }
        }

        // MARK: Cancelling and closing

        @Test(arguments: World.allCases) func aCancelledReceiveLosesNothing(world: World) throws {
            try world.run {
                let server = try await UDPSocket.bind(to: .loopback(port: 0))
                let client = try await UDPSocket.connect(to: server.localAddress)
                for round in 0..<30 {
                    let receiving = start { try await server.receive() }
                    if round % 3 != 0 { await settle() }
                    if round % 3 == 2 {
                        // The datagram is there; the receive may have it or not.
                        try await client.send([UInt8(round)])
                        receiving.cancel()
                        if let datagram = try? await receiving.value {
                            #expect(datagram.bytes == [UInt8(round)])
                            continue
                        }
                    } else {
                        receiving.cancel()
                        #expect(await ioError(of: receiving)?.cause == .cancelled)
                        try await client.send([UInt8(round)])
                    }
                    #expect(try await server.receive().bytes == [UInt8(round)])
                }
                await client.close()
                await server.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func closingEndsWhoWaits(world: World) throws {
            try world.run {
                let server = try await UDPSocket.bind(to: .loopback(port: 0))
                let receiving = start { try await server.receive() }
                await settle()
                let second = await ioError { try await server.receive() }
                #expect(second?.cause == .busy)
                await server.close()
                await server.close()
                #expect(await ioError(of: receiving)?.cause == .closed)
                let error = await ioError { try await server.receive() }
                let text = "receive on \(server.localAddress): it is closed (do not use it after close())"
                #expect(error?.description == text)
                let sending = await ioError { try await server.send([1], to: server.localAddress) }
                #expect(sending?.cause == .closed)
                let joining = await ioError { try server.join(SocketAddress("239.1.2.3", port: 0)!) }
                #expect(joining?.cause == .closed)
            }
        }

        @Test(arguments: World.allCases) func whatIsDroppedIsClosed(world: World) throws {
            try world.run {
                for _ in 0..<20 { _ = try await UDPSocket.bind(to: .loopback(port: 0)) }
                try await Task.sleep(for: .milliseconds(1))
            }
        }

        /// Any number of tasks may send; from anywhere.
        @Test(arguments: World.real) func manyTasksSendAtOnce(world: World) throws {
            try world.run {
                let server = try await UDPSocket.bind(to: .loopback(port: 0))
                let client = try await UDPSocket.connect(to: server.localAddress)
                let senders = (0..<50).map { index in start { try await client.send([UInt8(index)]) } }
                let stranger = Task.detached { try await client.send([50]) }
                var seen: Set<UInt8> = []
                for _ in 0...50 { seen.insert(try await server.receive().bytes[0]) }
                #expect(seen == Set(0...50))
                for sender in senders { try await sender.value }
                try await stranger.value
                await client.close()
                await server.close()
            }
        }

        // MARK: Options

        @Test(arguments: World.real) func optionsAreWhatWasAskedFor(world: World) throws {
            try world.run {
                for address in Machine.loopbacks {
                    var options = UDPSocket.Options()
                    options.reusesAddress = true
                    options.allowsBroadcast = true
                    options.receiveBufferSize = 30_000
                    options.sendBufferSize = 20_000
                    options.timeToLive = 7
                    options.multicastTimeToLive = 3
                    options.hearsOwnMulticast = false
                    options.multicastInterface = "lo"
                    options.isIPv6Only = true
                    let socket = try await UDPSocket.bind(to: address, options: options)
                    #expect(try socket.receiveBufferSize == 60_000, "the kernel doubles it")
                    #expect(try socket.sendBufferSize == 40_000)
                    #expect(try socket.timeToLive == 7)
                    let (driver, descriptor) = (loop.driver, socket.socket.descriptor)
                    #expect(try driver.numberOption(SocketOption(SOL_SOCKET, SO_BROADCAST), of: descriptor) == 1)
                    #expect(try driver.numberOption(SocketOption(SOL_SOCKET, SO_REUSEADDR), of: descriptor) == 1)
                    await socket.close()
                }
                var wrong = UDPSocket.Options()
                wrong.multicastInterface = "no-such-interface"
                let error = await ioError { try await UDPSocket.bind(to: .loopback(port: 0), options: wrong) }
                #expect(error?.errno == Errno(rawValue: ENXIO))
            }
        }

        @Test(arguments: World.real) func aGroupIsHeardWhileOneIsAMember(world: World) throws {
            try world.run {
                let group = SocketAddress("239.77.1.2", port: 0)!
                let member = try await UDPSocket.bind(to: .any(port: 0))
                try member.join(group, on: "lo")
                #expect(
                    await ioError { try member.join(group, on: "lo") }?.description.contains("member already") == true)
                var options = UDPSocket.Options()
                options.multicastInterface = "lo"
                let sender = try await UDPSocket.bind(to: .any(port: 0), options: options)
                var destination = group
                destination.port = member.localAddress.port
                try await sender.send([1, 2, 3], to: destination)
                #expect(try await member.receive().bytes == [1, 2, 3])
                try member.leave(group, on: "lo")
                try await sender.send([4], to: destination)
                try await sender.send([5], to: .loopback(port: destination.port))
                #expect(try await member.receive().bytes == [5], "the group is not heard any more")
                #expect(await ioError { try member.leave(group, on: "lo") }?.errno == .addressNotAvailable)
                #expect(await ioError { try member.join(group, on: "none") }?.description.contains("none") == true)
                await sender.close()
                await member.close()
            }
        }

        @Test(arguments: World.real) func anIPv6GroupIsJoinedAndLeft(world: World) throws {
            try world.run {
                let group = SocketAddress("ff02::4321", port: 0)!
                func isListed() -> Bool {
                    String(decoding: contents(ofFile: "/proc/net/igmp6")!, as: UTF8.self).split(separator: "\n")
                        .contains { $0.contains(" lo ") && $0.contains("ff020000000000000000000000004321") }
                }
                let member = try await UDPSocket.bind(to: .any6(port: 0))
                #expect(!isListed())
                try member.join(group, on: "lo")
                #expect(isListed())
                try member.leave(group, on: "lo")
                #expect(!isListed())
                await member.close()
            }
        }

        // MARK: Many in one piece

        @Test(arguments: World.real) func manyDatagramsCostFewOperations(world: World) throws {
            try world.run {
                for address in Machine.loopbacks {
                    var options = UDPSocket.Options()
                    options.coalesces = true
                    let server = try await UDPSocket.bind(to: address, options: options)
                    let client = try await UDPSocket.connect(to: server.localAddress)
                    let bytes = pattern(100 * 1000 + 10)
                    let before = statistics.operations
                    try await client.send(bytes, inDatagramsOf: 1000)
                    #expect(client.mayUseSegmentation != true || statistics.operations - before == 2)
                    let received = statistics.operations
                    var all: [UInt8] = []
                    for index in 0...100 {
                        let datagram = try await server.receive()
                        #expect(datagram.bytes.count == (index < 100 ? 1000 : 10) && !datagram.isTruncated)
                        #expect(datagram.sender == client.localAddress)
                        all += datagram.bytes
                    }
                    #expect(all == bytes)
                    #expect(!server.coalesces || statistics.operations - received < 20)
                    // A receiver that takes them apart by itself sees the same; and each can be cut off.
                    try await client.send(pattern(30), inDatagramsOf: 10)
                    for index in 0..<3 {
                        let datagram = try await server.receive(upTo: 4)
                        #expect(datagram.bytes == Array(pattern(30)[index * 10..<index * 10 + 4]))
                        #expect(datagram.fullSize == 10 && datagram.isTruncated)
                    }
                    await client.close()
                    await server.close()
                }
            }
        }

        /// Without the kernel's help it is the same, with more calls. A datagram larger than any packet needs that too.
        @Test(arguments: World.real) func withoutTheKernelsHelpItIsTheSame(world: World) throws {
            try world.run {
                let server = try await UDPSocket.bind(to: .loopback(port: 0))
                let client = try await UDPSocket.bind(to: .loopback(port: 0))
                client.mayUseSegmentation = false
                for size in [1, 7, 50] {
                    try await client.send(pattern(50), inDatagramsOf: size, to: server.localAddress)
                    var all: [UInt8] = []
                    while all.count < 50 {
                        let datagram = try await server.receive()
                        #expect(datagram.bytes.count == min(size, 50 - all.count))
                        all += datagram.bytes
                    }
                    #expect(all == pattern(50))
                }
                client.mayUseSegmentation = nil
                try await client.send(pattern(3 * 20_000), inDatagramsOf: 20_000, to: server.localAddress)
                for index in 0..<3 {
                    #expect(try await server.receive().bytes == pattern(20_000, from: index * 20_000))
                }
                try await client.send([], inDatagramsOf: 5, to: server.localAddress)
                let error = await ioError { try await client.send([1], inDatagramsOf: 0, to: server.localAddress) }
                #expect(error?.description.contains("0 is no size for a datagram") == true)
                await client.close()
                await server.close()
            }
        }
    }
}
