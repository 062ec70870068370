// Items out of streams that come in pieces: every way to cut a stream gives the same items, cancelling loses nothing,
// and what comes byte by byte costs as much as it is long.

import Testing

@testable import Rondo

@Suite struct BufferedReaderTests {
    // MARK: Lines

    @Test(arguments: [1, 2, 3, 5, 1000]) func linesEndWithOneOrTwoBytes(size: Int) async throws {
        let text = "one\ntwo\r\n\n\r\nthr\ree\r\r\nümläut\n"
        let reader = BufferedReader(Pieces(text, size: size))
        var lines: [String] = []
        while let line = try await reader.readLine() { lines.append(line) }
        #expect(lines == ["one", "two", "", "", "thr\ree\r", "ümläut"])
        let end = try await reader.readLine()
        #expect(end == nil)
    }

    @Test func linesAreASequence() async throws {
        let reader = BufferedReader(Pieces("a\nb\nc\nd", size: 3))
        var lines: [String] = []
        for try await line in reader.lines(lastLineMayBeOpen: true) {
            lines.append(line)
            if line == "b" { break }
        }
        for try await line in reader.lines(lastLineMayBeOpen: true) { lines.append(line) }
        #expect(lines == ["a", "b", "c", "d"])
    }

    @Test func aLineThatDoesNotEndSaysSo() async throws {
        let reader = BufferedReader(Pieces("whole\nhal", size: 2))
        let whole = try await reader.readLine()
        #expect(whole == "whole")
        let error = await ioError { try await reader.readLine() }
        #expect(error?.description == "read from the pieces: the peer ended the stream early")
        // It is still there for who wants it.
        let rest = try await reader.readLine(lastLineMayBeOpen: true)
        #expect(rest == "hal")
    }

    @Test func invalidUTF8IsReplaced() async throws {
        let reader = BufferedReader(Pieces([0x61, 0xff, 0x62, 10], size: 1))
        let line = try await reader.readLine()
        #expect(line == "a\u{FFFD}b")
    }

    @Test(arguments: [1, 2, 7, 1000]) func aLimitIsExact(size: Int) async throws {
        for ending in ["\n", "\r\n"] {
            let reader = BufferedReader(Pieces("12345\(ending)67890\(ending)", size: size))
            #expect(await ioError { try await reader.readLine(limit: 4) }?.cause == .limitExceeded(4))
            // Nothing is lost: a greater limit gets it.
            let line = try await reader.readLine(limit: 5)
            #expect(line == "12345")
            let next = try await reader.readLine(limit: .max)
            #expect(next == "67890")
        }
    }

    /// A peer that never ends its line is not listened to for ever.
    @Test func anEndlessLineStopsAtItsLimit() async throws {
        let source = Pieces([UInt8](repeating: 97, count: 1_000_000), size: 100)
        let reader = BufferedReader(source)
        #expect(await ioError { try await reader.readLine(limit: 1000) }?.cause == .limitExceeded(1000))
        #expect(source.reads <= 12)
    }

    // MARK: Costs

    @Test func aLongLineInTinyPiecesIsLinear() async throws {
        let count = 1 << 20
        let reader = BufferedReader(Pieces([UInt8](repeating: 97, count: count) + [10], size: 1))
        let line = try await reader.readLine(limit: count)
        #expect(line?.utf8.count == count)
        #expect(reader.searchedBytes == count + 1)
        #expect(reader.copiedBytes <= 2 * count + 2)
    }

    @Test func aLongDelimitedItemInTinyPiecesIsLinear() async throws {
        let count = 1 << 18
        let delimiter = Array("--boundary".utf8)
        let reader = BufferedReader(Pieces([UInt8](repeating: 45, count: count) + delimiter, size: 1))
        let item = try await reader.readUntil(delimiter, limit: count)
        #expect(item?.count == count)
        #expect(reader.searchedBytes <= delimiter.count * (count + delimiter.count))
        #expect(reader.copiedBytes <= count + delimiter.count)
    }

    @Test func itemsWithinAChunkAreCopiedOnce() async throws {
        let text = String(repeating: "a line of text\r\n", count: 1000)
        let reader = BufferedReader(Pieces(text))
        var count = 0
        while try await reader.readLine() != nil { count += 1 }
        #expect(count == 1000)
        #expect(reader.copiedBytes == text.utf8.count)
        #expect(reader.searchedBytes == text.utf8.count)
    }

    @Test func mixedItemsAreGatheredOnce() async throws {
        let line = Array("0123456789\n".utf8)
        let bytes = (0..<2000).flatMap { _ in line }
        let reader = BufferedReader(Pieces(bytes, size: 7))
        for _ in 0..<1000 {
            _ = try await reader.peek(15)
            _ = try await reader.readLine()
            _ = try await reader.readUntil(Array("9\n".utf8))
        }
        #expect(reader.bufferedCount == 0)
        // A byte is peeked at, gathered, moved up and taken out.
        #expect(reader.copiedBytes <= 5 * bytes.count)
    }

    // MARK: Delimiters, counts

    @Test(arguments: [1, 2, 3, 4, 1000]) func delimitersOfAnyLength(size: Int) async throws {
        let reader = BufferedReader(Pieces("a\r\n\rb\r\n\r\nc\r\n\r\n\r\n\r\nd,e", size: size))
        let head = try await reader.readUntil(Array("\r\n\r\n".utf8))
        #expect(head == Array("a\r\n\rb".utf8))
        let second = try await reader.readUntil(Array("\r\n\r\n".utf8))
        #expect(second == Array("c".utf8))
        let empty = try await reader.readUntil(Array("\r\n\r\n".utf8))
        #expect(empty == [])
        let comma = try await reader.readUntil([44])
        #expect(comma == Array("d".utf8))
        #expect(await ioError { try await reader.readUntil([44]) }?.cause == .unexpectedEnd)
        #expect(await ioError { try await reader.readUntil([]) }?.hint == nil)
        let rest = try await reader.readExactly(1)
        #expect(rest == Array("e".utf8))
        let end = try await reader.readUntil([44])
        #expect(end == nil)
    }

    @Test(arguments: [1, 2, 3, 1000]) func peekingTakesNothing(size: Int) async throws {
        let reader = BufferedReader(Pieces("hello\nworld", size: size))
        for count in [0, 1, 5, 8, 11, 12] {
            let seen = try await reader.peek(count)
            #expect(seen == Array("hello\nworld".utf8.prefix(count)))
        }
        let line = try await reader.readLine()
        #expect(line == "hello")
        try await reader.skip(2)
        let rest = try await reader.readExactly(3)
        #expect(rest == Array("rld".utf8))
        let none = try await reader.peek(1)
        #expect(none == [])
        #expect(await ioError { try await reader.skip(1) }?.cause == .unexpectedEnd)
        #expect(await ioError { try await reader.readExactly(1) }?.cause == .unexpectedEnd)
        let nothing = try await reader.readExactly(0)
        #expect(nothing == [])
    }

    @Test(arguments: [1, 3, 1000]) func readsOnAsAPlainSource(size: Int) async throws {
        let reader = BufferedReader(Pieces("header\nbody and more body", size: size))
        _ = try await reader.peek(9)
        let header = try await reader.readLine()
        #expect(header == "header")
        let sink = Collected()
        let count = try await copy(from: reader, to: sink)
        #expect(count == 18)
        #expect(sink.bytes == Array("body and more body".utf8))
    }

    // MARK: Frames

    private static let lengths: [FrameLength] = [
        .uint8, .uint16(), .uint16(.littleEndian), .uint32(), .uint32(.littleEndian), .varint,
    ]

    @Test(arguments: lengths) func framesGoThere(_ length: FrameLength) async throws {
        let frames = [[], [1], pattern(127), pattern(128), pattern(255)]
        let sink = Collected()
        let writer = BufferedWriter(sink, capacity: 100)
        for frame in frames { try await writer.writeFrame(frame, length: length) }
        try await writer.finishWriting()
        #expect(sink.isFinished)
        for size in [1, 2, 5, 64, 10_000] {
            let reader = BufferedReader(Pieces(sink.bytes, size: size))
            for frame in frames {
                let read = try await next(of: reader, length)
                #expect(read == frame)
            }
            let end = try await next(of: reader, length)
            #expect(end == nil)
        }
    }

    private func next(of reader: BufferedReader, _ length: FrameLength, limit: Int = 255) async throws -> [UInt8]? {
        guard let frame = try await reader.readFrame(length, limit: limit) else { return nil }
        return Array(frame)
    }

    @Test func numbersHaveTheOrderThatIsAskedFor() async throws {
        #expect(FrameLength.uint16().bytes(for: 0x1234) == [0x12, 0x34])
        #expect(FrameLength.uint16(.littleEndian).bytes(for: 0x1234) == [0x34, 0x12])
        #expect(FrameLength.uint32().bytes(for: 0x1234_5678) == [0x12, 0x34, 0x56, 0x78])
        #expect(FrameLength.varint.bytes(for: 300) == [0xac, 0x02])
        #expect(FrameLength.uint8.bytes(for: 256) == nil)
        #expect(FrameLength.uint32().bytes(for: 1 << 32) == nil)
        #expect(FrameLength.varint.bytes(for: .max)?.count == 9)
        let writer = BufferedWriter(Collected())
        let error = await ioError { try await writer.writeFrame(pattern(256), length: .uint8) }
        #expect(error?.description == "write to a byte stream: a frame of 256 bytes is too long for uint8")
    }

    @Test func framesOfHostilePeers() async throws {
        func cause(_ bytes: [UInt8], _ length: FrameLength, limit: Int = 100) async -> IOError.Cause? {
            await ioError {
                try await next(of: BufferedReader(Pieces(bytes, size: 1)), length, limit: limit)
            }?.cause
        }
        #expect(await cause([101], .uint8) == .limitExceeded(100))
        #expect(await cause([255, 255, 255, 255], .uint32(), limit: 1 << 20) == .limitExceeded(1 << 20))
        #expect(await cause([0, 0], .uint32()) == .unexpectedEnd)
        #expect(await cause([3, 1, 2], .uint8) == .unexpectedEnd)
        #expect(await cause([0x80], .varint) == .unexpectedEnd)
        let endless = [UInt8](repeating: 0xff, count: 20)
        #expect(await cause(endless, .varint) == .malformed("a frame's length takes more than 64 bits"))
        #expect(
            await cause([UInt8](repeating: 0xff, count: 9) + [1], .varint, limit: .max) == .limitExceeded(0x7fff_ffff))
        let greatest = [UInt8](repeating: 0xff, count: 9) + [1]
        #expect(await cause(greatest, .varint) == .limitExceeded(100))
    }

    /// A length of 2 GB takes no memory before the bytes come.
    @Test func memoryGrowsWithWhatArrives() async throws {
        let reader = BufferedReader(Pieces([0x7f, 255, 255, 255, 1], size: 5))
        let before = allocatedBytes()
        let error = await ioError { try await next(of: reader, .uint32(), limit: .max) }
        #expect(error?.cause == .unexpectedEnd)
        #expect(allocatedBytes() - before < 1_000_000)
    }

    @Test func aFrameInOnePieceIsNotCopied() async throws {
        let reader = BufferedReader(Pieces([3, 1, 2, 3, 2, 4, 5], size: 100))
        let frames = [try await next(of: reader, .uint8), try await next(of: reader, .uint8)]
        #expect(frames == [[1, 2, 3], [4, 5]])
        #expect(reader.copiedBytes == 0)
        let spread = BufferedReader(Pieces([200] + pattern(200), size: 50))
        let frame = try await next(of: spread, .uint8)
        #expect(frame == pattern(200))
        #expect(spread.copiedBytes == 201, "once")
    }

    // MARK: Any pieces, any cancellation

    /// The same items, however the stream is cut and whenever the reader is cancelled.
    @Test(arguments: 0..<200 as Range<UInt64>) func noByteIsLost(seed: UInt64) async throws {
        var numbers = SeededNumbers(state: seed &* 77)
        var bytes: [UInt8] = []
        var expected: [[UInt8]] = []
        let kinds = (0..<40).map { _ in numbers.below(5) }
        for kind in kinds {
            let item = (0..<numbers.below(60)).map { _ in UInt8(97 + numbers.below(3)) }
            expected.append(item)
            switch kind {
            case 0: bytes += item + [10]
            case 1: bytes += item + [13, 10]
            case 2: bytes += item + Array("--".utf8)
            case 3: bytes += [UInt8(item.count)] + item
            default: bytes += item
            }
        }
        let reader = BufferedReader(Pieces(bytes, seed: seed))
        for (kind, item) in zip(kinds, expected) {
            if numbers.below(4) == 0 {
                let seen = try await untilNotCancelled { () async throws(IOError) in try await reader.peek(2) }
                #expect(seen.count <= 2)
            }
            let read = try await untilNotCancelled { () async throws(IOError) -> [UInt8]? in
                switch kind {
                case 0, 1: return try await reader.readLine().map { Array($0.utf8) }
                case 2: return try await reader.readUntil(Array("--".utf8))
                case 3:
                    guard let frame = try await reader.readFrame(.uint8, limit: 255) else { return nil }
                    return Array(frame)
                default: return try await reader.readExactly(item.count)
                }
            }
            #expect(read == item, "kind \(kind)")
        }
        #expect(reader.bufferedCount == 0)
    }
}
