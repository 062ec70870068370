// How copies in bulk end: by the peers, by cancellation, by closing, or because there is no pipe. What is promised of
// chunks holds here.

import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct BulkEndTests {
        /// Everything stands still after what the kernel holds at most and one pipe, and goes on when the reader does.
        @Test(arguments: World.real) func aSlowReaderStopsTheSource(world: World) throws {
            try world.run {
                let ends = try await Proxied(buffers: 200_000)
                let sender = start {
                    try await ends.client.sendBulk(24 << 20)
                    try await ends.client.finishWriting()
                }
                let proxy = start { try await copy(from: ends.near, to: ends.far) }
                let isBegun = try await ends.server.receives(8 << 20)
                #expect(isBegun)
                #expect(try await comesToRest { Int(statistics.bytesMoved) })
                let moved = statistics.bytesMoved
                #expect(moved > 0 && moved < 12 << 20, "one pipe, and what the kernel keeps for the last connection")
                #expect(loop.transferPipes.lent <= 1)
                let isSame = try await ends.server.receives(16 << 20, from: 8 << 20)
                let isOver = try await ends.server.isIdleAfter(sender)
                #expect(isSame && isOver)
                #expect(try await proxy.value == 24 << 20)
                await ends.close()
            }
        }

        /// What the peer has closed is told to the right one: the end of one direction, in bulk.
        @Test(arguments: World.real) func eachSideMayEndFirst(world: World) throws {
            try world.run {
                for clientFirst in [true, false] {
                    let ends = try await Proxied()
                    let proxy = start { try await relay(ends.near, ends.far) }
                    let (first, second) = clientFirst ? (ends.client, ends.server) : (ends.server, ends.client)
                    let sender = start {
                        try await first.sendBulk(8 << 20)
                        try await first.finishWriting()
                    }
                    let isSame = try await second.receives(8 << 20)
                    let isOver = try await second.read() == nil
                    #expect(isSame && isOver)
                    let back = start {
                        try await second.sendBulk(8 << 20)
                        try await second.finishWriting()
                    }
                    let isAnswer = try await first.receives(8 << 20)
                    #expect(isAnswer)
                    try await sender.value
                    try await back.value
                    #expect(try await proxy.value == RelayCounts(forward: 8 << 20, back: 8 << 20))
                    #expect(statistics.bytesMoved > 0)
                    await ends.close()
                }
            }
        }

        @Test(arguments: World.real) func aResetSaysWhichEnd(world: World) throws {
            try world.run {
                for breaksSource in [true, false] {
                    let ends = try await Proxied()
                    let proxy = start { try await copy(from: ends.near, to: ends.far) }
                    let sent = try await ends.fillUntilBulk()
                    await (breaksSource ? ends.client : ends.server).abort()
                    if !breaksSource {
                        // A sink tells when something is sent to it.
                        start { try await ends.client.sendBulk(8 << 20, from: sent) }
                    }
                    let error = await ioError(of: proxy)
                    #expect(error?.errno == .connectionReset || !breaksSource && error?.errno == .brokenPipe)
                    #expect(error?.operation == (breaksSource ? "read from" : "write to"))
                    // Whoever asks next is told the same.
                    let next = await ioError {
                        if breaksSource { _ = try await ends.near.read() } else { try await ends.far.write("x") }
                    }
                    #expect(next?.cause == error?.cause)
                    #expect(loop.transferPipes.lent == 0)
                    await ends.abort()
                }
            }
        }

        /// While it waits for the source nothing is lost: both streams are as good as before.
        @Test(arguments: World.real) func cancelledWhileTheSourceIsWaitedFor(world: World) throws {
            try world.run {
                let ends = try await Proxied()
                let proxy = start { try await copy(from: ends.near, to: ends.far) }
                let sent = try await ends.fillUntilBulk()
                #expect(loop.transferPipes.lent == 0, "a source that waits has no pipe")
                proxy.cancel()
                let error = await ioError(of: proxy)
                #expect(error?.cause == .cancelled && error?.subject == ends.near.subject)
                #expect(!ends.waitsInBulk)
                ends.client.sendAtOnce(Bulk.bytes(1000, from: sent))
                let isRead = try await ends.near.receives(1000, from: sent)
                try await ends.far.write("more")
                let more = try await ends.server.readExactly(4)
                #expect(isRead && more == Array("more".utf8))
                await ends.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func cancelledWhileTheSinkIsWaitedFor(world: World) throws {
            let report = SpyDriver.Report()
            try world.run({ $0.spy(report) }) {
                let ends = try await Proxied(buffers: 200_000)
                let (proxy, sender) = try await stalled(ends)
                proxy.cancel()
                let error = await ioError(of: proxy)
                #expect(error?.cause == .cancelled && error?.subject == ends.far.subject)
                #expect(await ioError { try await ends.far.write("more") }?.cause == .cancelled)
                #expect(loop.transferPipes.lent == 0 && loop.transferPipes.idle.isEmpty, "bytes were left in it")
                sender.cancel()
                _ = await ioError(of: sender)
                await ends.abort()
                #expect(statistics.pendingOperations == 0)
            }
            #expect(!report.pipes.isEmpty && report.openPipeEnds == 0)
        }

        /// Somebody else closes or breaks a stream that a copy in bulk waits for.
        @Test(arguments: World.real) func closedByOthers(world: World) throws {
            try world.run {
                for (waitsForSource, closesSource, aborts) in [
                    (true, true, false), (true, true, true), (true, false, false), (true, false, true),
                    (false, true, false), (false, true, true), (false, false, false), (false, false, true),
                ] {
                    let ends = try await Proxied(buffers: waitsForSource ? nil : 200_000)
                    var proxy: Task<Int, any Error>
                    var sender: Task<Void, any Error>?
                    var sent = 0
                    if waitsForSource {
                        proxy = start { try await copy(from: ends.near, to: ends.far) }
                        sent = try await ends.fillUntilBulk()
                    } else {
                        (proxy, sender) = try await stalled(ends)
                    }
                    let stream = closesSource ? ends.near : ends.far
                    // Returns at once, whoever waits.
                    if aborts { await stream.abort() } else { await stream.close() }
                    if waitsForSource, !closesSource { ends.client.sendAtOnce(Bulk.bytes(1000, from: sent)) }
                    if !waitsForSource, closesSource {
                        // The bytes that are on their way still go.
                        start { while let chunk = try? await ends.server.read() { _ = chunk.count } }
                    }
                    let error = await ioError(of: proxy)
                    #expect(error?.cause == .closed)
                    #expect(error?.operation == (closesSource ? "read from" : "write to"))
                    sender?.cancel()
                    await ends.abort()
                    #expect(loop.transferPipes.lent == 0 && statistics.pendingOperations <= 1)
                }
            }
        }

        /// The loop ends under a copy that waits.
        @Test(arguments: World.real) func theLoopEnds(world: World) throws {
            let report = SpyDriver.Report()
            for waitsForSource in [true, false] {
                let ended = Counter()
                try world.run({ $0.spy(report) }, objectsOutliveIt: true) {
                    let ends = try await Proxied(buffers: waitsForSource ? nil : 200_000)
                    var proxy: Task<Int, any Error>
                    if waitsForSource {
                        proxy = start { try await copy(from: ends.near, to: ends.far) }
                        _ = try await ends.fillUntilBulk()
                    } else {
                        (proxy, _) = try await stalled(ends)
                    }
                    start {
                        #expect(await ioError(of: proxy)?.cause == .cancelled)
                        ended.add()
                    }
                }
                #expect(ended.value == 1)
            }
            #expect(!report.pipes.isEmpty && report.openPipeEnds == 0)
        }

        /// Without pipes, or where the kernel does not move bytes, chunks do.
        @Test(arguments: World.real, [0, 1, 2, 3]) func withoutPipes(world: World, obstacle: Int) throws {
            let report = SpyDriver.Report()
            if obstacle == 1 { report.pipeError = .tooManyOpenFiles }
            if obstacle == 2 { report.pipeError = .notSupported }
            if obstacle == 3 { report.moveAnswer = -EINVAL }
            try world.run({
                $0.spy(report)
                if obstacle == 0 { $0.transferPipeLimit = 0 }
            }) {
                let ends = try await Proxied()
                let proxy = start { try await relay(ends.near, ends.far) }
                let sender = start {
                    try await ends.client.sendBulk(8 << 20)
                    try await ends.client.finishWriting()
                }
                let isSame = try await ends.server.receives(8 << 20)
                #expect(isSame && statistics.bytesMoved == 0)
                try await ends.server.finishWriting()
                try await sender.value
                #expect(try await proxy.value == RelayCounts(forward: 8 << 20, back: 0))
                #expect(loop.transferPipes.isUnsupported == (obstacle == 2) && loop.transferPipes.lent == 0)
                await ends.close()
            }
        }

        /// More relays than pipes; afterwards a few pipes are kept, and none when the loop has ended.
        @Test(arguments: World.real) func manyAtOnce(world: World) throws {
            let report = SpyDriver.Report()
            try world.run({ $0.spy(report) }) {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<64 {
                        group.addTask(executorPreference: loop.executor) { try await relayOne(number) }
                    }
                    try await group.waitForAll()
                }
                #expect(statistics.bytesMoved > 0)
                #expect(loop.transferPipes.lent == 0 && loop.transferPipes.idle.count <= 4)
                #expect(report.openPipeEnds == 2 * loop.transferPipes.idle.count)
            }
            #expect(!report.pipes.isEmpty && report.openPipeEnds == 0)
        }
    }
}

/// A relay of 4 MB from a place of its own in the stream.
private func relayOne(_ number: Int) async throws {
    let (size, offset) = (4 << 20 + number, number * 1000)
    let ends = try await Proxied()
    let proxy = start { try await relay(ends.near, ends.far) }
    let sender = start {
        try await ends.client.sendBulk(size, from: offset)
        try await ends.client.finishWriting()
    }
    let isSame = try await ends.server.receives(size, from: offset)
    try await ends.server.finishWriting()
    let counts = try await proxy.value
    #expect(isSame && counts == RelayCounts(forward: size, back: 0))
    try await sender.value
    await ends.close()
}

/// A copy in bulk whose sink is full.
private func stalled(_ ends: Proxied) async throws -> (proxy: Task<Int, any Error>, sender: Task<Void, any Error>) {
    let proxy = start { try await copy(from: ends.near, to: ends.far) }
    let sent = try await ends.fillUntilBulk()
    let sender = start { try await ends.client.sendBulk(64 << 20, from: sent) }
    while !ends.far.sending.isBusy || ends.far.hasRoomToSend { await EventLoop.yield() }
    #expect(try await comesToRest { Int(statistics.bytesMoved) })
    #expect(ends.far.sending.isBusy && loop.transferPipes.lent == 1)
    return (proxy, sender)
}

extension SocketStream {
    /// Whether nothing more comes when the sender has ended.
    fileprivate func isIdleAfter(_ sender: Task<Void, any Error>) async throws -> Bool {
        try await sender.value
        await settle()
        return received.isEmpty
    }
}
