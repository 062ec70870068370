// Small writes are collected, large ones go past the buffer.

import Testing

@testable import Rondo

@Suite struct BufferedWriterTests {
    @Test func smallWritesBecomeOne() async throws {
        let sink = Collected()
        let writer = BufferedWriter(sink, capacity: 10)
        for text in ["a", "bc", "def"] { try await writer.write(text) }
        #expect(sink.writes.isEmpty && writer.bufferedCount == 6)
        try await writer.write("ghij")
        #expect(sink.writes.isEmpty, "it fits exactly")
        try await writer.write("k")
        #expect(sink.writes == [Array("abcdefghij".utf8)])
        try await writer.flush()
        try await writer.flush()
        #expect(sink.writes == [Array("abcdefghij".utf8), Array("k".utf8)])
        try await writer.finishWriting()
        #expect(sink.isFinished && sink.bytes.count == 11)
    }

    @Test func largeWritesFollowTheBufferInOneCall() async throws {
        let sink = Collected()
        let writer = BufferedWriter(sink, capacity: 10)
        try await writer.write(pattern(10))
        #expect(sink.writes.isEmpty)
        try await writer.write(pattern(50, from: 10))
        #expect(sink.vectored == 1 && sink.bytes == pattern(60))
        try await writer.write(pattern(100, from: 60))
        #expect(sink.vectored == 1 && sink.writes.count == 3, "with nothing to send before it")
        let chunk = ByteChunk(pattern(4, from: 160))
        try await writer.write(chunk)
        #expect(writer.bufferedCount == 4)
        let large = ByteChunk(pattern(20, from: 164))
        try await writer.write(large)
        #expect(sink.bytes == pattern(184))
    }

    @Test(arguments: 0..<50 as Range<UInt64>) func anySizesKeepTheirOrder(seed: UInt64) async throws {
        var numbers = SeededNumbers(state: seed)
        let sink = Collected()
        let writer = BufferedWriter(sink, capacity: 1 + numbers.below(40))
        var total = 0
        for _ in 0..<100 {
            let count = numbers.below(60)
            switch numbers.below(5) {
            case 0: try await writer.flush()
            case 1:
                let chunk = ByteChunk(pattern(count, from: total))
                try await writer.write(chunk)
                total += count
            default:
                try await writer.write(pattern(count, from: total))
                total += count
            }
            #expect(writer.bufferedCount <= writer.capacity)
        }
        try await writer.flush()
        #expect(sink.bytes == pattern(total))
    }

    @Test func partsGoTogether() async throws {
        let sink = Collected()
        try await sink.write(contentsOf: [pattern(10), [], pattern(20, from: 10), pattern(5, from: 30)])
        #expect(sink.writes == [pattern(35)])
        try await sink.write(contentsOf: [pattern(10, from: 35), pattern(200_000, from: 45)])
        #expect(sink.vectored == 1 && sink.bytes == pattern(200_045))
        try await sink.write(contentsOf: [])
        #expect(sink.bytes.count == 200_045)
    }

    @Test func anErrorOfTheSinkComesThrough() async throws {
        let sink = Collected()
        sink.failure = IOError("write to", "it", .system(.brokenPipe))
        let writer = BufferedWriter(sink, capacity: 10)
        try await writer.write("x")
        #expect(await ioError { try await writer.flush() } == sink.failure)
        #expect(await ioError { try await writer.write(pattern(100)) } == sink.failure)
    }
}
