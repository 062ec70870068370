// Cancelling what waits for the network: at once, and nothing is lost.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TCPCancelTests {
        @Test(arguments: World.allCases) func aCancelledReadLosesNoByte(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                for round in 0..<20 {
                    let reader = start { try await pair.server.readExactly(1) }
                    await settle()
                    reader.cancel()
                    #expect(await ioError(of: reader)?.cause == .cancelled)
                    let bytes = pattern(100, from: round)
                    try await pair.client.write(bytes)
                    let answer = try await pair.server.readExactly(100)
                    #expect(answer == bytes)
                }
                await pair.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func anotherThreadCancelsAReader(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                for _ in 0..<100 {
                    let reader = start { try await pair.server.readExactly(1) }
                    await settle()
                    let thread = Thread.start { reader.cancel() }
                    #expect(await ioError(of: reader)?.cause == .cancelled)
                    thread.join()
                }
                await pair.close()
            }
        }

        /// A cancellation that comes from another thread, too late for the reader that it was meant for, must not end
        /// the read of the next one.
        @Test(arguments: World.real) func aLateCancellationHitsNobodyElse(world: World) throws {
            try world.run {
                $0.batchTime = .seconds(3600)
            } _: {
                let (pair, other) = (try await connectedPair(), try await connectedPair())
                let reader = start {
                    _ = try await pair.server.read()
                    return start { try await pair.server.readExactly(5) }
                }
                start(priority: .high) {
                    // Both have their byte in the same turn; this runs first, and the reader's cancellation waits in
                    // the inbox while it runs.
                    _ = try await other.server.read()
                    Thread.run { reader.cancel() }
                }
                await settle()
                other.client.sendAtOnce([1])
                pair.client.sendAtOnce([2])
                let next = try await reader.value
                try await Task.sleep(for: .microseconds(1))
                try await pair.client.write("hello")
                let hello = try await next.value
                #expect(hello == Array("hello".utf8))
                await pair.close()
                await other.close()
            }
        }

        @Test(arguments: World.allCases) func aBlockedWriteEndsAtOnce(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let writer = start { try await pair.client.write([UInt8](repeating: 0, count: 50_000_000)) }
                await settle()
                try await Task.sleep(for: .milliseconds(2))
                writer.cancel()
                #expect(await ioError(of: writer)?.cause == .cancelled)
                await pair.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        /// Too much waits unread, and the end of the stream has arrived behind it: the request to pause meets nothing,
        /// and must not be made for ever.
        @Test(arguments: World.real) func aCancelThatComesTooLateIsForgotten(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let reader = start { try await pair.server.readExactly(1) }
                await settle()
                for part in 0..<8 { pair.client.sendAtOnce(pattern(50_000, from: part)) }
                pair.client.endAtOnce()
                _ = try await reader.value
                let turns = statistics.turns
                for _ in 0..<10 { try await Task.sleep(for: .milliseconds(1)) }
                #expect(statistics.turns - turns < 100, "the loop spins")
                let rest = try await pair.server.readToEnd(limit: 1_000_000)
                #expect(rest.count == 399_999)
                await pair.close()
            }
        }

        /// A listener that never accepts and whose queue is full leaves connections hanging.
        @Test(arguments: World.real) func aConnectionAttemptEndsAtOnce(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0), backlog: 0)
                let address = listener.localAddress
                let attempts = (0..<8).map { _ in start { try await TCPStream.connect(to: address) } }
                // Some go through, as far as the kernel's queue goes; the others hang.
                try await Task.sleep(for: .milliseconds(20))
                #expect(statistics.pendingOperations > 0)
                for attempt in attempts { attempt.cancel() }
                var cancelled = 0
                for attempt in attempts {
                    switch await attempt.result {
                    case .success(let stream): await stream.close()
                    case .failure(let error):
                        #expect((error as? IOError)?.cause == .cancelled)
                        cancelled += 1
                    }
                }
                #expect(cancelled > 0)
                #expect(statistics.pendingOperations == 0)
                await listener.close()
            }
        }

        @Test(arguments: World.allCases) func aCancelledAcceptLosesNoConnection(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                for _ in 0..<10 {
                    let accepting = start { try await listener.accept() }
                    await settle()
                    accepting.cancel()
                    #expect(await ioError(of: accepting)?.cause == .cancelled)
                    let client = try await TCPStream.connect(to: listener.localAddress)
                    let server = try await listener.accept()
                    #expect(try server.peerAddress == client.localAddress)
                    await Pair(client: client, server: server).close()
                }
                await listener.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func aTaskThatIsCancelledBeginsNothing(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let pair = try await connectedPair()
                let tasks = [
                    start { _ = try await TCPStream.connect(to: listener.localAddress) },
                    start { _ = try await listener.accept() },
                    start { _ = try await pair.server.readExactly(1) },
                    start { try await pair.server.write("x") },
                ]
                for task in tasks { task.cancel() }
                for task in tasks { #expect(await ioError(of: task)?.cause == .cancelled) }
                await pair.close()
                await listener.close()
                #expect(statistics.pendingOperations == 0)
            }
        }
    }
}
