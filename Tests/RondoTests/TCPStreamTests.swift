// TCP connections: bytes arrive in order and whole, and who is slow slows the other down.

import Glibc
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TCPStreamTests {
        @Test(arguments: World.allCases, Machine.hasIPv6 ? [false, true] : [false])
        func echoes(world: World, ipv6: Bool) throws {
            try world.run {
                let pair = try await connectedPair(ipv6: ipv6)
                #expect(try pair.client.peerAddress == pair.server.localAddress)
                #expect(try pair.server.peerAddress == pair.client.localAddress)
                #expect(try pair.client.localAddress.family == (ipv6 ? .ipv6 : .ipv4))
                let server = start {
                    while let chunk = try await pair.server.read() { try await pair.server.write(chunk) }
                }
                for count in [1, 64, 1000, 16_384, 100_000] {
                    let bytes = pattern(count)
                    async let sent: Void = pair.client.write(bytes)
                    let answer = try await pair.client.readExactly(count)
                    #expect(answer == bytes)
                    try await sent
                }
                try await pair.client.finishWriting()
                try await server.value
                await pair.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func manyConnectionsAtOnce(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let server = start {
                    try await listener.serve { stream in
                        while let chunk = try await stream.read() { try await stream.write(chunk) }
                    }
                }
                try await withThrowingTaskGroup { group in
                    for number in 0..<200 {
                        group.addTask {
                            let stream = try await TCPStream.connect(to: listener.localAddress)
                            let bytes = pattern(500, from: number)
                            for _ in 0..<5 {
                                try await stream.write(bytes)
                                let answer = try await stream.readExactly(500)
                                #expect(answer == bytes)
                            }
                            await stream.close()
                        }
                    }
                    try await group.waitForAll()
                }
                server.cancel()
                #expect(await ioError(of: server)?.cause == .cancelled)
                await listener.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func readsInTheSizesThatAreAskedFor(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.write("0123456789")
                let first = try await pair.server.readExactly(3)
                #expect(first == Array("012".utf8))
                var sizes: [Int] = []
                var bytes: [UInt8] = []
                while bytes.count < 7, let chunk = try await pair.server.read(upTo: 2) {
                    sizes.append(chunk.count)
                    bytes += Array(chunk)
                }
                #expect(bytes == Array("3456789".utf8))
                #expect(sizes == [2, 2, 2, 1])
                let nothing = try await pair.server.readExactly(0)
                #expect(nothing == [])
                await pair.close()
            }
        }

        @Test(arguments: World.allCases) func limitsHold(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.write("0123456789")
                let error = await ioError { try await pair.server.readToEnd(limit: 9) }
                #expect(error?.cause == .limitExceeded(9))
                #expect("\(try #require(error))".contains("more than the limit of 9 bytes arrived"))
                await pair.close()

                let other = try await connectedPair()
                try await other.client.write("0123456789")
                await other.client.close()
                let all = try await other.server.readToEnd(limit: 10)
                #expect(all.count == 10)
                let end = await ioError { try await other.server.readExactly(1) }
                #expect(end?.cause == .unexpectedEnd)
                await other.close()
            }
        }

        /// 50 MB to a reader that is slow: TCP's window stops the sender, and the unread bytes stay few.
        @Test(arguments: World.real) func aSlowReaderStopsItsSender(world: World) throws {
            try world.run {
                let (part, parts) = (pattern(100_000), 500)
                let pair = try await connectedPair()
                let writer = start {
                    for _ in 0..<parts { try await pair.client.write(part) }
                    try await pair.client.finishWriting()
                }
                let reader = start {
                    var received = 0
                    while let chunk = try await pair.server.read(upTo: 65_536) {
                        #expect(isPart(Array(chunk), of: part, at: received))
                        received += chunk.count
                        // Slow: the writer may do all that it can between two reads.
                        for _ in 0..<3 { await EventLoop.yield() }
                    }
                    return (received, loop.driver.receiveBuffers.count)
                }
                try await writer.value
                let (received, buffers) = try await reader.value
                #expect(received == part.count * parts)
                // Unread bytes exceed the mark only by what the kernel had in its own buffers.
                #expect(buffers <= 256, "\(buffers) buffers of 32 KB")
                await pair.close()
            }
        }

        @Test(arguments: World.real) func chunksAreHeldAndDroppedAnywhere(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                for _ in 0..<100 {
                    try await pair.client.write("hello")
                    guard let chunk = try await pair.server.read() else { continue }
                    let box = ChunkBox(chunk)
                    try await pair.client.write("world")
                    let next = try await pair.server.readExactly(5)
                    #expect(next == Array("world".utf8))
                    #expect(box.bytes == Array("hello".utf8))
                    Thread.run { box.drop() }
                }
                // The inbox is looked into once a turn.
                try await Task.sleep(for: .microseconds(1))
                #expect(loop.driver.receiveBuffers.lentSlices == 0)
                await pair.close()
            }
        }

        // MARK: One reader, one writer

        @Test(arguments: World.allCases) func aSecondReaderIsToldThatAnotherReads(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let first = start { try await pair.server.readExactly(5) }
                await settle()
                let error = await ioError { try await pair.server.read() == nil }
                #expect(error?.cause == .busy)
                #expect(
                    "\(try #require(error))".hasSuffix(
                        "another task is already waiting for it (let one task read and one task write)"))
                try await pair.client.write("hello")
                let hello = try await first.value
                #expect(hello == Array("hello".utf8))
                await pair.close()
            }
        }

        @Test(arguments: World.allCases) func aSecondWriterIsToldThatAnotherWrites(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let first = start { try await pair.client.write([UInt8](repeating: 0, count: 50_000_000)) }
                await settle()
                #expect(await ioError { try await pair.client.write("me too") }?.cause == .busy)
                await pair.close()
                #expect(await ioError(of: first)?.cause == .closed)
            }
        }

        // MARK: From elsewhere

        @Test(arguments: World.real) func isUsedFromOtherThreads(world: World) async throws {
            try await world.runElsewhere {
                let pair = try await connectedPair()
                let task = Task.detached {
                    #expect(EventLoop.current == nil)
                    try await pair.client.write("from a thread of Swift's own")
                    return try await pair.client.readExactly(5)
                }
                let question = try await pair.server.readExactly(28)
                #expect(question == Array("from a thread of Swift's own".utf8))
                try await pair.server.write("hello")
                let answer = try await task.value
                #expect(answer == Array("hello".utf8))
                await pair.close()
            }
        }

        @Test(arguments: World.real) func isUsedFromOtherLoops(world: World) async throws {
            try await world.runElsewhere {
                let pair = try await connectedPair()
                let other = start {
                    try await withEventLoop(configuration: world.configuration) { other in
                        try await pair.client.write("from another loop")
                        let bytes = try await pair.client.readExactly(5)
                        await pair.client.close()
                        return EventLoop.current === other && pair.client.loop !== other
                            && bytes == Array("world".utf8)
                    }
                }
                let question = try await pair.server.readExactly(17)
                #expect(question == Array("from another loop".utf8))
                try await pair.server.write("world")
                let isRight = try await other.value
                #expect(isRight)
                await pair.close()
            }
        }

        /// A chunk in a box, so that it can be given up on another thread.
        private final class ChunkBox: @unchecked Sendable {
            // SAFETY: used by one thread at a time: the test waits for the thread that drops it.
            private var chunk: ByteChunk?
            let bytes: [UInt8]
            init(_ chunk: consuming ByteChunk) {
                bytes = Array(chunk)
                self.chunk = consume chunk
            }
            func drop() { chunk = nil }
        }
    }
}

/// Whether `bytes` are what stands at `offset` of `part`, repeated for ever.
func isPart(_ bytes: [UInt8], of part: [UInt8], at offset: Int) -> Bool {
    var (done, at) = (0, offset % part.count)
    while done < bytes.count {
        let count = min(bytes.count - done, part.count - at)
        let isEqual = unsafe bytes.withUnsafeBytes { bytes in
            unsafe part.withUnsafeBytes { unsafe memcmp(bytes.baseAddress! + done, $0.baseAddress! + at, count) == 0 }
        }
        if !isEqual { return false }
        done += count
        at = 0
    }
    return true
}
