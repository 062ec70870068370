// Unix-domain sockets that keep messages apart, and descriptors that go with messages.

import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct UnixMessageTests {
        /// A file without a name that tests pass on, and how many descriptors stand for it.
        private final class Witness: Sendable {
            let path = "/tmp/rondo-test-passed-\(getpid())"
            let file: FileDescriptor
            private let simulation = World.simulation

            init() throws {
                if let simulation {
                    simulation.files.write(path, "passed on")
                    file = try #require(simulation.files.open(path))
                    simulation.files.remove(path)
                    return
                }
                file = try FileDescriptor.open(
                    FilePath(path), .readWrite, options: [.create, .truncate, .closeOnExec],
                    permissions: .ownerReadWrite)
                try file.writeAll("passed on".utf8)
                unsafe unlink(path)
            }

            deinit {
                if let simulation { simulation.files.close(file) } else { try? file.close() }
            }

            var count: Int {
                if let simulation { return simulation.openDescriptors.count { $0.contains(path) } }
                return names(in: "/proc/self/fd").count { linkTarget("/proc/self/fd/\($0)") == path + " (deleted)" }
            }
        }

        /// Runs `body` in a world with a witness, for which one descriptor stands before and afterwards.
        private func run(_ world: World, _ body: @escaping @Sendable (Witness) async throws -> Void) throws {
            try world.run {
                let witness = try Witness()
                #expect(witness.count == 1)
                try await body(witness)
                #expect(witness.count == 1)
            }
        }

        // MARK: Datagrams

        @Test(arguments: World.allCases) func aThousandDatagramsArriveInOrder(world: World) throws {
            try world.run {
                let (one, other) = try UnixDatagramSocket.pair()
                let sending = start {
                    for index in 0..<1000 { try await one.send(pattern(index % 300, from: index)) }
                }
                for index in 0..<1000 {
                    let message = try await other.receive()
                    #expect(message.bytes == pattern(index % 300, from: index))
                    #expect(!message.isTruncated && message.descriptors.isEmpty && message.sender.isUnnamed)
                }
                try await sending.value
                await one.close()
                await other.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        /// The kernel does not tell when a receiver has room again that one is not connected to: it is waited for all
        /// the same, and other receivers are not kept waiting.
        @Test(arguments: World.allCases) func aFullReceiverIsWaitedFor(world: World) throws {
            try world.runInFolder { folder in
                let slow = try await UnixDatagramSocket.bind(to: .path(FilePath("\(folder)/slow")))
                let quick = try await UnixDatagramSocket.bind(to: .path(FilePath("\(folder)/quick")))
                let sender = try await UnixDatagramSocket.bind(to: .path(FilePath("\(folder)/sender")))
                let connected = try await UnixDatagramSocket.connect(to: slow.localAddress)
                let sent = Counter()
                let sending = start {
                    for index in 0..<200 {
                        try await sender.send([UInt8(index)], to: slow.localAddress)
                        sent.add()
                    }
                }
                var last = -1
                while sent.value != last {
                    last = sent.value
                    for _ in 0..<10 { try await Task.sleep(for: .microseconds(200)) }
                }
                #expect(sent.value < 200, "the queue is full")
                try await sender.send([1, 2], to: quick.localAddress)
                let message = try await quick.receive()
                #expect(message.bytes == [1, 2] && message.sender == sender.localAddress)
                let cancelled = start { try await sender.send([9], to: slow.localAddress) }
                let other = start { try await connected.send([8]) }
                await settle()
                cancelled.cancel()
                #expect(await ioError(of: cancelled)?.cause == .cancelled)
                other.cancel()
                #expect(await ioError(of: other)?.cause == .cancelled)
                for index in 0..<200 {
                    let message = try await slow.receive()
                    #expect(message.bytes == [UInt8(index)])
                }
                try await sending.value
                for socket in [slow, quick, sender, connected] { await socket.close() }
                #expect(try await Directory.entries(of: folder) == [])
            }
        }

        @Test(arguments: World.allCases) func datagramErrorsNameTheAddress(world: World) throws {
            try world.run {
                let socket = try await UnixDatagramSocket.bind(to: .unnamed)
                let nobody = UnixAddress.abstract("rondo-nobody-\(getpid())")
                let refused = await ioError { try await socket.send([1], to: nobody) }
                #expect(refused?.description == "send to \(nobody): Connection refused (is the server running?)")
                let connecting = await ioError { try await UnixDatagramSocket.connect(to: nobody) }
                #expect(connecting?.description == "connect to \(nobody): Connection refused (is the server running?)")
                let nowhere = await ioError { try await socket.send([1]) }
                #expect(nowhere?.errno == Errno(rawValue: ENOTCONN))
                await socket.close()
                #expect(await ioError { try await socket.send([1], to: nobody) }?.cause == .closed)
                #expect(await ioError { try await socket.receive() }?.cause == .closed)
            }
        }

        /// A connected socket learns that its peer has gone when it sends.
        @Test(arguments: World.allCases) func datagramsToWhoHasGoneAreRefused(world: World) throws {
            try world.runInFolder { folder in
                let hub = try await UnixDatagramSocket.bind(to: .path(folder.appending("hub")))
                let (one, other) = try UnixDatagramSocket.pair()
                try await one.send([1])
                #expect(try await other.receive().sender == .unnamed)
                let client = try await UnixDatagramSocket.connect(to: hub.localAddress)
                try await client.send([2])
                let message = try await hub.receive()
                #expect(message.bytes == [2] && message.sender == .unnamed)
                await hub.close()
                #expect(await ioError { try await client.send([4]) }?.errno == .connectionRefused)
                #expect(await ioError { try await client.send([5]) }?.errno == Errno(rawValue: ENOTCONN))
                let listener = try await UnixListener.listen(on: .path(folder.appending("stream")))
                let mistaken = await ioError { try await other.send([6], to: listener.localAddress) }
                #expect(mistaken?.errno == Errno(rawValue: EPROTOTYPE))
                // What arrived before its sender closed is there.
                try await one.send([7])
                await one.close()
                #expect(try await other.receive().bytes == [7])
                for socket in [other, client] { await socket.close() }
                await listener.close()
            }
        }

        @Test(arguments: World.allCases) func closingWithUnreadMessagesIsAReset(world: World) throws {
            try world.run {
                let (one, other) = try UnixSeqpacket.pair()
                try await one.send([1])
                try await other.send([2])
                await one.close()
                // The error comes before what had arrived.
                #expect(await ioError { try await other.receive() }?.errno == .connectionReset)
                #expect(try await other.receive()?.bytes == [1])
                #expect(try await other.receive() == nil)
                #expect(await ioError { try await other.send([3]) }?.errno == .brokenPipe)
                await other.close()
            }
        }

        // MARK: Seqpacket

        @Test(arguments: World.allCases) func messagesKeepTheirBoundaries(world: World) throws {
            try world.run {
                let address = UnixAddress.abstract("rondo-seqpacket-\(getpid())-\(world)")
                let listener = try await UnixSeqpacketListener.listen(on: address)
                let serving = start {
                    try await listener.serve { connection in
                        while let message = try await connection.receive() { try await connection.send(message.bytes) }
                    }
                }
                let client = try await UnixSeqpacket.connect(to: address)
                #expect(try client.peerAddress == address)
                for size in [1, 0, 1000, 0, 0, 60_000, 2] {
                    try await client.send(pattern(size))
                    let answer = try await client.receive()
                    #expect(answer?.bytes == pattern(size) && answer?.isTruncated == false)
                }
                try await client.finishSending()
                #expect(try await client.receive() == nil, "the peer has seen the end, and closed")
                #expect(try await client.receive() == nil, "the end stays the end")
                let late = await ioError { try await client.send([1]) }
                #expect(late?.errno == .brokenPipe && late?.subject == "\(address)")
                await client.close()
                serving.cancel()
                #expect(await ioError(of: serving)?.cause == .cancelled)
                await listener.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func aMessageLongerThanItsRoomSaysSo(world: World) throws {
            try world.run {
                let (one, other) = try UnixSeqpacket.pair()
                try await one.send(pattern(5000))
                try await one.send([])
                try await one.send([3])
                let cut = try await other.receive(upTo: 100)
                #expect(cut?.bytes == pattern(100) && cut?.fullSize == 5000 && cut?.isTruncated == true)
                #expect(try await other.receive(upTo: 0)?.isTruncated == false)
                #expect(try await other.receive()?.bytes == [3])
                let tooLong = await ioError { try await one.send(pattern(4 << 20)) }
                #expect(tooLong?.errno == Errno(rawValue: EMSGSIZE))
                await one.close()
                #expect(try await other.receive() == nil)
                await other.close()
            }
        }

        @Test(arguments: World.allCases) func aFullPeerIsWaitedForByManySenders(world: World) throws {
            try world.run {
                let (one, other) = try UnixSeqpacket.pair()
                let sent = Counter()
                let senders = (0..<40).map { index in
                    start {
                        for number in 0..<10 {
                            try await one.send([UInt8(index), UInt8(number)] + pattern(5000))
                            sent.add()
                        }
                    }
                }
                for _ in 0..<20 { await settle() }
                #expect(sent.value < 400)
                // One that stands in line, and the one that is on its way, are cancelled.
                senders[39].cancel()
                #expect(await ioError(of: senders[39])?.cause == .cancelled)
                let receiving = start {
                    var numbers = [Int](repeating: 0, count: 40)
                    while let message = try await other.receive() {
                        #expect(message.bytes[2...] == pattern(5000)[...])
                        #expect(Int(message.bytes[1]) == numbers[Int(message.bytes[0])], "in order")
                        numbers[Int(message.bytes[0])] += 1
                    }
                    return numbers
                }
                for sender in senders.dropLast() { try await sender.value }
                await one.close()
                #expect(try await receiving.value.dropLast() == Array(repeating: 10, count: 39)[...])
                await other.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func closingEndsWhoWaits(world: World) throws {
            try world.run {
                let (one, other) = try UnixSeqpacket.pair()
                let receiving = start { try await one.receive() }
                let senders = (0..<3).map { _ in
                    start { while true { try await one.send(pattern(10_000)) } }
                }
                for _ in 0..<20 { await settle() }
                #expect(await ioError { try await one.receive() }?.cause == .busy)
                await one.close()
                #expect(await ioError(of: receiving)?.cause == .closed)
                for sender in senders { #expect(await ioError(of: sender)?.cause == .closed) }
                await other.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        // MARK: Descriptors

        private func content(of descriptor: ReceivedDescriptor?) async throws -> String {
            let file = try #require(descriptor?.fileDescriptor)
            if World.simulation == nil { #expect(fcntl(file.rawValue, F_GETFD) & FD_CLOEXEC != 0) }
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 100, alignment: 1)
            defer { unsafe memory.deallocate() }
            var text = ""
            while true {
                // A simulation reads a part of what there is.
                let answer = await unsafe loop.perform(
                    .read(
                        Descriptor(rawValue: file.rawValue), memory.baseAddress!, count: 100,
                        offset: UInt64(text.utf8.count)))
                try #require(answer >= 0)
                if answer == 0 { return text }
                unsafe text += String(decoding: memory[..<Int(answer)], as: UTF8.self)
            }
        }

        @Test(arguments: World.allCases) func descriptorsArePassedOn(world: World) throws {
            try run(world) { witness in
                let (one, other) = try UnixStream.pair()
                try await one.write(Array("two".utf8), passing: [witness.file, witness.file])
                try await one.write("none")
                var message = try await other.readMessage()
                #expect(message?.bytes == Array("two".utf8) && message?.descriptors.count == 2)
                #expect(message?.lostDescriptors == false && message?.isTruncated == false)
                #expect(try await content(of: message?.descriptors.first) == "passed on")
                #expect(witness.count == 3)
                let taken = try #require(message?.descriptors.last?.take())
                #expect(message?.descriptors.last?.take() == nil)
                message = nil
                #expect(witness.count == 2, "what was not taken is closed")
                loop.driver.closeNow(Descriptor(rawValue: taken.rawValue))
                message = try await other.readMessage()
                #expect(message?.bytes == Array("none".utf8) && message?.descriptors.isEmpty == true)
                // More bytes than there is room for anywhere, with descriptors before them.
                let many = pattern(1 << 20)
                let writing = start { try await one.write(many, passing: [witness.file]) }
                var all: [UInt8] = []
                var descriptors: [ReceivedDescriptor] = []
                while all.count < many.count, let part = try await other.readMessage() {
                    all += part.bytes
                    descriptors += part.descriptors
                }
                try await writing.value
                #expect(all == many && descriptors.count == 1)
                await one.close()
                #expect(try await other.readMessage() == nil)
                await other.close()
            }
        }

        /// A read goes up to the bytes that descriptors came with, and no further.
        @Test(arguments: World.allCases) func descriptorsEndARead(world: World) throws {
            try run(world) { witness in
                let (one, other) = try UnixStream.pair()
                try await one.write([1])
                for number in [2, 3] as [UInt8] { try await one.write([number], passing: [witness.file]) }
                try await one.write([4])
                for expected in [[1, 2], [3]] as [[UInt8]] {
                    let message = try await other.readMessage()
                    #expect(message?.bytes == expected && message?.descriptors.count == 1)
                }
                let message = try await other.readMessage()
                #expect(message?.bytes == [4] && message?.descriptors.count == 0)
                for each in [one, other] { await each.close() }
            }
        }

        @Test(arguments: World.allCases) func messagesCarryDescriptorsToo(world: World) throws {
            try run(world) { witness in
                let (one, other) = try UnixSeqpacket.pair()
                try await one.send([], passing: [witness.file])
                let message = try await other.receive()
                #expect(message?.bytes == [] && message?.descriptors.count == 1)
                #expect(try await content(of: message?.descriptors.first) == "passed on")
                let (left, right) = try UnixDatagramSocket.pair()
                try await left.send([1], passing: [witness.file])
                #expect(try await content(of: try await right.receive().descriptors.first) == "passed on")
                for each in [one, other] { await each.close() }
                for each in [left, right] { await each.close() }
            }
        }

        /// A peer that sends as many as it can, to who wants few or none: nothing is left behind.
        @Test(arguments: World.allCases) func descriptorsThatNobodyWantsAreClosed(world: World) throws {
            try run(world) { witness in
                let (one, other) = try UnixStream.pair()
                let all = Array(repeating: witness.file, count: 253)
                for limit in [0, 1, 2, 3, 16, 252, 253, 1000] {
                    try await one.write([1], passing: all)
                    let message = try await other.readMessage(descriptors: limit)
                    #expect(message?.bytes == [1])
                    #expect(message?.descriptors.count == min(limit, 253))
                    #expect(message?.lostDescriptors == (limit < 253))
                    #expect(witness.count == 1 + min(limit, 253))
                    _ = consume message
                    #expect(witness.count == 1)
                }
                let error = await ioError { try await one.write([1], passing: all + [witness.file]) }
                #expect(error?.description.hasSuffix("254 descriptors: at most 253 go with one message") == true)
                let empty = await ioError { try await one.write([], passing: [witness.file]) }
                #expect(empty?.description.hasSuffix("descriptors need a byte that they go with") == true)
                let closed = await ioError { try await one.write([1], passing: [FileDescriptor(rawValue: 99_999)]) }
                #expect(closed?.errno == .badFileDescriptor)
                // read() takes no descriptors, and no byte is lost behind them.
                for index in 0..<50 { try await one.write([UInt8(index)], passing: [witness.file]) }
                #expect(try await other.readExactly(50) == Array(0..<50))
                #expect(witness.count == 1)
                let refused = await ioError { try await other.readMessage() }
                #expect(refused?.description.contains("read() was used before") == true)
                for each in [one, other] { await each.close() }
                let (left, right) = try UnixSeqpacket.pair()
                try await left.send([5], passing: all)
                let message = try await right.receive(descriptors: 1)
                #expect(message?.descriptors.count == 1 && message?.lostDescriptors == true)
                for each in [left, right] { await each.close() }
            }
        }

        /// Whatever a cancelled receiver does, each descriptor arrives once and has an owner.
        @Test(arguments: World.allCases) func descriptorsSurviveCancellation(world: World) throws {
            try run(world) { witness in
                let (one, other) = try UnixStream.pair()
                var received = 0
                for round in 0..<60 {
                    let reading = start { try await other.readMessage() }
                    if round % 4 != 0 { await settle() }
                    switch round % 3 {
                    case 0:
                        reading.cancel()
                        try await one.write([UInt8(round)], passing: [witness.file])
                    case 1:
                        let writing = start { try await one.write([UInt8(round)], passing: [witness.file]) }
                        reading.cancel()
                        try await writing.value
                    default:
                        try await one.write([UInt8(round)], passing: [witness.file])
                        reading.cancel()
                    }
                    var message = try? await reading.value
                    if message == nil { message = try await other.readMessage() }
                    #expect(message?.bytes == [UInt8(round)] && message?.descriptors.count == 1)
                    received += message?.descriptors.count ?? 0
                }
                #expect(received == 60)
                for each in [one, other] { await each.close() }
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func closingAndBusyOfMessages(world: World) throws {
            try run(world) { witness in
                let (one, other) = try UnixStream.pair()
                let reading = start { try await other.readMessage() }
                await settle()
                #expect(await ioError { try await other.readMessage() }?.cause == .busy)
                #expect(await ioError { try await other.readExactly(1) }?.cause == .busy)
                await other.close()
                #expect(await ioError(of: reading)?.cause == .closed)
                #expect(await ioError { try await other.readMessage() }?.cause == .closed)
                // Descriptors that are on their way when both ends close.
                let (left, right) = try UnixStream.pair()
                try await left.write([1], passing: [witness.file])
                for each in [one, left, right] { await each.close() }
                // After messages, bytes.
                let (first, second) = try UnixStream.pair()
                try await first.write([1], passing: [witness.file])
                #expect(try await second.readMessage()?.descriptors.count == 1)
                try await first.write([2, 3])
                #expect(try await second.readExactly(2) == [2, 3])
                for each in [first, second] { await each.close() }
            }
        }
    }
}
