// Read control: autoRead, read(), half-closure.

import NIOCore
import Rondo
import RondoNIO
import Testing

@Suite struct ReadingTests {
    @Test(arguments: drivers) func withoutAutoReadOneReadBringsOneMessage(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { channel in
                try channel.syncOptions!.setOption(.autoRead, value: false)
                try channel.pipeline.syncOperations.addHandler(recorder)
            }
            try await peer.write("first")
            for _ in 0..<20 { await Loop.yield() }
            #expect(recorder.reads == 0)
            channel.read()
            await recorder.wait { recorder.reads == 1 }
            #expect(recorder.text == "first")
            try await peer.write("second")
            for _ in 0..<20 { await Loop.yield() }
            #expect(recorder.reads == 1)
            channel.read()
            await recorder.wait { recorder.reads == 2 }
            #expect(recorder.text == "firstsecond")
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func autoReadCanBeTurnedOffWhileTheChannelWaits(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            for _ in 0..<5 { await Loop.yield() }
            try await channel.setOption(.autoRead, value: false).get()
            #expect(try await channel.getOption(.autoRead).get() == false)
            try await peer.write("later")
            for _ in 0..<50 { await Loop.yield() }
            #expect(recorder.reads == 0)
            try await channel.setOption(.autoRead, value: true).get()
            await recorder.wait { recorder.text == "later" }
            await peer.close()
            try await channel.closeFuture.get()
        }
    }

    /// A handler that swallows reads is how back-pressure goes through a pipeline.
    @Test(arguments: drivers) func aHandlerCanHoldReadsBack(_ driver: DriverKind) throws {
        final class Gate: ChannelDuplexHandler, @unchecked Sendable {
            // SAFETY: used on the loop only.
            typealias InboundIn = ByteBuffer
            typealias OutboundIn = ByteBuffer
            var isOpen = false
            var held = 0
            func read(context: ChannelHandlerContext) {
                if isOpen { context.read() } else { held += 1 }
            }
        }
        try run(driver) {
            let (gate, recorder) = (Gate(), Recorder())
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandlers([gate, recorder]) }
            try await peer.write("x")
            for _ in 0..<20 { await Loop.yield() }
            #expect(recorder.reads == 0 && gate.held == 1)
            gate.isOpen = true
            channel.read()
            await recorder.wait { recorder.reads == 1 }
            await peer.close()
            try await channel.closeFuture.get()
        }
    }

    @Test(arguments: drivers) func aSlowReaderStopsItsSender(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { channel in
                try channel.syncOptions!.setOption(.autoRead, value: false)
                try channel.pipeline.syncOperations.addHandler(recorder)
            }
            let size = 64 << 20
            let sending = start { try await peer.write([UInt8](repeating: 1, count: size)) }
            channel.read()
            await recorder.wait { recorder.reads == 1 }
            for _ in 0..<1000 { await Loop.yield() }
            #expect(recorder.received.count < size / 2)
            try await channel.setOption(.autoRead, value: true).get()
            await recorder.wait { recorder.received.count == size }
            try await sending.value
            await peer.close()
            try await channel.closeFuture.get()
        }
    }

    @Test(arguments: drivers) func halfClosureKeepsTheOtherDirection(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { channel in
                try channel.syncOptions!.setOption(.allowRemoteHalfClosure, value: true)
                try channel.pipeline.syncOperations.addHandler(recorder)
            }
            try await peer.write("question")
            try await peer.finishWriting()
            await recorder.wait(for: "input closed")
            #expect(channel.isActive && recorder.text == "question")
            try await channel.writeAndFlush(ByteBuffer(string: "answer")).get()
            #expect(try await peer.text(6) == "answer")
            #expect(
                await failure { try await channel.close(mode: .input).get() } as? ChannelError == .inputClosed)
            // Both directions have ended: so has the channel.
            channel.close(mode: .output, promise: nil)
            try await channel.closeFuture.get()
            #expect(try await peer.read() == nil)
            await peer.close()
        }
    }

    @Test(arguments: drivers) func withoutHalfClosureTheEndIsTheEnd(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            try await peer.write("bye")
            try await peer.finishWriting()
            try await channel.closeFuture.get()
            #expect(recorder.text == "bye" && !recorder.events.contains("input closed"))
            #expect(try await peer.read() == nil)
            await peer.close()
        }
    }

    @Test(arguments: drivers) func closingTheInputStopsReading(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            try await channel.close(mode: .input).get()
            #expect(recorder.events.last == "input closed")
            try await peer.write("unheard")
            for _ in 0..<50 { await Loop.yield() }
            #expect(recorder.reads == 0)
            try await channel.writeAndFlush(ByteBuffer(string: "still here")).get()
            #expect(try await peer.text(10) == "still here")
            try await channel.close().get()
            await peer.close()
        }
    }

    @Test(arguments: drivers) func theEndIsNoticedThoughNobodyReads(_ driver: DriverKind) throws {
        try run(driver) {
            let (channel, peer) = try await pair { try $0.syncOptions!.setOption(.autoRead, value: false) }
            await peer.close()
            try await channel.closeFuture.get()
        }
    }

    /// What a handler keeps is its own, though the next message comes in the same memory.
    @Test(arguments: drivers) func keptBuffersStayAsTheyAre(_ driver: DriverKind) throws {
        try run(driver) {
            let recorder = Recorder()
            var kept: [ByteBuffer] = []
            recorder.whenRead = { kept.append($1) }
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            for number in 0..<50 {
                try await peer.write("message \(number % 10)")
                await recorder.wait { recorder.received.count == 9 * (number + 1) }
            }
            #expect(kept.map { String(buffer: $0) }.joined() == recorder.text)
            await peer.close()
            try await channel.closeFuture.get()
        }
    }
}
