// Writing without waiting: what is handed over, who is told, and what is refused.

import Rondo
import Synchronization
import SystemPackage
import Testing

@Suite struct StartWritingTests {
    private final class Observer: WriteObserver {
        let ends = Mutex<[Errno?]>([])
        private let event = AsyncEvent()

        func writeEnded(_ error: Errno?) {
            ends.withLock { $0.append(error) }
            event.set()
        }

        func wait() async throws -> Errno? {
            try await event.wait()
            return ends.withLock { $0[0] }
        }
    }

    /// Keeps bytes, and says when it is let go of.
    @safe
    private final class Owner {
        // SAFETY: the memory lives as long as this.
        let bytes: UnsafeMutableRawBufferPointer
        let isGone: AsyncEvent

        init(_ text: String, isGone: AsyncEvent) {
            unsafe bytes = .allocate(byteCount: text.utf8.count, alignment: 1)
            unsafe bytes.copyBytes(from: text.utf8)
            self.isGone = isGone
        }

        deinit {
            unsafe bytes.deallocate()
            isGone.set()
        }
    }

    private static func run(
        _ driver: DriverKind, _ body: sending @escaping (TCPStream, TCPStream) async throws -> Void
    ) throws {
        var configuration = LoopConfiguration()
        configuration.driver = driver
        try EventLoop.run(configuration: configuration) {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let peer = try await TCPStream.connect(to: listener.localAddress)
            let stream = try await listener.accept()
            try await body(stream, peer)
            await stream.close()
            await peer.close()
            await listener.close()
        }
    }

    private static let drivers = Machine.uringFeatures == nil ? [DriverKind.epoll] : DriverKind.allCases

    @Test(arguments: drivers) func bytesThatAnObjectKeepsAreSentAndLetGoOf(_ driver: DriverKind) throws {
        try Self.run(driver) { stream, peer in
            let (observer, isGone) = (Observer(), AsyncEvent())
            do {
                let owner = Owner("kept", isGone: isGone)
                // SAFETY: the owner keeps the bytes.
                let chunk = unsafe ByteChunk(UnsafeRawBufferPointer(owner.bytes), keptBy: owner)
                #expect(stream.canStartWriting)
                try stream.startWriting(chunk, observer: observer)
            }
            #expect(!stream.canStartWriting && !isGone.isSet)
            let end = try await observer.wait()
            #expect(end == nil && stream.canStartWriting)
            try await isGone.wait()
            let received = try await peer.readExactly(4)
            #expect(String(decoding: received, as: UTF8.self) == "kept")
            #expect(observer.ends.withLock { $0.count } == 1)
        }
    }

    @Test(arguments: drivers) func oneChunkAtATimeAndInOrder(_ driver: DriverKind) throws {
        try Self.run(driver) { stream, peer in
            try stream.startWriting(ByteChunk(Array("first,".utf8)))
            #expect(throws: IOError.self) { try stream.startWriting(ByteChunk(Array("lost".utf8))) }
            // A write that waits, waits for it.
            try await stream.write("second,")
            // What was received goes on from where it stands.
            try await peer.write("third")
            guard let chunk = try await stream.read() else { throw IOError("read", "a test", .unexpectedEnd) }
            try stream.startWriting(chunk)
            try await stream.finishWriting()
            let all = try await peer.readToEnd(limit: 100)
            #expect(String(decoding: all, as: UTF8.self) == "first,second,third")
        }
    }

    @Test(arguments: drivers) func aLargeChunkIsSentWhole(_ driver: DriverKind) throws {
        try Self.run(driver) { stream, peer in
            let observer = Observer()
            let bytes = (0..<8_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 5) }
            try stream.startWriting(ByteChunk(bytes), observer: observer)
            let received = try await peer.readExactly(bytes.count)
            #expect(received == bytes)
            let end = try await observer.wait()
            #expect(end == nil)
        }
    }

    @Test(arguments: drivers) func theObserverHearsOfFailure(_ driver: DriverKind) throws {
        try Self.run(driver) { stream, peer in
            await peer.abort()
            // The reset is here when the reader has seen it.
            await #expect(throws: IOError.self) { _ = try await stream.read() }
            let observer = Observer()
            try stream.startWriting(ByteChunk([1]), observer: observer)
            let end = try await observer.wait()
            #expect(end == .brokenPipe || end == .connectionReset)
            #expect(throws: IOError.self) { try stream.startWriting(ByteChunk([1])) }
            await stream.close()
            #expect(throws: IOError.self) { try stream.startWriting(ByteChunk([1])) }
        }
    }

    @Test func aLoopKnowsItsThread() async throws {
        let loop = try EventLoop.run {
            let loop = EventLoop.current!
            #expect(loop.isCurrent)
            let elsewhere = try await withEventLoop { other in other.isCurrent && !loop.isCurrent }
            #expect(elsewhere)
            return loop
        }
        #expect(!loop.isCurrent)
    }
}
