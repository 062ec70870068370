import CRondo
import Glibc
import RondoTesting
import SystemPackage
import Testing

@testable import Rondo

@Suite struct SimulatedNetworkTests {
    /// Runs `body` in twenty worlds.
    private func explore(
        _ options: SimulationOptions = SimulationOptions(),
        _ body: @escaping @Sendable (Simulation) async throws -> Void
    ) throws {
        try Simulation.explore(seeds: 0..<20, options: options, body)
    }

    // MARK: Connecting

    @Test func aConnectionHasTwoAddresses() throws {
        try explore { simulation in
            let pair = try await RawPair()
            let driver = Raw.loop.driver
            try #require(try driver.peerAddress(of: pair.client) == .loopback(port: 80))
            try #require(try driver.localAddress(of: pair.server) == .loopback(port: 80))
            let port = try driver.localAddress(of: pair.client).port
            try #require((32_768...60_999).contains(port))
            try #require(try driver.peerAddress(of: pair.server) == .loopback(port: port))
            try #require(simulation.network.connectionCount == 1)
            try #require(simulation.now > .zero)
            await pair.close()
            try #require(simulation.openDescriptors.isEmpty)
        }
    }

    @Test func nobodyListens() throws {
        try explore { _ in
            let (socket, result) = try await Raw.connect(81)
            try #require(result == -ECONNREFUSED)
            // The socket can try again.
            let listener = try Raw.listen(81)
            try #require(await Raw.connect(socket, 81) == 0)
            try #require(await Raw.connect(socket, 81) == -EISCONN)
            await Raw.close(socket)
            await Raw.close(listener)
        }
    }

    @Test func aPortIsUsedOnce() throws {
        try explore { _ in
            let listener = try Raw.listen(80)
            let second = try Raw.loop.driver.openSocket(for: .loopback(port: 80))
            #expect(throws: Errno.addressInUse) {
                try Raw.loop.driver.listen(second, on: .any(port: 80), backlog: 1)
            }
            await Raw.close(listener)
            try Raw.loop.driver.listen(second, on: .any(port: 80), backlog: 1)
            let (client, result) = try await Raw.connect(80)
            try #require(result == 0)
            await Raw.close(client)
            await Raw.close(second)
        }
    }

    @Test func portZeroIsAnyFreePort() throws {
        try explore { _ in
            var ports: Set<Int> = []
            for _ in 0..<20 {
                let listener = try Raw.listen(0)
                ports.insert(try Raw.loop.driver.localAddress(of: listener).port)
            }
            try #require(ports.count == 20 && !ports.contains(0))
        }
    }

    @Test func aFullBacklogWaits() throws {
        try explore { simulation in
            let listener = try Raw.listen(80, backlog: 2)
            let results = Log<Int32>()
            try await withThrowingDiscardingTaskGroup { group in
                for _ in 0..<5 {
                    group.addTask { results.add(try await Raw.connect(80).result) }
                }
                try await Task.sleep(for: .seconds(10))
                try #require(results.entries == [0, 0])
                let (accepts, id) = Raw.accept(listener)
                for _ in 0..<5 { try #require(await accepts.next().result > 0) }
                Raw.loop.cancel(id)
                try #require(await accepts.next().result == -ECANCELED)
            }
            try #require(results.entries == [0, 0, 0, 0, 0])
        }
    }

    @Test func aBacklogThatStaysFullTimesOut() throws {
        try explore { simulation in
            _ = try Raw.listen(80, backlog: 1)
            try #require(try await Raw.connect(80).result == 0)
            try #require(try await Raw.connect(80).result == -ETIMEDOUT)
            try #require(simulation.now > .seconds(126))
        }
    }

    @Test func aClosedListenerResetsWhatItHasNotAccepted() throws {
        try explore { _ in
            let listener = try Raw.listen(80, backlog: 1)
            let (client, _) = try await Raw.connect(80)
            async let waiting = Raw.connect(80)
            try await Task.sleep(for: .seconds(1))
            await Raw.close(listener)
            try #require(await Receiving(client).untilEnd().end == -ECONNRESET)
            try #require(try await waiting.result == -ECONNREFUSED)
        }
    }

    @Test func acceptFailsWithoutDescriptors() throws {
        var options = SimulationOptions()
        options.descriptorLimit = 3
        try explore(options) { simulation in
            let listener = try Raw.listen(80)
            let (first, _) = try await Raw.connect(80)
            let (second, _) = try await Raw.connect(80)
            #expect(throws: Errno.tooManyOpenFiles) { try Raw.loop.driver.openSocket(for: .loopback(port: 80)) }
            var (accepts, _) = Raw.accept(listener)
            let completion = await accepts.next()
            try #require(completion.result == -EMFILE && !completion.more)
            await Raw.close(first)
            (accepts, _) = Raw.accept(listener)
            try #require(await accepts.next().result >= 0)
            try #require(await accepts.next().result == -EMFILE)
            _ = second
        }
    }

    // MARK: Bytes

    @Test func bytesArriveInOrderAndInPieces() throws {
        try explore { _ in
            let pair = try await RawPair()
            let bytes = (0..<50_000).map { UInt8(truncatingIfNeeded: $0 &* 31) }
            async let sent = Raw.sendAll(pair.client, bytes)
            let receiving = Receiving(pair.server)
            var received: [UInt8] = []
            var pieces = 0
            while received.count < bytes.count {
                received += await receiving.next().bytes
                pieces += 1
            }
            try #require(await sent == 0)
            try #require(received == bytes)
            try #require(pieces > 5)
            receiving.cancel()
            try #require(await receiving.next().end == -ECANCELED)
            await pair.close()
        }
    }

    @Test func aSenderWaitsForRoom() throws {
        var options = SimulationOptions()
        options.connectionCapacity = 1000
        options.partialSendOdds = 0
        try explore(options) { _ in
            let pair = try await RawPair()
            let done = Log<Int32>()
            async let sending: Void = done.add(Raw.send(pair.client, [UInt8](repeating: 5, count: 5000)))
            try await Task.sleep(for: .seconds(60))
            try #require(done.entries.isEmpty)
            let receiving = Receiving(pair.server)
            try #require(await receiving.bytes(5000).count == 5000)
            await sending
            try #require(done.entries == [5000])
        }
    }

    @Test func aSendMayEndEarly() throws {
        var options = SimulationOptions()
        options.partialSendOdds = 1
        try explore(options) { _ in
            let pair = try await RawPair()
            let sent = await Raw.send(pair.client, [UInt8](repeating: 5, count: 5000))
            try #require((1...2048).contains(sent))
            try #require(await Receiving(pair.server).bytes(Int(sent)).count == Int(sent))
        }
    }

    @Test func withoutBuffersAReceiveEndsAndRecovers() throws {
        var options = SimulationOptions()
        options.receiveBufferSize = 1024
        options.receiveBufferLimit = 2
        try explore(options) { simulation in
            let pair = try await RawPair()
            let bytes = (0..<6000).map { UInt8(truncatingIfNeeded: $0 &* 13) }
            async let sent = Raw.sendAll(pair.client, bytes)
            let buffers = Raw.loop.driver.receiveBuffers
            var received: [UInt8] = []
            var shortages = 0
            while received.count < bytes.count {
                let answers = Answers()
                let id = unsafe Raw.loop.start(unsafe .receive(pair.server), sink: answers)
                var lent: [BufferSlice] = []
                // Nothing is given back until the shortage.
                while true {
                    let completion = await answers.next()
                    guard completion.result > 0 else {
                        try #require(!completion.more)
                        try #require([-ENOBUFS, -ECANCELED].contains(completion.result))
                        if completion.result == -ENOBUFS { shortages += 1 }
                        break
                    }
                    lent.append(completion.slice)
                    received += unsafe Array(buffers.bytes(of: completion.slice))
                    if received.count == bytes.count { Raw.loop.cancel(id) }
                }
                for slice in lent { Raw.loop.release(slice) }
                try #require(simulation.lentSlices == 0)
            }
            try #require(await sent == 0)
            try #require(received == bytes)
            try #require(shortages >= 2)
        }
    }

    // MARK: Ending

    @Test func halfCloseEndsOneDirection() throws {
        try explore { _ in
            let pair = try await RawPair()
            try #require(await Raw.sendAll(pair.client, [1, 2, 3]) == 0)
            try #require(await Raw.shutdown(pair.client, Int(SHUT_WR)) == 0)
            try #require(await Raw.send(pair.client, [4]) == -EPIPE)
            let received = await Receiving(pair.server).untilEnd()
            try #require(received.bytes == [1, 2, 3] && received.end == 0)
            try #require(await Receiving(pair.server).untilEnd().end == 0)
            // The other direction goes on.
            try #require(await Raw.sendAll(pair.server, [5, 6]) == 0)
            let receiving = Receiving(pair.client)
            try #require(await receiving.bytes(2) == [5, 6])
            receiving.cancel()
            try #require(await receiving.next().end == -ECANCELED)
            await pair.close()
        }
    }

    @Test func aReceiverThatWaitsLearnsOfItsOwnShutdown() throws {
        try explore { _ in
            let pair = try await RawPair()
            let receiving = Receiving(pair.server)
            try await Task.sleep(for: .seconds(1))
            try #require(await Raw.shutdown(pair.server, Int(SHUT_RD)) == 0)
            try #require(await receiving.untilEnd().end == 0)
        }
    }

    @Test func aBlockedSenderLearnsOfItsOwnShutdown() throws {
        var options = SimulationOptions()
        options.connectionCapacity = 100
        options.partialSendOdds = 0
        try explore(options) { _ in
            let pair = try await RawPair()
            async let first = Raw.send(pair.client, [UInt8](repeating: 1, count: 150))
            try await Task.sleep(for: .seconds(1))
            async let second = Raw.send(pair.client, [UInt8](repeating: 2, count: 150))
            try await Task.sleep(for: .seconds(1))
            try #require(await Raw.shutdown(pair.client, Int(SHUT_WR)) == 0)
            try #require(await first == 100)
            try #require(await second == -EPIPE)
        }
    }

    @Test func closeWithUnreadBytesResetsThePeer() throws {
        try explore { _ in
            let pair = try await RawPair()
            try #require(await Raw.sendAll(pair.client, [1, 2, 3]) == 0)
            let receiving = Receiving(pair.client)
            try await Task.sleep(for: .seconds(1))
            await Raw.close(pair.server)
            try #require(await receiving.untilEnd().end == -ECONNRESET)
            // Once told, the stream is just over.
            try #require(await Receiving(pair.client).untilEnd().end == 0)
            try #require(await Raw.send(pair.client, [4]) == -EPIPE)
        }
    }

    @Test func bytesForAClosedPeerBreakThePipe() throws {
        try explore { _ in
            let pair = try await RawPair()
            await Raw.close(pair.server)
            try #require(await Receiving(pair.client).untilEnd().end == 0)
            try #require(await Raw.send(pair.client, [1]) == 1)  // nobody knows yet
            try await Task.sleep(for: .seconds(1))
            try #require(await Raw.send(pair.client, [2]) == -EPIPE)
            try #require(await Raw.send(pair.client, [3]) == -EPIPE)
            try #require(await Receiving(pair.client).untilEnd().end == 0)
        }
    }

    @Test func bytesSentBeforeACloseArrive() throws {
        try explore { _ in
            let pair = try await RawPair()
            let bytes = [UInt8](repeating: 9, count: 20_000)
            try #require(await Raw.sendAll(pair.client, bytes) == 0)
            await Raw.close(pair.client)
            let received = await Receiving(pair.server).untilEnd()
            try #require(received.bytes == bytes && received.end == 0)
        }
    }

    @Test func aTestCanBreakConnections() throws {
        try explore { simulation in
            let pair = try await RawPair()
            let receiving = [Receiving(pair.client), Receiving(pair.server)]
            try await Task.sleep(for: .seconds(1))
            simulation.network.resetConnections(to: 80)
            for one in receiving { try #require(await one.untilEnd().end == -ECONNRESET) }
            await pair.close()
        }
    }

    @Test func wrongDescriptorsAreRefused() throws {
        try explore { simulation in
            simulation.files.write("/file", "text")
            let file = await Raw.open("/file", O_RDONLY).descriptor
            let nothing = Descriptor(rawValue: 5)
            let fresh = try Raw.loop.driver.openSocket(for: .loopback(port: 1))
            try #require(await Raw.send(nothing, [1]) == -EBADF)
            try #require(await Raw.send(file, [1]) == -ENOTSOCK)
            try #require(await Raw.send(fresh, [1]) == -EPIPE)
            try #require(await Receiving(fresh).untilEnd().end == -ENOTCONN)
            try #require(await Raw.shutdown(fresh, Int(SHUT_WR)) == -ENOTCONN)
            try #require(await Raw.accept(fresh).answers.next().result == -EINVAL)
            try #require(await Raw.close(nothing) == -EBADF)
            #expect(throws: Errno.socketNotConnected) { try Raw.loop.driver.peerAddress(of: fresh) }
            #expect(throws: Errno.badFileDescriptor) { try Raw.loop.driver.localAddress(of: nothing) }
        }
    }

    // MARK: Cancelling

    @Test func cancellingAConnect() throws {
        let results = Log<Int32>()
        try Simulation.explore(seeds: 0..<100) { simulation in
            _ = try Raw.listen(80)
            let task = Task(executorPreference: Raw.loop.executor) { try await Raw.connect(80).result }
            var numbers = SeededGenerator(seed: simulation.seed)
            try await Task.sleep(for: .microseconds(numbers.next() % 8000))
            task.cancel()
            let result = try await task.value
            try #require(result == 0 || result == -ECANCELED)
            results.add(result)
        }
        #expect(Set(results.entries) == [0, -ECANCELED])
    }

    @Test func cancellingASend() throws {
        let results = Log<Int32>()
        var options = SimulationOptions()
        options.connectionCapacity = 1000
        options.partialSendOdds = 0
        try Simulation.explore(seeds: 0..<100, options: options) { simulation in
            let pair = try await RawPair()
            let receiving = Receiving(pair.server)
            let bytes = (0..<3000).map { UInt8(truncatingIfNeeded: $0) }
            let client = pair.client
            let task = Task(executorPreference: Raw.loop.executor) { await Raw.send(client, bytes) }
            var numbers = SeededGenerator(seed: simulation.seed)
            try await Task.sleep(for: .microseconds(numbers.next() % 20_000))
            task.cancel()
            let sent = await task.value
            results.add(sent)
            // What was not sent does not arrive, what was does.
            try #require(await Raw.shutdown(client, Int(SHUT_WR)) == 0)
            let received = await receiving.untilEnd()
            try #require(received.bytes == Array(bytes.prefix(max(0, Int(sent)))) && received.end == 0)
        }
        #expect(results.entries.contains(3000))
        #expect(results.entries.contains { $0 > 0 && $0 < 3000 })
    }

    @Test func cancellingBeforeTheStart() throws {
        try explore { _ in
            let pair = try await RawPair()
            let client = pair.client
            let task = Task(executorPreference: Raw.loop.executor) {
                unsafe withUnsafeCurrentTask { unsafe $0?.cancel() }
                return await Raw.send(client, [1])
            }
            try #require(await task.value == -ECANCELED)
            await Raw.close(client)
            try #require(await Receiving(pair.server).untilEnd().bytes.isEmpty)
        }
    }

    @Test func cancellingMultishotOperations() throws {
        try explore { _ in
            let pair = try await RawPair()
            let receiving = Receiving(pair.server)
            try #require(await Raw.sendAll(pair.client, [1, 2]) == 0)
            try #require(await receiving.bytes(2) == [1, 2])
            receiving.cancel()
            receiving.cancel()
            try #require(await receiving.next().end == -ECANCELED)
            receiving.cancel()  // it is over: nothing happens
            // What arrives meanwhile is there for the next receive.
            try #require(await Raw.sendAll(pair.client, [3]) == 0)
            try #require(await Receiving(pair.server).bytes(1) == [3])
            try #require(Raw.loop.currentStatistics.pendingOperations == 1)
        }
    }

    @Test func closingADescriptorThatIsInUseCrashes() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            try Simulation.run(seed: 1) { _ in
                let pair = try await RawPair()
                let receiving = Receiving(pair.server)
                await Raw.close(pair.server)
                _ = await receiving.next()
            }
        }
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(text.contains("was closed with 1 operation(s) on it under way"))
    }

    @Test func theLoopEndsWhatIsPending() throws {
        try explore { _ in
            let pair = try await RawPair()
            _ = Receiving(pair.server)
            _ = Receiving(pair.client)
            _ = Raw.accept(try Raw.listen(81))
            // The body returns: closing the loop cancels the three.
        }
    }
}

/// Two connected sockets.
@safe
struct RawPair {
    let client: Descriptor
    let server: Descriptor

    init(port: Int = 80) async throws {
        let listener = try Raw.listen(port)
        let (accepts, id) = Raw.accept(listener)
        let (socket, result) = try await Raw.connect(port)
        client = socket
        try #require(result == 0)
        server = await accepts.next().result.descriptor
        Raw.loop.cancel(id)
        try #require(await accepts.next().result == -ECANCELED)
        await Raw.close(listener)
    }

    func close() async {
        await Raw.close(client)
        await Raw.close(server)
    }
}
