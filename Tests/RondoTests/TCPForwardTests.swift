// Chunks that are sent on from where they stand: handed over without waiting, one at a time.

import Glibc
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TCPForwardTests {
        private struct Ended: Error {}

        @Test(arguments: World.allCases) func aChunkIsHandedOverWithoutWaiting(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.write("!")
                let chunk = try await nextChunk(of: pair.server)
                let others = Counter()
                start { others.add() }
                try await pair.server.write(chunk)
                #expect(others.value == 0, "the writer let others go first")
                let echo = try await pair.client.readExactly(1)
                #expect(echo == Array("!".utf8))
                await pair.close()
            }
        }

        /// The chunk's buffer is lent out until the kernel has taken it over, and comes back then.
        @Test(arguments: World.allCases) func buffersComeBack(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                for _ in 0..<100 {
                    try await pair.client.write(pattern(1000))
                    try await forward(1000, from: pair.server, to: pair.server)
                    let echo = try await pair.client.readExactly(1000)
                    #expect(echo == pattern(1000))
                }
                await settle()
                #expect(loop.receiveBuffers.lentSlices == 0)
                await pair.close()
            }
        }

        /// Who does not read stops the one who forwards, and so the one who sends.
        @Test(arguments: World.real) func aSlowReaderStopsTheSender(world: World) throws {
            try world.run {
                let (first, second) = (try await connectedPair(), try await connectedPair())
                for stream in [first.client, first.server, second.client, second.server] {
                    stream.limitBuffers(to: 100_000)
                }
                let sent = Counter()
                let sender = start { while true { try await first.client.write(pattern(10_000)); sent.add() } }
                let forwarder = start {
                    while let chunk = try await first.server.read() { try await second.client.write(chunk) }
                }
                while second.client.hasRoomToSend { try await Task.sleep(for: .microseconds(100)) }
                #expect(try await comesToRest { sent.value })
                #expect(sent.value > 0)
                // What the kernel keeps for both connections, and what the queue holds.
                #expect(sent.value < 4000)

                forwarder.cancel()
                #expect(await ioError(of: forwarder)?.cause == .cancelled)
                #expect(await ioError { try await second.client.write("more") }?.cause == .cancelled)
                sender.cancel()
                #expect(await ioError(of: sender)?.cause == .cancelled)
                await first.close()
                await second.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func closingDeliversTheLastChunk(world: World) throws {
            try world.run {
                for _ in 0..<2 {
                    let (first, second) = (try await connectedPair(), try await connectedPair())
                    second.client.limitBuffers(to: 16_384)
                    second.server.limitBuffers(to: 16_384)
                    async let sent: Void = first.client.write(pattern(60_000))
                    let forwarder = start {
                        try await forward(60_000, from: first.server, to: second.client)
                        await second.client.close()
                    }
                    await settle()
                    let all = try await second.server.readToEnd(limit: 100_000)
                    #expect(all == pattern(60_000))
                    try await sent
                    try await forwarder.value
                    await first.close()
                    await second.close()
                }
            }
        }

        @Test(arguments: World.allCases) func aFinishedStreamHasSentItsLastChunk(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.write("last words")
                try await forward(10, from: pair.server, to: pair.server)
                try await pair.server.finishWriting()
                let all = try await pair.client.readToEnd(limit: 100)
                #expect(all == Array("last words".utf8))
                await pair.close()
            }
        }

        /// A chunk that can't be sent is an error of the next write.
        @Test(arguments: World.real) func theNextWriteTellsOfAFailure(world: World) throws {
            try world.run {
                let (first, second) = (try await connectedPair(), try await connectedPair())
                try await first.client.write("x")
                let chunk = try await nextChunk(of: first.server)
                second.server.resetOnClose()
                await second.server.close()
                try await Task.sleep(for: .milliseconds(1))
                try await second.client.write(chunk)
                let error = await ioError { try await second.client.write("y") }
                #expect(error?.errno == .brokenPipe || error?.errno == .connectionReset)
                #expect(
                    await ioError { try await second.client.finishWriting() }
                        == error.map {
                            IOError("finish writing to", $0.subject, $0.cause)
                        })
                await first.close()
                await second.close()
            }
        }

        /// Nobody waits for ever for a peer that does not read.
        @Test(arguments: World.real) func closingInACancelledTaskGivesUp(world: World) throws {
            try world.run {
                let (first, second) = (try await connectedPair(), try await connectedPair())
                second.client.limitBuffers(to: 4096)
                second.server.limitBuffers(to: 4096)
                start { try await first.client.write(pattern(1_000_000)) }
                let forwarder = start {
                    // Blocks in one of the writes, or else in closing.
                    while !Task.isCancelled, let chunk = try? await first.server.read() {
                        try? await second.client.write(chunk)
                    }
                    await second.client.close()
                }
                try await Task.sleep(for: .milliseconds(5))
                forwarder.cancel()
                try await forwarder.value
                await first.close()
                await second.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        /// A stream that is dropped while it sends stays until that is done.
        @Test(arguments: World.allCases) func aDroppedStreamSendsItsLastChunk(world: World) throws {
            try world.run {
                let server = try await serverOfDroppedForwarder()
                let all = try await server.readToEnd(limit: 100)
                #expect(all == Array("farewell".utf8))
                await server.close()
                await settle()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func anotherThreadForwards(world: World) async throws {
            try await world.runElsewhere {
                let pair = try await connectedPair()
                try await pair.client.write("from afar")
                let away = Task.detached {
                    #expect(EventLoop.current == nil)
                    try await forward(9, from: pair.server, to: pair.server)
                }
                try await away.value
                let echo = try await pair.client.readExactly(9)
                #expect(echo == Array("from afar".utf8))
                await pair.close()
            }
        }

        private func nextChunk(of stream: TCPStream) async throws -> ByteChunk {
            guard let chunk = try await stream.read() else { throw Ended() }
            return chunk
        }

        private func serverOfDroppedForwarder() async throws -> TCPStream {
            let (first, second) = (try await connectedPair(), try await connectedPair())
            try await first.client.write("farewell")
            try await forward(8, from: first.server, to: second.client)
            await first.close()
            return second.server
        }
    }
}

/// Sends on the next `count` bytes, in whatever chunks they come.
private func forward(_ count: Int, from source: TCPStream, to sink: TCPStream) async throws {
    var left = count
    while left > 0, let chunk = try await source.read(upTo: left) {
        left -= chunk.count
        try await sink.write(chunk)
    }
}
