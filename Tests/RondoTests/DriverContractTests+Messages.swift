// What every real driver promises of messages: datagrams, seqpacket, what comes along with them.

import CRondo
import Glibc
import SystemPackage
import Testing

@testable import Rondo

@Suite("Driver contract of messages", .serialized)
struct MessageContractTests {
    /// A message that is received, with room for one descriptor.
    @safe
    private final class Receipt {
        let memory = MessageMemory()
        let flight: Flight
        private let harness: DriverHarness

        /// What the operation has answered, waited for. Nothing else keeps what the operation points to.
        var result: Int32 {
            get throws { try withExtendedLifetime(self) { try harness.result(of: flight) } }
        }

        init(_ harness: DriverHarness, _ socket: Descriptor, upTo limit: Int = 100, flags: Int32 = 0) {
            self.harness = harness
            memory.prepareToReceive(upTo: limit, controlSize: UnixControl.size(descriptors: 1))
            flight = unsafe harness.start(.receiveMessage(socket, memory.header, flags: flags))
        }
    }

    /// A message that is sent.
    @safe
    private final class Dispatch {
        let memory = MessageMemory()
        let content: UnsafeMutableRawBufferPointer
        let flight: Flight
        private let harness: DriverHarness

        /// What the operation has answered, waited for. Nothing else keeps what the operation points to.
        var result: Int32 {
            get throws { try withExtendedLifetime(self) { try harness.result(of: flight) } }
        }

        init(
            _ harness: DriverHarness, _ socket: Descriptor, _ bytes: [UInt8], to name: SocketName? = nil,
            control: [UInt8] = [], flags: Int32 = 0
        ) {
            self.harness = harness
            unsafe content = .allocate(byteCount: max(1, bytes.count), alignment: 1)
            unsafe content.copyBytes(from: bytes)
            unsafe memory.prepareToSend(
                UnsafeRawBufferPointer(rebasing: content[..<bytes.count]), to: name, control: control)
            flight = unsafe harness.start(.sendMessage(socket, UnsafePointer(memory.header), flags: flags))
        }

        deinit { unsafe content.deallocate() }
    }

    private static let dontWait = Int32(MSG_DONTWAIT)

    private func receiver(_ harness: DriverHarness) throws -> (socket: Descriptor, address: SocketAddress) {
        let socket = try harness.driver.openSocket(.datagram(of: .loopback(port: 0)))
        try harness.driver.bind(socket, to: SocketName(.loopback(port: 0)))
        return (socket, try harness.driver.localAddress(of: socket))
    }

    @Test(arguments: DriverWorld.usable)
    func datagramsArriveWithTheirSender(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (server, address) = try receiver(harness)
        let (client, clientAddress) = try receiver(harness)
        for size in [0, 1, 50, 100] {
            // One that waits, and one that finds it there.
            for isEarly in [true, false] {
                let early = isEarly ? Receipt(harness, server) : nil
                if isEarly { harness.settle() }
                let sending = Dispatch(harness, client, pattern(size), to: SocketName(address))
                #expect(try sending.result == Int32(size))
                let receiving = early ?? Receipt(harness, server)
                #expect(try receiving.result == Int32(size))
                #expect(receiving.memory.bytes(size) == pattern(size))
                #expect(receiving.memory.internetSender == clientAddress)
                #expect(!receiving.memory.isTruncated)
            }
        }
        try harness.close(server, client)
        harness.finish()
    }

    /// Each message is received by itself, however many wait, and none is forgotten behind a short one.
    @Test(arguments: DriverWorld.usable)
    func waitingMessagesAreReceivedOneByOne(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (one, other) = try harness.driver.openSocketPair(.unixSeqpacket)
        for round in 0..<20 {
            for index in 0..<9 {
                let sending = Dispatch(harness, one, pattern(index + 1, from: round))
                #expect(try sending.result == Int32(index + 1))
            }
            for index in 0..<9 {
                let receiving = Receipt(harness, other)
                #expect(try receiving.result == Int32(index + 1))
                #expect(receiving.memory.bytes(index + 1) == pattern(index + 1, from: round))
            }
        }
        try harness.close(one)
        let last = Receipt(harness, other)
        #expect(try last.result == 0, "the end")
        try harness.close(other)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func whatIsTooLongIsCutOffOrRefused(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (server, address) = try receiver(harness)
        let (client, _) = try receiver(harness)
        for flags in [0, Int32(MSG_TRUNC)] {
            let sending = Dispatch(harness, client, pattern(1000), to: SocketName(address))
            #expect(try sending.result == 1000)
            let receiving = Receipt(harness, server, upTo: 10, flags: flags)
            #expect(try receiving.result == (flags == 0 ? 10 : 1000))
            #expect(receiving.memory.bytes(1000) == pattern(10))
            #expect(receiving.memory.isTruncated)
        }
        let tooLong = Dispatch(harness, client, pattern(65_508), to: SocketName(address))
        #expect(try tooLong.result == -EMSGSIZE)
        let nowhere = Dispatch(harness, client, pattern(1))
        #expect(try nowhere.result == -EDESTADDRREQ)
        try harness.close(server, client)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func badDescriptorsAreRefused(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let file = Descriptor(rawValue: unsafe open("/proc/self/exe", O_RDONLY | O_CLOEXEC))
        let cases = [(Descriptor(rawValue: -1), -EBADF), (Descriptor(rawValue: 1_000_003), -EBADF), (file, -ENOTSOCK)]
        for (descriptor, expected) in cases {
            #expect(try Receipt(harness, descriptor).result == expected)
            #expect(try Dispatch(harness, descriptor, [1]).result == expected)
        }
        try harness.close(file)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func receivingIsCancelled(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (one, other) = try harness.driver.openSocketPair(.unixDatagram)
        // Before it was handed over, while it waits, and together with a message.
        let never = Receipt(harness, other)
        harness.cancel(never.flight)
        #expect(try never.result == -ECANCELED)
        let waiting = Receipt(harness, other)
        harness.settle()
        harness.cancel(waiting.flight)
        harness.cancel(waiting.flight)
        #expect(try waiting.result == -ECANCELED)
        for _ in 0..<50 {
            let contested = Receipt(harness, other)
            harness.turn(until: 0)
            let sending = Dispatch(harness, one, [7])
            harness.cancel(contested.flight)
            #expect(try sending.result == 1)
            let answer = try contested.result
            #expect([1, -ECANCELED].contains(answer))
            if answer == -ECANCELED {
                let next = Receipt(harness, other)
                #expect(try next.result == 1, "the message is still there")
            }
        }
        // After it has ended.
        let sending = Dispatch(harness, one, [8])
        let done = Receipt(harness, other)
        #expect(try done.result == 1)
        harness.cancel(done.flight)
        harness.cancel(sending.flight)
        #expect(try sending.result == 1)
        try harness.close(one, other)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func sendingWaitsForRoomAndIsCancelled(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (one, other) = try harness.driver.openSocketPair(.unixSeqpacket)
        // Until there is no room: with MSG_DONTWAIT that is told.
        var sent = 0
        while true {
            let answer = try Dispatch(harness, one, pattern(1000), flags: Self.dontWait).result
            if answer == -EAGAIN { break }
            #expect(answer == 1000)
            sent += 1
        }
        let never = Dispatch(harness, one, [1])
        harness.cancel(never.flight)
        #expect(try never.result == -ECANCELED)
        let given = Dispatch(harness, one, [1])
        harness.settle()
        harness.cancel(given.flight)
        #expect(try given.result == -ECANCELED)
        let waiting = Dispatch(harness, one, [2])
        harness.settle()
        #expect(waiting.flight.result == nil, "there is no room")
        for _ in 0..<sent { #expect(try Receipt(harness, other, upTo: 1000).result == 1000) }
        #expect(try waiting.result == 1)
        let last = Receipt(harness, other)
        #expect(try last.result == 1)
        #expect(last.memory.bytes(1) == [2], "what was cancelled was not sent")
        try harness.close(other)
        #expect(try Dispatch(harness, one, [1]).result == -EPIPE)
        try harness.close(one)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func dontWaitDoesNotWait(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (one, other) = try harness.driver.openSocketPair(.unixDatagram)
        for _ in 0..<3 {
            #expect(try Receipt(harness, other, flags: Self.dontWait).result == -EAGAIN)
        }
        #expect(try Dispatch(harness, one, [1], flags: Self.dontWait).result == 1)
        #expect(try Receipt(harness, other, flags: Self.dontWait).result == 1)
        try harness.close(one, other)
        harness.finish()
    }

    /// ICMP's word that nobody is there reaches a receive that waits, and one that comes later.
    @Test(arguments: DriverWorld.usable)
    func aConnectedDatagramSocketHearsOfRefusals(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (gone, address) = try receiver(harness)
        try harness.close(gone)
        let socket = try harness.driver.openSocket(.datagram(of: address))
        #expect(try harness.result(of: harness.connect(socket, to: address)) == 0)
        for isEarly in [true, false] {
            let early = isEarly ? Receipt(harness, socket) : nil
            if isEarly { harness.settle() }
            #expect(try Dispatch(harness, socket, [1]).result == 1)
            let receiving = early ?? Receipt(harness, socket)
            #expect(try receiving.result == -ECONNREFUSED)
        }
        try harness.close(socket)
        harness.finish()
    }

    /// A receive on a Unix stream ends behind bytes that came with descriptors. What waits behind them is not lost,
    /// and descriptors that nobody takes are closed.
    @Test(arguments: DriverWorld.usable)
    func bytesBehindPassedDescriptorsAreReceived(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (one, other) = try harness.driver.openSocketPair(.unixStream)
        // What is passed is a pipe of its own, so that it is known by its name: other tests open files meanwhile.
        let pipe = try harness.driver.openPipe()
        let name = linkTarget("/proc/self/fd/\(pipe.reader.rawValue)")
        func copies() -> Int { names(in: "/proc/self/fd").count { linkTarget("/proc/self/fd/\($0)") == name } }
        let before = copies()
        #expect(before == 2)
        let control = UnixControl.message(passing: [FileDescriptor(rawValue: pipe.reader.rawValue)])!
        for isEarly in [true, false] {
            let early = isEarly ? harness.receive(other) : nil
            if isEarly { harness.settle() }
            var expected: [UInt8] = []
            for index in 0..<40 {
                let bytes = pattern(10, from: index)
                let sending = Dispatch(harness, one, bytes, control: index % 2 == 0 ? control : [])
                #expect(try sending.result == 10)
                expected += bytes
            }
            let receiving = early ?? harness.receive(other)
            try harness.run("400 bytes") { receiving.bytes.count == expected.count }
            #expect(receiving.bytes == expected)
            harness.cancel(receiving)
            #expect(try harness.result(of: receiving) == -ECANCELED)
        }
        #expect(copies() == before)
        try harness.close(one, other, pipe.reader, pipe.writer)
        harness.finish()
    }

    /// The same for a connection that was accepted: what the driver knows of it comes from its listener.
    @Test(arguments: DriverWorld.usable)
    func acceptedUnixConnectionsAreReadToTheEnd(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let address = UnixAddress.abstract("rondo-contract-\(getpid())").socketName
        let listener = try harness.driver.openSocket(.unixStream)
        try harness.driver.bind(listener, to: address)
        try harness.driver.startListening(listener, backlog: 8)
        let client = try harness.driver.openSocket(.unixStream)
        let accepting = harness.accept(listener)
        #expect(try harness.result(of: connect(harness, client, address)) == 0)
        try harness.run("a connection") { accepting.descriptors.count == 1 }
        let server = accepting.descriptors[0]
        let control = UnixControl.message(passing: [FileDescriptor(rawValue: 0)])!
        for index in 0..<5 {
            let sending = Dispatch(harness, client, pattern(10, from: index), control: control)
            #expect(try sending.result == 10)
        }
        let receiving = harness.receive(server)
        try harness.run("50 bytes") { receiving.bytes.count == 50 }
        for flight in [receiving, accepting] {
            harness.cancel(flight)
            #expect(try harness.result(of: flight) == -ECANCELED)
        }
        let nobody = try harness.driver.openSocket(.unixStream)
        let refused = connect(harness, nobody, UnixAddress.abstract("rondo-nobody").socketName)
        #expect(try harness.result(of: refused) == -ECONNREFUSED)
        #expect(try harness.result(of: connect(harness, Descriptor(rawValue: -1), address)) == -EBADF)
        try harness.close(client, server, listener, nobody)
        harness.finish()
    }

    /// A full queue: io_uring waits for room, epoll says EAGAIN. Cancelling ends the wait.
    @Test(arguments: DriverWorld.usable)
    func connectingToAFullQueueIsCancelled(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let address = UnixAddress.abstract("rondo-full-\(getpid())").socketName
        let listener = try harness.driver.openSocket(.unixSeqpacket)
        try harness.driver.bind(listener, to: address)
        try harness.driver.startListening(listener, backlog: 0)
        let sockets = try (0..<3).map { _ in try harness.driver.openSocket(.unixSeqpacket) }
        #expect(try harness.result(of: connect(harness, sockets[0], address)) == 0)
        let never = connect(harness, sockets[1], address)
        harness.cancel(never)
        #expect([-ECANCELED, -EAGAIN].contains(try harness.result(of: never)))
        let waiting = connect(harness, sockets[2], address)
        harness.settle()
        if world.isUring {
            #expect(waiting.result == nil, "it waits")
            harness.cancel(waiting)
            #expect(try harness.result(of: waiting) == -ECANCELED)
        } else {
            #expect(try harness.result(of: waiting) == -EAGAIN)
        }
        for socket in sockets + [listener] { try harness.close(socket) }
        harness.finish()
    }

    private func connect(_ harness: DriverHarness, _ socket: Descriptor, _ name: SocketName) -> Flight {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: SocketName.capacity, alignment: 8)
        unsafe memory.copyBytes(from: name.bytes)
        let start = memory.baseAddress!
        return unsafe harness.start(
            .connectNamed(socket, start.assumingMemoryBound(to: sockaddr.self), length: socklen_t(name.bytes.count)),
            memory: start)
    }

    @Test(arguments: DriverWorld.usable)
    func optionsAreSetAndRead(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let driver = harness.driver
        let socket = try driver.openSocket(.datagram(of: .loopback(port: 0)))
        let option = SocketOption(SOL_SOCKET, SO_BROADCAST)
        #expect(try driver.numberOption(option, of: socket) == 0)
        try driver.setOption(option, of: socket, to: Int32(1))
        #expect(try driver.numberOption(option, of: socket) == 1)
        #expect(throws: Errno.badFileDescriptor) {
            try driver.setOption(option, of: Descriptor(rawValue: -1), to: Int32(1))
        }
        #expect(throws: Errno.badFileDescriptor) { try driver.numberOption(option, of: Descriptor(rawValue: -1)) }
        #expect(throws: Errno.badFileDescriptor) {
            try driver.bind(Descriptor(rawValue: -1), to: SocketName(.loopback(port: 0)))
        }
        #expect(throws: Errno.notSupportedOnSocket) { try driver.startListening(socket, backlog: 1) }
        try harness.close(socket)
        harness.finish()
    }
}
