// Receive buffers that are all lent out: receiving waits, and goes on when one comes back.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct ReceiveBufferTests {
        @Test(arguments: World.real) func receivingWaitsForAFreeBuffer(world: World) throws {
            let report = SpyDriver.Report()
            try world.run {
                $0.receiveBufferLimit = 2
                $0.spy(report)
            } _: {
                let pair = try await connectedPair()
                let bytes = pattern(200_000)
                let writer = start { try await pair.client.write(bytes) }
                // Every chunk is held: 128 KB fit, and then nothing more can arrive.
                let held = Held()
                let reader = start {
                    while held.bytes.count < bytes.count, let chunk = try await pair.server.read() { held.add(chunk) }
                }
                // Until bytes have come into each of the buffers.
                while loop.driver.receiveBuffers.grow() { try await Task.sleep(for: .microseconds(100)) }
                // Who is starved does not try all the time.
                #expect(try await comesToRest { report.submissions.value }, "it tries all the time")
                #expect((1...131_072).contains(held.bytes.count))
                while held.bytes.count < bytes.count {
                    held.dropAll()
                    try await Task.sleep(for: .microseconds(10))
                }
                try await reader.value
                try await writer.value
                #expect(held.bytes == bytes)
                held.dropAll()
                await pair.close()
                #expect(loop.driver.receiveBuffers.lentSlices == 0)
            }
        }

        @Test(arguments: World.allCases) func starvedConnectionsAllGoOn(world: World) throws {
            try world.run {
                $0.receiveBufferLimit = 2
            } _: {
                var pairs: [Pair] = []
                for _ in 0..<20 { pairs.append(try await connectedPair()) }
                // One buffer is held all the time; the others pass through the second.
                let held = Held()
                try await pairs[0].client.write("hello")
                if let chunk = try await pairs[0].server.read() { held.add(chunk) }
                let bytes = pattern(60_000)
                let tasks = pairs.dropFirst().map { pair in
                    start {
                        async let answer = pair.server.readToEnd(limit: 60_000)
                        try await pair.client.write(bytes)
                        try await pair.client.finishWriting()
                        return try await answer == bytes
                    }
                }
                for task in tasks {
                    let isRight = try await task.value
                    #expect(isRight)
                }
                held.dropAll()
                for pair in pairs { await pair.close() }
            }
        }

        /// A loop that ends while a reader waits for a buffer loses no task.
        @Test(arguments: World.allCases) func aLoopEndsWhileAReaderIsStarved(world: World) throws {
            let causes = Journal<IOError.Cause?>()
            try world.run {
                $0.receiveBufferLimit = 1
            } _: {
                let pair = try await connectedPair()
                start { try await pair.client.write(pattern(200_000)) }
                let held = Held()
                start {
                    causes.add(
                        await ioError {
                            while let chunk = try await pair.server.read() { held.add(chunk) }
                        }?.cause)
                    held.dropAll()
                }
                while loop.driver.receiveBuffers.grow() { try await Task.sleep(for: .microseconds(100)) }
                #expect(try await comesToRest { held.bytes.count })
            }
            #expect(causes.all == [.cancelled])
        }

        /// Chunks that are held, and a copy of all their bytes.
        private final class Held: @unchecked Sendable {
            // SAFETY: used on the loop's thread only.
            private(set) var bytes: [UInt8] = []
            private var chunks: [Box] = []

            func add(_ chunk: consuming ByteChunk) {
                bytes.append(copying: chunk.bytes)
                chunks.append(Box(chunk))
            }

            func dropAll() { chunks.removeAll() }

            private final class Box {
                let chunk: ByteChunk
                init(_ chunk: consuming ByteChunk) { self.chunk = chunk }
            }
        }
    }
}
