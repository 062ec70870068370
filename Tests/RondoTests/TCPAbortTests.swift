// The end without ceremony: it waits for nobody, and the peer is told.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TCPAbortTests {
        private static let much = [UInt8](repeating: 7, count: 50_000_000)

        @Test(arguments: World.allCases) func thePeersReaderSeesAReset(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let reader = start { try await pair.server.readExactly(1) }
                await settle()
                await pair.client.abort()
                #expect(await ioError(of: reader)?.errno == .connectionReset)
                #expect(await ioError { while true { try await pair.server.write("x") } }?.errno == .brokenPipe)
                await pair.client.abort()
                await pair.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func thePeersWriterSeesAReset(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let writer = start { try await pair.server.write(Self.much) }
                await settle()
                try await Task.sleep(for: .milliseconds(5))
                await pair.client.abort()
                let error = await ioError(of: writer)
                #expect(error?.errno == .connectionReset || error?.errno == .brokenPipe)
                #expect(error?.hint == "the peer closed the connection")
                await pair.close()
            }
        }

        /// What arrived before the reset is still read, or else the reset; never a clean end.
        @Test(arguments: World.allCases) func aResetIsNoEnd(world: World) throws {
            try world.run {
                for isHalfClosed in [false, true] {
                    let pair = try await connectedPair()
                    try await pair.client.write("some of it")
                    if isHalfClosed { try await pair.server.finishWriting() }
                    _ = try await pair.server.readExactly(1)
                    await pair.client.abort()
                    let error = await ioError { try await pair.server.readToEnd(limit: 100) }
                    #expect(error?.errno == .connectionReset)
                    await pair.close()
                }
            }
        }

        @Test(arguments: World.allCases) func aResetBeforeAcceptingIsReadAfterIt(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let client = try await TCPStream.connect(to: listener.localAddress)
                await client.abort()
                let server = try await listener.accept()
                #expect(await ioError { try await server.readExactly(1) }?.errno == .connectionReset)
                await server.close()
                await listener.close()
            }
        }

        /// Within an item a reset is a reset, and what came before it is still there.
        @Test(arguments: World.allCases) func aResetWithinALine(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let reader = BufferedReader(pair.server)
                try await pair.client.write("whole\nhalf")
                let line = try await reader.readLine()
                #expect(line == "whole")
                let half = try await reader.peek(4)
                #expect(half == Array("half".utf8))
                await pair.client.abort()
                #expect(await ioError { try await reader.readLine() }?.errno == .connectionReset)
                #expect(reader.bufferedCount == 4)
                await pair.close()
            }
        }

        /// The peer resets while this end closes: nobody waits for it.
        @Test(arguments: World.allCases) func aResetWhileClosing(world: World) throws {
            try world.run {
                for _ in 0..<10 {
                    let pair = try await connectedPair()
                    try await pair.client.write(pattern(5000))
                    let closer = start { await pair.client.close() }
                    await pair.server.abort()
                    try await closer.value
                }
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func ownReadersAndWritersGoOn(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let reader = start { try await pair.client.readExactly(1) }
                let writer = start { try await pair.client.write(Self.much) }
                await settle()
                try await Task.sleep(for: .milliseconds(5))
                await pair.client.abort()
                #expect(await ioError(of: reader)?.cause == .closed)
                #expect(await ioError(of: writer)?.cause == .closed)
                #expect(await ioError { try await pair.client.write("x") }?.cause == .closed)
                await pair.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        /// A close that waits for a peer that never reads.
        @Test(arguments: World.real) func aCloseThatWaitsIsEnded(world: World) throws {
            try world.run {
                let (first, second) = (try await connectedPair(), try await connectedPair())
                second.client.limitBuffers(to: 4096)
                second.server.limitBuffers(to: 4096)
                let feeder = start { while true { try await first.client.write(pattern(100_000)) } }
                let blocked = Counter()
                let forwarder = start {
                    while let chunk = try await first.server.read() {
                        blocked.add()
                        try await second.client.write(chunk)
                    }
                }
                var before = -1
                while before != blocked.value {
                    before = blocked.value
                    try await Task.sleep(for: .milliseconds(10))
                }
                // The chunk under way has nowhere to go, and the closer waits for it; the writer's next one too.
                let closer = start { await second.client.close() }
                await settle()
                try await Task.sleep(for: .milliseconds(5))
                await second.client.abort()
                try await closer.value
                #expect(await ioError(of: forwarder)?.cause == .closed)
                feeder.cancel()
                #expect(await ioError(of: feeder)?.cause == .cancelled)
                await first.close()
                await second.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func anyThreadAborts(world: World) async throws {
            try await world.runElsewhere {
                let pair = try await connectedPair()
                let reader = start { try await pair.client.readExactly(1) }
                await settle()
                await Task.detached { await pair.client.abort() }.value
                #expect(await ioError(of: reader)?.cause == .closed)
                await pair.close()
            }
        }

        @Test(arguments: World.allCases) func closingMayReset(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.set(.resetsOnClose(true))
                let reader = start { try await pair.server.readExactly(1) }
                await settle()
                await pair.client.close()
                #expect(await ioError(of: reader)?.errno == .connectionReset)
                await pair.close()
            }
        }

        /// Closing by an actor goes on though the last completion comes while it is on its way to where it waits for
        /// that: each call between an actor's functions may be a job, and with so many others ready the loop waits in
        /// between.
        @Test(arguments: World.allCases) func theEndOnTheWayToTheCloseIsNotMissed(world: World) throws {
            try world.run {
                let breaker = Breaker(loop: EventLoop.current!)
                var pairs: [Pair] = []
                for _ in 0..<50 { pairs.append(try await connectedPair()) }
                let breaking = pairs.map { pair in start { try await breaker.readUntilBroken(pair.client) } }
                await settle()
                let crowd = (0..<1500).map { _ in start { for _ in 0..<40 { await EventLoop.yield() } } }
                let peers = pairs.map { pair in start { await pair.server.abort() } }
                for task in breaking { task.cancel() }
                for task in crowd + peers { try await task.value }
                await settle()
                #expect(await breaker.count == 50, "a close waits for what has been")
                #expect(statistics.pendingOperations == 0)
            }
        }

        /// Two tasks of an actor may both be on their way to the same wait. One of them is told that the stream is
        /// busy, and the other still hears of its cancellation.
        @Test(arguments: World.allCases) func twoReadersInAnActorBothEnd(world: World) throws {
            try world.run {
                let breaker = Breaker(loop: EventLoop.current!)
                var pairs: [Pair] = []
                for _ in 0..<20 { pairs.append(try await connectedPair()) }
                let readers = pairs.flatMap { pair in
                    (0..<2).map { _ in start { try await breaker.read(pair.client) } }
                }
                let crowd = (0..<1500).map { _ in start { for _ in 0..<20 { await EventLoop.yield() } } }
                for task in crowd { try await task.value }
                await settle()
                for reader in readers { reader.cancel() }
                var causes: [IOError.Cause] = []
                for reader in readers { causes.append(try #require(await ioError(of: reader)?.cause)) }
                #expect(causes.count { $0 == .busy } == 20)
                #expect(causes.count { $0 == .cancelled } == 20)
                for pair in pairs { await pair.close() }
            }
        }
    }
}

/// An actor of a loop.
private actor Breaker {
    private let loop: EventLoop
    private(set) var count = 0
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }

    init(loop: EventLoop) { self.loop = loop }

    func read(_ stream: TCPStream) async throws { _ = try await stream.read() }

    func readUntilBroken(_ stream: TCPStream) async throws {
        _ = try? await stream.read()
        await stream.abort()
        count += 1
    }
}
