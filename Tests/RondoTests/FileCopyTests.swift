// Copies from a file to a socket, that the kernel sends by itself where there is much: every byte, in its place, as
// with chunks.

import CRondo
import Glibc
import SystemPackage
import Testing

@testable import Rondo

/// A file with a stretch of the stream of `Bulk`.
func bulkFile(_ count: Int, in folder: TemporaryFolder) async throws -> File {
    let path = FilePath("\(folder.path)/bulk")
    try await File.write(Bulk.bytes(count, from: 0), to: path)
    return try await File.open(path, .update())
}

/// A source that a test looks at when its copy has ended.
final class SharedSource: @unchecked Sendable {
    // SAFETY: used by the tasks of one loop, by one after the other.
    private let source: FileSource
    var offset: Int { Int(source.offset) }

    init(_ source: FileSource) { self.source = source }

    func copy(to stream: SocketStream, limit: Int = .max) async throws -> Int {
        try await Rondo.copy(from: source, to: stream, limit: limit)
    }

    func skip(_ count: Int) async throws -> Int { try await source.read(upTo: count)?.count ?? 0 }
}

extension LoopSuites {
    @Suite struct FileCopyTests {
        /// From here on the kernel does it.
        static let threshold = 256 * 1024

        @Test(
            arguments: World.real,
            [0, 1, threshold - 1, threshold, threshold + 1, 2 * threshold, 4 << 20, 9 << 20 + 13])
        func everyByteArrives(world: World, size: Int) throws {
            let folder = TemporaryFolder()
            for limit in [Int.max, size, size + Self.threshold] {
                try world.run {
                    let file = try await bulkFile(size, in: folder)
                    let pair = try await connectedPair()
                    let source = SharedSource(file.source())
                    let sender = start {
                        try await pair.client.write("before")
                        let count = try await source.copy(to: pair.client, limit: limit)
                        try await pair.client.write("after")
                        try await pair.client.finishWriting()
                        return count
                    }
                    let before = try await pair.server.readExactly(6)
                    let isSame = try await pair.server.receives(size)
                    let after = try await pair.server.readToEnd(limit: 100)
                    #expect(before == Array("before".utf8) && isSame && after == Array("after".utf8))
                    #expect(try await sender.value == size)
                    #expect(source.offset == size)
                    let expected = limit == .max ? size - Self.threshold : limit < Self.threshold ? 0 : size
                    #expect(statistics.bytesMoved == UInt64(max(0, expected)))
                    await file.close()
                    await pair.close()
                }
            }
        }

        @Test(arguments: World.allCases) func aPartFromSomewhere(world: World) throws {
            let folder = TemporaryFolder()
            let path = world == .simulated ? "/bulk" : "\(folder.path)/bulk"
            try world.run {
                try await File.write(Bulk.bytes(3 << 20, from: 0), to: FilePath(path))
                let file = try await File.open(FilePath(path))
                let pair = try await connectedPair()
                let source = SharedSource(file.source(from: 100_001))
                let sender = start {
                    let first = try await source.copy(to: pair.client, limit: 2_000_003)
                    let offset = source.offset
                    let skipped = try await source.skip(10)
                    let second = try await source.copy(to: pair.client)
                    try await pair.client.finishWriting()
                    return (first, offset, skipped, second)
                }
                let isFirst = try await pair.server.receives(2_000_003, from: 100_001)
                let isRest = try await pair.server.receives((3 << 20) - 2_100_014, from: 2_100_014)
                let isOver = try await pair.server.read() == nil
                #expect(isFirst && isRest && isOver)
                let answer = try await sender.value
                #expect(answer == (2_000_003, 2_100_004, 10, (3 << 20) - 2_100_014))
                #expect((statistics.bytesMoved > 2_000_003) == (world != .simulated))
                // At the end, and behind it, there is nothing.
                for offset: Int64 in [3 << 20, 5 << 20] {
                    let rest = try await copy(from: file.source(from: offset), to: pair.server, limit: 1 << 20)
                    #expect(rest == 0)
                }
                await file.close()
                await pair.close()
            }
        }

        /// A Unix stream is as good a sink.
        @Test(arguments: World.real) func unixStreams(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let file = try await bulkFile(8 << 20, in: folder)
                let pair = try UnixStream.pair()
                let sender = start {
                    _ = try await copy(from: file.source(), to: pair.0)
                    try await pair.0.finishWriting()
                }
                let isSame = try await pair.1.receives(8 << 20)
                let isOver = try await pair.1.read() == nil
                #expect(isSame && isOver && statistics.bytesMoved > 7 << 20)
                try await sender.value
                for stream in [pair.0, pair.1] { await stream.close() }
                await file.close()
            }
        }

        /// Many at once, from one file.
        @Test(arguments: World.real) func manyAtOnce(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let file = try await bulkFile(2 << 20, in: folder)
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for _ in 0..<32 {
                        group.addTask(executorPreference: loop.executor) {
                            let pair = try await connectedPair()
                            let sender = start { try await copy(from: file.source(), to: pair.client) }
                            let isSame = try await pair.server.receives(2 << 20)
                            #expect(isSame)
                            #expect(try await sender.value == 2 << 20)
                            await pair.close()
                        }
                    }
                    try await group.waitForAll()
                }
                #expect(statistics.bytesMoved == 32 * ((2 << 20) - UInt64(Self.threshold)))
                await file.close()
            }
        }

        /// Files that say that they are empty, and others that the kernel does not send by itself.
        @Test(arguments: World.real) func filesOfTheKernel(world: World) throws {
            try world.run {
                for limit in [Int.max, 1 << 20] {
                    let file = try await File.open("/proc/cpuinfo")
                    let pair = try await connectedPair()
                    let sender = start {
                        let count = try await copy(from: file.source(), to: pair.client, limit: limit)
                        try await pair.client.finishWriting()
                        return count
                    }
                    let text = try await pair.server.readToEnd(limit: 1 << 20)
                    let count = try await sender.value
                    #expect(!text.isEmpty && text.count == count && statistics.bytesMoved == 0)
                    await file.close()
                    await pair.close()
                }
            }
        }

        /// Where the kernel does not do it, chunks do.
        @Test(arguments: World.real, [true, false]) func withoutTheKernel(world: World, breaksSends: Bool) throws {
            let folder = TemporaryFolder()
            let report = SpyDriver.Report()
            if breaksSends { report.breaksFileSends = true } else { report.prepareError = .notSupported }
            try world.run({ $0.spy(report) }) {
                let file = try await bulkFile(3 << 20, in: folder)
                let pair = try await connectedPair()
                let sender = start { try await copy(from: file.source(), to: pair.client, limit: 3 << 20) }
                let isSame = try await pair.server.receives(3 << 20)
                #expect(isSame && statistics.bytesMoved == 0)
                #expect(try await sender.value == 3 << 20)
                await file.close()
                await pair.close()
            }
        }
    }
}
