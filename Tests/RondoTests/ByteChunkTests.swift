// Chunks: parts of them, and what happens when they are kept.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct ByteChunkTests {
        @Test func ownBytesAreSplit() {
            var chunk = ByteChunk(pattern(10))
            let first = chunk.splitFirst(3)
            chunk.removeFirst(2)
            let none = chunk.splitFirst(0)
            #expect(Array(first) == pattern(3) && Array(chunk) == pattern(5, from: 5) && none.isEmpty)
            let rest = chunk.splitFirst(5)
            #expect(chunk.isEmpty && rest.count == 5)
            #expect(Array(ByteChunk()) == [])
            #expect(Array(ByteChunk(copying: rest.bytes)) == pattern(5, from: 5))
        }

        @Test(arguments: World.allCases) func receivedBytesAreSplit(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.write(pattern(10))
                guard var chunk = try await pair.server.read() else { throw NoBytes() }
                while chunk.count < 10, let more = try await pair.server.read() {
                    chunk = ByteChunk(Array(chunk) + Array(more))
                }
                let first = chunk.splitFirst(3)
                chunk.removeFirst(2)
                #expect(Array(first) == pattern(3) && Array(chunk) == pattern(5, from: 5))
                let rest = chunk.splitFirst(5)
                try await pair.server.write(rest)
                try await pair.server.write(first)
                let echo = try await pair.client.readExactly(8)
                #expect(echo == pattern(5, from: 5) + pattern(3))
                await pair.close()
            }
        }

        /// Parts may outlive each other, and are given back on any thread.
        @Test(arguments: World.real) func partsAreGivenBackAnywhere(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.write(pattern(100))
                guard var chunk = try await pair.server.read() else { throw NoBytes() }
                #expect(chunk.count == 100)
                let first = Box(chunk.splitFirst(50))
                let second = Box(chunk)
                #expect(loop.driver.receiveBuffers.lentSlices == 2)
                Thread.run {
                    let part = first.take { $0.splitFirst(20) }
                    #expect(part == pattern(20))
                    first.drop()
                    second.drop()
                }
                try await Task.sleep(for: .microseconds(1))
                #expect(loop.driver.receiveBuffers.lentSlices == 0)
                await pair.close()
            }
        }

        /// All receive buffers lent out: nobody receives, until one comes back.
        @Test(arguments: World.allCases) func whoHoldsAllBuffersStopsEverybody(world: World) throws {
            try world.run {
                $0.receiveBufferLimit = 16
            } _: {
                let (pair, other) = (try await connectedPair(), try await connectedPair())
                let sender = start { while true { try await pair.client.write(pattern(100_000)) } }
                let held = Journal(Box.self)
                let hoarder = start {
                    while let chunk = try await pair.server.read() { held.add(Box(chunk)) }
                }
                // Until bytes have come into each of the buffers, and no more can come.
                while loop.driver.receiveBuffers.grow() { try await Task.sleep(for: .microseconds(100)) }
                #expect(try await comesToRest { held.count })
                let before = held.count
                #expect(loop.driver.receiveBuffers.count <= 256)
                let reader = start { try await other.server.readExactly(5) }
                try await other.client.write("hello")
                try await Task.sleep(for: .milliseconds(20))
                let isStarved = held.count == before
                #expect(isStarved)
                hoarder.cancel()
                #expect(await ioError(of: hoarder)?.cause == .cancelled)
                // Kept, they are in nobody's way.
                for box in held.all { box.keep() }
                let hello = try await reader.value
                #expect(hello == Array("hello".utf8))
                let first = held.all[0].bytes
                #expect(isPart(first, of: pattern(100_000), at: 0))
                sender.cancel()
                #expect(await ioError(of: sender)?.cause == .cancelled)
                for box in held.all { box.drop() }
                await pair.close()
                await other.close()
            }
        }
    }
}

/// A chunk in a box, for tests that move it about.
private final class Box: @unchecked Sendable {
    // SAFETY: used by one thread at a time: the test waits for the thread that it is given to.
    private var chunk: ByteChunk?
    init(_ chunk: consuming ByteChunk) { self.chunk = consume chunk }
    func drop() { chunk = nil }
    func keep() { chunk?.keep() }
    func take(_ body: (inout ByteChunk) -> ByteChunk) -> [UInt8] { Array(body(&chunk!)) }
    var bytes: [UInt8] { Array(chunk!) }
}

private struct NoBytes: Error {}
