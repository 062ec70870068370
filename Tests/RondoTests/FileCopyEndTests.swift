// How copies from a file to a socket end: by the peer, by cancellation, by closing, and by what becomes of the file
// meanwhile. The file's offset says how far it has come, whatever happens.

import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct FileCopyEndTests {
        private static let size = 24 << 20

        /// Nothing of this process is in use while the peer does not read.
        @Test(arguments: World.real) func aSlowReaderStopsTheCopy(world: World) throws {
            try withStalled(world) { stalled in
                #expect(loop.transferPipes.lent == 0 && statistics.offloadDepth == 0)
                #expect(statistics.bytesMoved < 8 << 20, "what the kernel keeps for a connection")
                #expect(stalled.memory < 2 << 20)
                let isSame = try await stalled.pair.server.receives(Self.size)
                #expect(isSame)
                #expect(try await stalled.sender.value == Self.size)
            }
        }

        /// When the kernel has taken the last byte the copy is at its end, though nobody reads.
        @Test(arguments: World.real) func itEndsWhenAllIsTaken(world: World) throws {
            let room = Counter()
            try withStalled(world) { room.raise(to: $0.sent) }
            let folder = TemporaryFolder()
            try world.run {
                let file = try await bulkFile(room.value / 10 * 9, in: folder)
                let pair = try await connectedPair()
                for end in [pair.client, pair.server] { end.limitBuffers(to: 200_000) }
                let count = try await copy(from: file.source(), to: pair.client)
                #expect(count == room.value / 10 * 9 && statistics.bytesMoved > 0)
                await file.close()
                await pair.client.abort()
                await pair.server.abort()
            }
        }

        @Test(arguments: World.real) func aResetIsTheSinks(world: World) throws {
            try withStalled(world) { stalled in
                await stalled.pair.server.abort()
                let error = await ioError(of: stalled.sender)
                #expect(error?.errno == .connectionReset || error?.errno == .brokenPipe)
                #expect(error?.operation == "write to" && error?.subject == stalled.pair.client.subject)
                let next = await ioError { try await stalled.pair.client.write("x") }
                #expect(next?.cause == error?.cause)
            }
        }

        /// Cancelled, nothing is lost: what the source has not passed can be copied later.
        @Test(arguments: World.real) func cancelledWhileTheSinkIsWaitedFor(world: World) throws {
            try withStalled(world) { stalled in
                stalled.sender.cancel()
                let error = await ioError(of: stalled.sender)
                #expect(error?.cause == .cancelled && error?.subject == stalled.pair.client.subject)
                try await stalled.finishAnew(size: Self.size)
            }
        }

        @Test(arguments: World.real) func cancelledWhileItStandsInLine(world: World) throws {
            let folder = TemporaryFolder()
            try world.run({ $0.offloadThreads = 1 }) {
                let (file, pair) = (try await bulkFile(1 << 20, in: folder), try await connectedPair())
                let (begun, end) = (Counter(), Semaphore())
                let hog = start {
                    try await offload {
                        begun.add()
                        end.wait()
                    }
                }
                while begun.value == 0 { await EventLoop.yield() }
                let source = SharedSource(file.source())
                let sender = start { try await source.copy(to: pair.client, limit: 1 << 20) }
                while statistics.offloadDepth < 2 { await EventLoop.yield() }
                sender.cancel()
                let error = await ioError(of: sender)
                #expect(error?.cause == .cancelled && error?.description.hasPrefix("read \(file.path)") == true)
                #expect(source.offset == 0)
                end.signal()
                try await hog.value
                let again = start { try await source.copy(to: pair.client, limit: 1 << 20) }
                let isSame = try await pair.server.receives(1 << 20)
                #expect(isSame)
                #expect(try await again.value == 1 << 20)
                await file.close()
                await pair.close()
            }
        }

        /// At any time, a call that sends under way or not.
        @Test(arguments: World.real) func cancelledAtAnyTime(world: World) throws {
            let folder = TemporaryFolder()
            let report = SpyDriver.Report()
            try world.run({ $0.spy(report) }) {
                let file = try await bulkFile(4 << 20, in: folder)
                for round in 0..<40 {
                    let pair = try await connectedPair()
                    let source = SharedSource(file.source())
                    let sender = start { try await source.copy(to: pair.client, limit: 4 << 20) }
                    let sends = Counter()
                    report.beforeFileSend = { if sends.add() == 1 + round % 4 { sender.cancel() } }
                    let receiver = start { try await pair.server.readToEnd(limit: 4 << 20) }
                    let isCancelled = await Result { try await sender.value }.isFailure
                    report.beforeFileSend = nil
                    let offset = source.offset
                    #expect(isCancelled || offset == 4 << 20)
                    try await pair.client.finishWriting()
                    let bytes = try await receiver.value
                    #expect(bytes.count == offset && isPart(bytes, of: Bulk.part, at: 0))
                    await pair.close()
                }
                await file.close()
            }
        }

        /// Somebody else closes the file or breaks the connection.
        @Test(arguments: World.real, [0, 1, 2]) func closedByOthers(world: World, what: Int) throws {
            try withStalled(world) { stalled in
                switch what {
                case 0: await stalled.pair.client.close()
                case 1: await stalled.pair.client.abort()
                default:
                    await stalled.file.close()
                    start { while let chunk = try? await stalled.pair.server.read() { _ = chunk.count } }
                }
                let error = await ioError(of: stalled.sender)
                #expect(error?.cause == .closed)
                #expect(error?.operation == (what == 2 ? "read" : "write to"))
            }
        }

        /// The file that is closed stays open for the call that sends from it.
        @Test(arguments: World.real) func closedWhileItIsSent(world: World) throws {
            let folder = TemporaryFolder()
            let report = SpyDriver.Report()
            try world.run({ $0.spy(report) }) {
                let (file, pair) = (try await bulkFile(1 << 20, in: folder), try await connectedPair())
                report.beforeFileSend = { start { await file.close() } }
                let source = SharedSource(file.source())
                let sender = start { try await source.copy(to: pair.client, limit: 1 << 20) }
                let receiver = start { try await pair.server.readToEnd(limit: 1 << 20) }
                let result = await Result { try await sender.value }
                if case .failure(let error) = result { #expect((error as? IOError)?.cause == .closed) }
                #expect(source.offset > 0)
                try await pair.client.finishWriting()
                let bytes = try await receiver.value
                #expect(bytes.count == source.offset && isPart(bytes, of: Bulk.part, at: 0))
                report.beforeFileSend = nil
                await file.close()
                await pair.close()
            }
        }

        @Test(arguments: World.real, [20 << 20, 28 << 20]) func itsSizeChanges(world: World, size: Int) throws {
            try withStalled(world) { stalled in
                try await stalled.file.truncate(to: Int64(size))
                if size > Self.size {
                    let more = Bulk.bytes(size - Self.size, from: Self.size)
                    try await stalled.file.write(more, at: Int64(Self.size))
                }
                let isSame = try await stalled.pair.server.receives(size)
                #expect(isSame)
                #expect(try await stalled.sender.value == size)
            }
        }

        @Test(arguments: World.real) func theLoopEnds(world: World) throws {
            let folder = TemporaryFolder()
            let ended = Counter()
            try world.run(objectsOutliveIt: true) {
                let stalled = try await Stalled(size: Self.size, in: folder)
                start {
                    #expect(await ioError(of: stalled.sender)?.cause == .cancelled)
                    ended.add()
                }
            }
            #expect(ended.value == 1)
        }

        fileprivate func withStalled(_ world: World, _ body: @escaping @Sendable (Stalled) async throws -> Void) throws
        {
            let folder = TemporaryFolder()
            try world.run {
                let stalled = try await Stalled(size: Self.size, in: folder)
                try await body(stalled)
                await stalled.file.close()
                await stalled.pair.client.abort()
                await stalled.pair.server.abort()
                #expect(statistics.offloadDepth == 0)
            }
        }
    }
}

/// A copy from a file whose peer does not read, and that has come to rest.
private struct Stalled: Sendable {
    let file: File
    let pair: Pair
    let source: SharedSource
    let sender: Task<Int, any Error>
    /// What this process has taken for it.
    let memory: Int

    init(size: Int, in folder: TemporaryFolder) async throws {
        file = try await bulkFile(size, in: folder)
        pair = try await connectedPair()
        for end in [pair.client, pair.server] { end.limitBuffers(to: 200_000) }
        source = SharedSource(file.source())
        let (source, pair) = (source, pair)
        let allocated = allocatedBytes()
        sender = start { try await source.copy(to: pair.client) }
        // The call in the pool that finds no room may come late.
        while loop.pending.countByKind()[.poll] != 1 || pair.client.hasRoomToSend {
            while statistics.bytesMoved == 0 || pair.client.hasRoomToSend { await EventLoop.yield() }
            #expect(try await comesToRest { Int(statistics.bytesMoved) })
        }
        memory = allocatedBytes() - allocated
    }

    /// How much the kernel has taken: the source does not know before its copy ends.
    var sent: Int { Int(statistics.bytesMoved) + LoopSuites.FileCopyTests.threshold }

    /// Copies the rest, and looks at all that arrives.
    func finishAnew(size: Int) async throws {
        let (source, pair) = (source, pair)
        let before = source.offset
        let rest = start { try await source.copy(to: pair.client) }
        let isSame = try await pair.server.receives(size)
        #expect(isSame)
        #expect(try await rest.value == size - before)
        #expect(source.offset == size)
    }
}

extension Result where Failure == any Error {
    fileprivate init(_ body: () async throws -> Success) async {
        do { self = .success(try await body()) } catch { self = .failure(error) }
    }

    fileprivate var isFailure: Bool { if case .failure = self { true } else { false } }
}
