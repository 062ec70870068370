// Writes, flushes, promises, writability, and what closing does to them.

import Foundation
import NIOConcurrencyHelpers
import NIOCore
import Rondo
import RondoNIO
import Testing

@Suite struct WritingTests {
    @Test(arguments: drivers) func nothingGoesOutBeforeAFlush(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            let written = channel.write(ByteBuffer(string: "a"))
            channel.write(ByteBuffer(string: "b"), promise: nil)
            for _ in 0..<20 { await Loop.yield() }
            #expect(try await channel.getOption(.bufferedWritableBytes).get() == 2)
            channel.flush()
            try await written.get()
            #expect(try await peer.text(2) == "ab")
            #expect(try await channel.getOption(.bufferedWritableBytes).get() == 0)
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func promisesSucceedInOrder(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            let order = NIOLockedValueBox<[Int]>([])
            var texts = ""
            let all = (0..<500).map { number in
                let text = String(repeating: "\(number % 10)", count: number % 7 == 0 ? 20_000 : number)
                texts += text
                let done = channel.write(ByteBuffer(string: text)).map { order.withLockedValue { $0.append(number) } }
                if number % 3 == 0 { channel.flush() }
                return done
            }
            channel.flush()
            let expected = texts
            let reading = start { try await peer.text(expected.utf8.count) }
            try await EventLoopFuture.andAllSucceed(all, on: channel.eventLoop).get()
            #expect(order.withLockedValue { $0 } == Array(0..<500))
            #expect(try await reading.value == expected)
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func aBufferMayBeChangedAfterItWasWritten(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            var buffer = ByteBuffer(string: String(repeating: "x", count: 100_000))
            channel.writeAndFlush(buffer, promise: nil)
            buffer.clear()
            buffer.writeString(String(repeating: "y", count: 100_000))
            #expect(try await peer.text(100_000) == String(repeating: "x", count: 100_000))
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func writabilityFollowsTheWaterMarks(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { channel in
                try channel.syncOptions!.setOption(.writeBufferWaterMark, value: .init(low: 10, high: 100))
                try channel.pipeline.syncOperations.addHandler(recorder)
            }
            channel.write(ByteBuffer(repeating: 1, count: 100), promise: nil)
            #expect(channel.isWritable)
            channel.write(ByteBuffer(repeating: 1, count: 1), promise: nil)
            #expect(!channel.isWritable && recorder.events.last == "not writable")
            channel.flush()
            await recorder.wait(for: "writable")
            #expect(channel.isWritable)
            _ = try await peer.readExactly(101)
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func aPeerThatDoesNotReadMakesItUnwritable(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            let piece = ByteBuffer(repeating: 7, count: 1 << 20)
            var count = 0
            while channel.isWritable || count < 16 {
                channel.writeAndFlush(piece, promise: nil)
                count += 1
                await Loop.yield()
            }
            #expect(!channel.isWritable)
            let reading = start {
                var left = count << 20
                while left > 0, let chunk = try await peer.read() { left -= chunk.count }
            }
            await recorder.wait { recorder.events.last == "writable" }
            try await reading.value
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func whatWasFlushedIsSentBeforeTheClose(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            let first = channel.eventLoop.makePromise(of: Void.self)
            channel.writeAndFlush(ByteBuffer(string: "first,"), promise: first)
            let second = channel.eventLoop.makePromise(of: Void.self)
            channel.writeAndFlush(ByteBuffer(string: "second"), promise: second)
            let third = channel.write(ByteBuffer(string: "third"))
            let closed = channel.eventLoop.makePromise(of: Void.self)
            channel.close(promise: closed)
            #expect(!channel.isActive)
            try await first.futureResult.get()
            try await second.futureResult.get()
            #expect(await failure { try await third.get() } as? ChannelError == .ioOnClosedChannel)
            try await closed.futureResult.get()
            #expect(String(decoding: try await peer.readToEnd(limit: 100), as: UTF8.self) == "first,second")
            await peer.close()
        }
    }

    @Test(arguments: drivers) func aPeerThatNeverReadsDelaysTheCloseForAWhileOnly(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            let start = ContinuousClock.now
            let last = channel.eventLoop.makePromise(of: Void.self)
            for _ in 0..<64 { channel.writeAndFlush(ByteBuffer(repeating: 1, count: 1 << 20), promise: nil) }
            channel.writeAndFlush(ByteBuffer(string: "last"), promise: last)
            try await channel.close().get()
            #expect(await failure { try await last.futureResult.get() } != nil)
            #expect(ContinuousClock.now - start > .seconds(1))
            await peer.close()
        }
    }

    @Test(arguments: drivers) func closingTheOutputIsWhatThePeerSees(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            let written = channel.eventLoop.makePromise(of: Void.self)
            channel.writeAndFlush(ByteBuffer(string: "last words"), promise: written)
            let lost = channel.write(ByteBuffer(string: "never flushed"))
            try await channel.close(mode: .output).get()
            try await written.futureResult.get()
            #expect(await failure { try await lost.get() } as? ChannelError == .outputClosed)
            await recorder.wait(for: "output closed")
            #expect(
                await failure { try await channel.writeAndFlush(ByteBuffer(string: "x")).get() } as? ChannelError
                    == .outputClosed)
            #expect(
                await failure { try await channel.close(mode: .output).get() } as? ChannelError == .outputClosed)
            #expect(String(decoding: try await peer.readToEnd(limit: 100), as: UTF8.self) == "last words")
            try await peer.write("I heard")
            await recorder.wait { recorder.text == "I heard" }
            #expect(channel.isActive)
            await peer.close()
            try await channel.closeFuture.get()
        }
    }

    @Test(arguments: drivers) func writingToAPeerThatHasGoneFailsAndCloses(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { try $0.syncOptions!.setOption(.autoRead, value: false) }
            await peer.abort()
            var error: (any Error)?
            for _ in 0..<1000 where error == nil {
                error = await failure { try await channel.writeAndFlush(ByteBuffer(string: "x")).get() }
            }
            let code = try #require(error as? NIOCore.IOError).errnoCode
            #expect(code == EPIPE || code == ECONNRESET)
            try await channel.closeFuture.get()
        }
    }

    @Test(arguments: drivers) func emptyWritesSucceedToo(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            try await channel.writeAndFlush(ByteBuffer()).get()
            let empty = channel.write(ByteBuffer())
            let full = channel.write(ByteBuffer(string: "x"))
            channel.flush()
            try await empty.get()
            try await full.get()
            #expect(try await peer.text(1) == "x")
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func partsOfFilesAreWritten(_ driver: DriverKind) throws {
        let path = FileManager.default.temporaryDirectory.path + "/rondo-nio-\(UInt64.random(in: 0 ... .max))"
        let bytes = (0..<500_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        #expect(FileManager.default.createFile(atPath: path, contents: Data(bytes)))
        defer { try? FileManager.default.removeItem(atPath: path) }
        let handle = try NIOFileHandle(_deprecatedPath: path)
        try run(driver) {
            let (channel, peer) = try await pair { _ in }
            let region = FileRegion(fileHandle: handle, readerIndex: 1000, endIndex: 400_000)
            channel.write(ByteBuffer(string: "head"), promise: nil)
            let written = channel.eventLoop.makePromise(of: Void.self)
            channel.pipeline.write(region, promise: written)
            channel.write(ByteBuffer(string: "tail"), promise: nil)
            channel.flush()
            let reading = start { try await peer.readExactly(4 + 399_000 + 4) }
            try await written.futureResult.get()
            let all = try await reading.value
            #expect(all == Array("head".utf8) + bytes[1000..<400_000] + Array("tail".utf8))
            try handle.close()
            try await channel.close().get()
            await peer.close()
        }
    }
}
