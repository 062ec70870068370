// Copies between sockets that carry so much that the kernel moves it: every byte, in its place, as with chunks.

import CRondo
import Glibc
import SystemPackage
import Testing

@testable import Rondo

@Suite struct BulkDetectorTests {
    @Test func bytesWithoutWaitsAreBulk() {
        var detector = BulkDetector(threshold: 1000)
        let notes = (0..<4).map { _ in detector.note(250, waited: false) }
        #expect(notes == [false, false, false, true])
        detector.restart(later: false)
        let again = detector.note(999, waited: false)
        #expect(!again)
        detector.restart(later: true)
        #expect(detector.threshold == 16_000)
        var last = BulkDetector(threshold: .max / 2)
        last.restart(later: true)
        #expect(last.threshold == .max)
    }

    @Test func messagesAreNot() {
        var detector = BulkDetector(threshold: 100_000)
        let piece = BulkDetector.minimumPiece
        for _ in 0..<100 {
            let isBulk = detector.note(piece - 1, waited: true)
            #expect(!isBulk)
        }
        // Large pieces are, though each is waited for.
        detector.restart(later: false)
        let notes = (0..<4).map { _ in detector.note(piece, waited: true) }
        #expect(notes == [false, false, false, true])
    }
}

extension LoopSuites {
    @Suite struct BulkCopyTests {
        private static let threshold = LoopConfiguration().bulkThreshold

        @Test(
            arguments: World.allCases,
            [threshold - 1, threshold, threshold + 1, 3 * threshold + 7, 16 * threshold + 13])
        func everyByteArrives(world: World, size: Int) throws {
            if world == .simulated, size > 2 * Self.threshold { return }  // chunks all the way, as those before
            try world.run {
                let ends = try await Proxied()
                let sender = start {
                    try await ends.client.sendBulk(size)
                    try await ends.client.finishWriting()
                }
                let proxy = start {
                    let count = try await copy(from: ends.near, to: ends.far)
                    try await ends.far.finishWriting()
                    return count
                }
                let isSame = try await ends.server.receives(size)
                let isOver = try await ends.server.read() == nil
                #expect(isSame && isOver)
                try await sender.value
                #expect(try await proxy.value == size)
                let moved = statistics.bytesMoved
                if size < Self.threshold || world == .simulated { #expect(moved == 0) }
                if size >= 16 * Self.threshold, world != .simulated { #expect(moved > 0) }
                #expect(loop.transferPipes.lent == 0 && loop.transferPipes.idle.count <= 1)
                await ends.close()
            }
        }

        @Test(arguments: World.real) func whatIsBehindTheLimitStays(world: World) throws {
            try world.run {
                let ends = try await Proxied()
                let bulk = start { try await copy(from: ends.near, to: ends.far, limit: 3_000_001) }
                var sent = try await ends.fillUntilBulk()
                // The block with the limit in it is in the kernel as a whole when the copy looks.
                while sent + Bulk.block < 3_000_001 {
                    ends.client.sendAtOnce(Bulk.bytes(Bulk.block, from: sent))
                    let isSame = try await ends.server.receives(Bulk.block, from: sent)
                    #expect(isSame)
                    sent += Bulk.block
                }
                ends.client.sendAtOnce(Bulk.bytes(Bulk.block, from: sent))
                #expect(try await bulk.value == 3_000_001)
                let rest = sent + Bulk.block - 3_000_001
                let isSame = try await ends.server.receives(3_000_001 - sent, from: sent)
                #expect(isSame && statistics.bytesMoved > 0)
                // The source is read as before, and copied from again, until it ends.
                let isRead = try await ends.near.receives(1000, from: 3_000_001)
                #expect(isRead)
                let again = start { try await copy(from: ends.near, to: ends.far) }
                try await ends.client.sendBulk(4 << 20, from: sent + Bulk.block)
                try await ends.client.finishWriting()
                let isRest = try await ends.server.receives(rest - 1000 + (4 << 20), from: 3_001_001)
                #expect(isRest)
                #expect(try await again.value == rest - 1000 + (4 << 20))
                await ends.close()
            }
        }

        /// What was written to the sink before goes first, and what others write while the source is waited for goes
        /// in between.
        @Test(arguments: World.real) func othersWriteToTheSink(world: World) throws {
            try world.run {
                let ends = try await Proxied()
                try await ends.far.write("before")
                let proxy = start { try await copy(from: ends.near, to: ends.far) }
                let before = try await ends.server.readExactly(6)
                #expect(before == Array("before".utf8))
                var sent = try await ends.fillUntilBulk()
                for round in 0..<10 {
                    try await ends.far.write("between \(round)")
                    let between = try await ends.server.readExactly(9)
                    #expect(between == Array("between \(round)".utf8))
                    ends.client.sendAtOnce(Bulk.bytes(Bulk.block, from: sent))
                    let isSame = try await ends.server.receives(Bulk.block, from: sent)
                    #expect(isSame)
                    sent += Bulk.block
                }
                // Only one may read.
                await settle()
                #expect(ends.waitsInBulk)
                let error = await ioError { _ = try await ends.near.read() }
                #expect(error?.cause == .busy)
                try await ends.client.finishWriting()
                #expect(try await proxy.value == sent)
                await ends.close()
            }
        }

        /// Messages after bulk are messages again, and bulk after messages is bulk.
        @Test(arguments: World.real) func messagesEndBulk(world: World) throws {
            try world.run {
                let ends = try await Proxied()
                let proxy = start { try await relay(ends.near, ends.far) }
                var (sent, answered) = (0, 0)
                for _ in 0..<3 {
                    while true {
                        ends.client.sendAtOnce(Bulk.bytes(Bulk.block, from: sent))
                        let isSame = try await ends.server.receives(Bulk.block, from: sent)
                        #expect(isSame)
                        sent += Bulk.block
                        await settle()
                        if ends.waitsInBulk { break }
                    }
                    let moved = statistics.bytesMoved
                    for round in 0..<20 {
                        try await ends.client.write(Bulk.bytes(100, from: sent))
                        let isSame = try await ends.server.receives(100, from: sent)
                        #expect(isSame)
                        sent += 100
                        try await ends.server.write(Bulk.bytes(100, from: answered))
                        let isAnswer = try await ends.client.receives(100, from: answered)
                        #expect(isAnswer)
                        answered += 100
                        if round > 2 { #expect(!ends.waitsInBulk) }
                    }
                    #expect(statistics.bytesMoved - moved <= 200, "only the first small piece may find bulk")
                    #expect(loop.transferPipes.lent == 0)
                }
                try await ends.client.finishWriting()
                try await ends.server.finishWriting()
                #expect(try await proxy.value == RelayCounts(forward: sent, back: answered))
                await ends.close()
            }
        }

        @Test(arguments: World.real) func bothDirectionsAtOnce(world: World) throws {
            try world.run {
                let ends = try await Proxied()
                let size = 24 << 20
                let proxy = start { try await relay(ends.near, ends.far) }
                let senders = [(ends.client, size), (ends.server, size + 5)].map { stream, size in
                    start {
                        try await stream.sendBulk(size)
                        try await stream.finishWriting()
                    }
                }
                let receivers = [(ends.server, size), (ends.client, size + 5)].map { stream, size in
                    start { try await stream.receives(size) }
                }
                for receiver in receivers { #expect(try await receiver.value) }
                for sender in senders { try await sender.value }
                #expect(try await proxy.value == RelayCounts(forward: size, back: size + 5))
                #expect(statistics.bytesMoved > 0)
                await ends.close()
            }
        }

        /// An echo of bulk: one connection is source and sink.
        @Test(arguments: World.real) func aStreamIntoItself(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let echo = start {
                    try await copy(from: pair.server, to: pair.server)
                    try await pair.server.finishWriting()
                }
                let sender = start {
                    try await pair.client.sendBulk(16 << 20)
                    try await pair.client.finishWriting()
                }
                let isSame = try await pair.client.receives(16 << 20)
                let isOver = try await pair.client.read() == nil
                #expect(isSame && isOver && statistics.bytesMoved > 0)
                try await sender.value
                try await echo.value
                await pair.close()
            }
        }

        @Test(arguments: World.real) func unixStreams(world: World) throws {
            try world.run {
                let (first, second) = (try UnixStream.pair(), try UnixStream.pair())
                let pair = try await connectedPair()
                // Unix to Unix to TCP.
                let copies = [
                    start { _ = try await relay(first.1, second.0) },
                    start { _ = try await relay(second.1, pair.client) },
                ]
                let sender = start {
                    try await first.0.sendBulk(16 << 20)
                    try await first.0.finishWriting()
                }
                let isSame = try await pair.server.receives(16 << 20)
                #expect(isSame && statistics.bytesMoved > 0)
                try await sender.value
                let back = start {
                    try await pair.server.sendBulk(16 << 20)
                    try await pair.server.finishWriting()
                }
                let isBack = try await first.0.receives(16 << 20)
                #expect(isBack)
                try await back.value
                for copy in copies { try await copy.value }
                for stream in [first.0, first.1, second.0, second.1] { await stream.close() }
                await pair.close()
            }
        }

        /// A call that moves bytes stops before urgent data for ever; receiving goes past it.
        @Test(arguments: World.real) func urgentDataStopsNothing(world: World) throws {
            try world.run {
                let ends = try await Proxied()
                let proxy = start { try await copy(from: ends.near, to: ends.far) }
                var sent = try await ends.fillUntilBulk()
                for _ in 0..<5 {
                    ends.client.sendAtOnce(Bulk.bytes(Bulk.block, from: sent))
                    let urgent: [UInt8] = [255]
                    let answer = unsafe Glibc.send(ends.client.descriptor.rawValue, urgent, 1, Int32(MSG_OOB))
                    #expect(answer == 1)
                    ends.client.sendAtOnce(Bulk.bytes(1000, from: sent + Bulk.block))
                    let isSame = try await ends.server.receives(Bulk.block + 1000, from: sent)
                    #expect(isSame)
                    sent += Bulk.block + 1000
                }
                try await ends.client.finishWriting()
                #expect(try await proxy.value == sent)
                await ends.close()
            }
        }
    }
}
