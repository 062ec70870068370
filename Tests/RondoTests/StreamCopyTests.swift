// Copying between streams, and the back-pressure from one end of a chain to the other.

import SystemPackage
import Testing

@testable import Rondo

/// A source that never ends, and counts what was taken from it.
private final class Spring: ByteSource, @unchecked Sendable {
    // SAFETY: the loop's thread reads and counts.
    static let part = pattern(65_536)
    private(set) var taken = 0
    var limit = Int.max

    func read(upTo limit: Int) async throws(IOError) -> ByteChunk? {
        if taken >= self.limit { return nil }
        taken += Self.part.count
        return ByteChunk(Self.part)
    }
}

extension LoopSuites {
    @Suite struct StreamCopyTests {
        @Test func copiesUpToALimit() async throws {
            let (source, sink) = (Pieces(pattern(1000), size: 7), Collected())
            let first = try await copy(from: source, to: sink, limit: 500)
            #expect(first == 500)
            let rest = try await copy(from: source, to: sink)
            #expect(rest == 500 && sink.bytes == pattern(1000) && !sink.isFinished)
            let none = try await copy(from: Pieces("x"), to: sink, limit: 0)
            #expect(none == 0)
        }

        @Test func theEndThatFailedSaysSo() async throws {
            let sink = Collected()
            let cancelled = Pieces([.bytes([1]), .cancelled, .bytes([2])])
            #expect(await ioError { try await copy(from: cancelled, to: sink) }?.subject == "the pieces")
            sink.failure = IOError("write to", "the sink", .system(.brokenPipe))
            #expect(await ioError { try await copy(from: cancelled, to: sink) } == sink.failure)
        }

        /// A source without end → a connection → a proxy → a connection → a reader that does not read: everything
        /// stands still after what the kernel and the loop hold at most, and goes on when the reader does.
        @Test(arguments: World.allCases) func aStalledReaderStopsTheSource(world: World) throws {
            try world.run {
                let (first, second) = (try await connectedPair(), try await connectedPair())
                if world != .simulated {
                    for end in [first.client, first.server, second.client, second.server] {
                        end.limitBuffers(to: 200_000)
                    }
                }
                let spring = Spring()
                let sender = start { try await copy(from: spring, to: first.client) }
                let proxy = start { try await copy(from: first.server, to: second.client) }
                // The reader takes one byte, so that its receive is armed, and no more.
                let byte = try await second.server.readExactly(1)
                #expect(byte == pattern(1))
                let standstill = try await untilItStands(spring)
                #expect(standstill < 8_000_000, "\(standstill) bytes were taken from the source")
                // Two streams may hold 256 KB unread each, and what was under way then.
                #expect(loop.driver.receiveBuffers.count * loop.driver.receiveBuffers.bufferSize <= 4 << 20)

                var received = 1
                while received < 4 * standstill, let chunk = try await second.server.read(upTo: 65_536) {
                    #expect(isPart(Array(chunk), of: Spring.part, at: received))
                    received += chunk.count
                }
                let next = try await untilItStands(spring)
                #expect(next > standstill && next - received < 8_000_000)
                #expect(loop.driver.receiveBuffers.count * loop.driver.receiveBuffers.bufferSize <= 4 << 20)
                for task in [sender, proxy] { task.cancel() }
                #expect(await ioError(of: sender)?.cause == .cancelled)
                #expect(await ioError(of: proxy)?.cause == .cancelled)
                for stream in [first.client, first.server, second.client, second.server] { await stream.abort() }
                #expect(statistics.pendingOperations == 0)
            }
        }

        private func untilItStands(_ spring: Spring) async throws -> Int {
            var before = -1
            while before != spring.taken {
                before = spring.taken
                try await Task.sleep(for: .milliseconds(50))
            }
            return before
        }

        @Test(arguments: World.allCases) func proxiesRelayBothWays(world: World) throws {
            try world.run {
                let (first, second) = (try await connectedPair(), try await connectedPair())
                let proxy = start { try await relay(first.server, second.client) }
                try await first.client.write(pattern(300))
                let question = try await second.server.readExactly(300)
                #expect(question == pattern(300))
                // One side ends: the other way stays open.
                try await first.client.finishWriting()
                let isOver = try await second.server.read() == nil
                #expect(isOver)
                try await second.server.write(pattern(100_000))
                try await second.server.finishWriting()
                let answer = try await first.client.readToEnd(limit: 100_000)
                #expect(answer == pattern(100_000))
                let counts = try await proxy.value
                #expect(counts == RelayCounts(forward: 300, back: 100_000))
                await first.close()
                await second.close()
            }
        }

        /// One side breaks: the other must not wait for ever.
        @Test(arguments: World.allCases) func aBrokenSideEndsTheRelay(world: World) throws {
            try world.run {
                for breaksFirst in [false, true] {
                    let (first, second) = (try await connectedPair(), try await connectedPair())
                    let proxy = start { try await relay(first.server, second.client) }
                    try await first.client.write("x")
                    _ = try await second.server.readExactly(1)
                    await (breaksFirst ? first.client : second.server).abort()
                    #expect(await ioError(of: proxy)?.errno == .connectionReset)
                    await first.close()
                    await second.close()
                }
                #expect(statistics.pendingOperations == 0)
            }
        }

        /// Files are streams like any other: their lines, and their way through a connection into another file.
        @Test(arguments: World.allCases) func filesAreStreams(world: World) throws {
            let folder = TemporaryFolder()
            let place = world == .simulated ? "" : folder.path
            try world.run {
                let bytes = pattern(700_001)
                try await File.write(bytes, to: FilePath("\(place)/from"))
                let (from, to) = (
                    try await File.open(FilePath("\(place)/from")),
                    try await File.open(FilePath("\(place)/to"), .createNew())
                )
                let pair = try await connectedPair()
                let sender = start {
                    let count = try await copy(from: from.source(chunkSize: 100_000), to: pair.client)
                    try await pair.client.finishWriting()
                    return count
                }
                let received = try await copy(from: pair.server, to: to.sink())
                let sent = try await sender.value
                #expect(sent == bytes.count && received == bytes.count)
                let copied = try await File.contents(of: FilePath("\(place)/to"))
                #expect(copied == bytes)
                await pair.close()
                await from.close()
                await to.close()

                try await File.write(Array("one\ntwo\nthree".utf8), to: FilePath("\(place)/lines"))
                let text = try await File.open(FilePath("\(place)/lines"))
                var lines: [String] = []
                for try await line in BufferedReader(text.source(from: 4)).lines(lastLineMayBeOpen: true) {
                    lines.append(line)
                }
                #expect(lines == ["two", "three"])
                await text.close()
            }
        }

        /// Lines and frames over sockets, in every world.
        @Test(arguments: World.allCases) func itemsGoOverSockets(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let sender = start {
                    let writer = BufferedWriter(pair.client, capacity: 1000)
                    for number in 0..<300 {
                        try await writer.write("line \(number)\r\n")
                        try await writer.writeFrame(pattern(number * 7), length: .varint)
                    }
                    try await writer.finishWriting()
                }
                let reader = BufferedReader(pair.server)
                for number in 0..<300 {
                    let line = try await reader.readLine()
                    #expect(line == "line \(number)")
                    guard let frame = try await reader.readFrame(.varint, limit: 5000) else { break }
                    #expect(Array(frame) == pattern(number * 7))
                }
                let end = try await reader.readLine()
                #expect(end == nil)
                try await sender.value
                let error = await ioError { try await reader.readExactly(1) }
                #expect(error?.cause == .unexpectedEnd && error?.subject == pair.server.subject)
                await pair.close()
            }
        }

        /// A cancelled reader goes on where it was.
        @Test(arguments: World.allCases) func cancellingAReaderLosesNothing(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let reader = BufferedReader(pair.server)
                for round in 0..<20 {
                    let text = "round \(round) of them"
                    var rest = Array((text + "\n").utf8)[...]
                    while !rest.isEmpty {
                        let outcome = try await lineOrCancelled(reader)
                        #expect(outcome == nil)
                        try await pair.client.write(Array(rest.prefix(5)))
                        rest = rest.dropFirst(5)
                    }
                    let line = try await reader.readLine()
                    #expect(line == text)
                }
                await pair.close()
            }
        }

        /// Reads for a moment, with a time limit that cancels it.
        private func lineOrCancelled(_ reader: BufferedReader) async throws -> String? {
            // SAFETY: the child task of the time limit is the only one that uses the reader meanwhile.
            nonisolated(unsafe) let reader = reader
            do {
                return try await withTimeout(.microseconds(100)) { try await unsafe reader.readLine() }
            } catch is TimeoutError {
                return nil
            }
        }

        @Test(arguments: World.real) func chunksOfOtherLoopsAreSent(world: World) async throws {
            try await world.runElsewhere {
                let pair = try await connectedPair()
                let other = start {
                    try await withEventLoop(configuration: world.configuration) { _ in
                        let there = try await connectedPair()
                        try await there.client.write("from another loop's buffers")
                        try await there.client.finishWriting()
                        try await copy(from: there.server, to: pair.client)
                        await there.close()
                    }
                }
                let text = try await pair.server.readExactly(27)
                #expect(text == Array("from another loop's buffers".utf8))
                try await other.value
                await pair.close()
            }
        }
    }
}
