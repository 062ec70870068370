// What every driver promises of polls: the state of a descriptor, once.

import CRondo
import Glibc
import SystemPackage
import Testing

@testable import Rondo

@Suite("Driver contract: polls", .serialized)
struct PollContractTests {
    private static let readable = Int16(POLLIN)
    private static let writable = Int16(POLLOUT)

    @Test(arguments: DriverWorld.usable)
    func readyAtOnce(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (reader, writer) = try makePipe()
        unsafe #expect(try harness.perform(.poll(writer, events: Self.writable)) == POLLOUT)
        put(writer, 1)
        for _ in 0..<3 {  // a state, not a change: it stays
            unsafe #expect(try harness.perform(.poll(reader, events: Self.readable)) == POLLIN)
        }
        // A file is always ready.
        let file = unsafe Descriptor(rawValue: Glibc.open("/proc/self/exe", O_RDONLY | O_CLOEXEC))
        unsafe #expect(try harness.perform(.poll(file, events: Self.readable)) == POLLIN)
        try harness.close(reader, writer, file)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func readyLater(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (reader, writer) = try makePipe()
        for round in 0..<20 {
            let first = unsafe harness.start(.poll(reader, events: Self.readable))
            let second = unsafe harness.start(.poll(reader, events: Self.readable))
            if round % 2 == 0 { harness.settle() }
            #expect(first.result == nil && second.result == nil)
            put(writer, 1)
            #expect(try harness.result(of: first) == POLLIN)
            #expect(try harness.result(of: second) == POLLIN, "all who wait are told")
            take(reader, 1)
        }
        // Room, in a pipe that is full.
        let capacity = fill(writer)
        let polling = unsafe harness.start(.poll(writer, events: Self.writable))
        harness.settle()
        #expect(polling.result == nil)
        take(reader, capacity)
        #expect(try harness.result(of: polling) == POLLOUT)
        try harness.close(reader, writer)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func hangUps(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        for waitsBefore in [true, false] {
            // No writer is left; nobody need ask for it.
            let (reader, writer) = try makePipe()
            let polling = waitsBefore ? unsafe harness.start(.poll(reader, events: 0)) : nil
            harness.settle()
            #expect(polling?.result == nil)
            Glibc.close(writer.rawValue)
            if let polling { #expect(try harness.result(of: polling) == POLLHUP) }
            unsafe #expect(try harness.perform(.poll(reader, events: Self.readable)) & POLLHUP != 0)
            try harness.close(reader)
            // No reader is left.
            let (reader2, writer2) = try makePipe()
            fill(writer2)
            let blocked = waitsBefore ? unsafe harness.start(.poll(writer2, events: Self.writable)) : nil
            harness.settle()
            #expect(blocked?.result == nil)
            Glibc.close(reader2.rawValue)
            if let blocked { #expect(try harness.result(of: blocked) & POLLERR != 0) }
            unsafe #expect(try harness.perform(.poll(writer2, events: 0)) == POLLERR)
            try harness.close(writer2)
        }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func pollsLiveBesideReceives(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        let receiving = harness.receive(server)
        unsafe #expect(try harness.perform(.poll(server, events: Self.writable)) == POLLOUT)
        let ending = unsafe harness.start(.poll(server, events: 0x2000))  // POLLRDHUP
        for count in 1...50 {
            #expect(try harness.result(of: harness.send(client, "x")) == 1)
            try harness.run("\(count) bytes") { receiving.bytes.count == count }
        }
        harness.settle()
        #expect(ending.result == nil)
        unsafe #expect(try harness.perform(.shutdown(client, how: Int32(SHUT_WR))) == 0)
        #expect(try harness.result(of: ending) == 0x2000)
        #expect(try harness.result(of: receiving) == 0)
        // A poll does not take away what a receive is to find.
        let back = harness.receive(client)
        let polling = unsafe harness.start(.poll(client, events: Self.writable))
        #expect(try harness.result(of: polling) == POLLOUT)
        #expect(try harness.result(of: harness.send(server, "answer")) == 6)
        try harness.run("the answer") { back.bytes.count == 6 }
        harness.cancel(back)
        #expect(try harness.result(of: back) == -ECANCELED)
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func cancellation(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (reader, writer) = try makePipe()
        // Before it was handed over, while it waits, and when it is over.
        let early = unsafe harness.start(.poll(reader, events: Self.readable))
        harness.cancel(early)
        #expect(try harness.result(of: early) == -ECANCELED)
        let waiting = unsafe harness.start(.poll(reader, events: Self.readable))
        let other = unsafe harness.start(.poll(reader, events: Self.readable))
        harness.settle()
        harness.cancel(waiting)
        harness.cancel(waiting)
        #expect(try harness.result(of: waiting) == -ECANCELED)
        harness.settle()
        #expect(other.result == nil, "only one was cancelled")
        put(writer, 1)
        #expect(try harness.result(of: other) == POLLIN)
        harness.cancel(other)
        // At the same time as its event.
        take(reader, 1)
        let racing = unsafe harness.start(.poll(reader, events: Self.readable))
        harness.settle()
        put(writer, 1)
        harness.cancel(racing)
        #expect([POLLIN, -ECANCELED].contains(try harness.result(of: racing)))
        unsafe #expect(try harness.perform(.poll(reader, events: Self.readable)) == POLLIN)
        try harness.close(reader, writer)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func badDescriptors(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        for bad in [Descriptor(rawValue: -1), Descriptor(rawValue: 1_000_003)] {
            unsafe #expect(try harness.perform(.poll(bad, events: Self.readable)) == -EBADF)
        }
        // A number that was used before, and one that is used again.
        let (reader, writer) = try makePipe()
        unsafe #expect(try harness.perform(.poll(writer, events: Self.writable)) == POLLOUT)
        try harness.close(reader, writer)
        unsafe #expect(try harness.perform(.poll(writer, events: Self.writable)) == -EBADF)
        let (reader2, writer2) = try makePipe()
        let polling = unsafe harness.start(.poll(reader2, events: Self.readable))
        harness.settle()
        #expect(polling.result == nil)
        put(writer2, 1)
        #expect(try harness.result(of: polling) == POLLIN)
        try harness.close(reader2, writer2)
        harness.finish()
    }

    /// The simulated network plays them for its sockets.
    @Test func simulated() throws {
        try World.simulated.run {
            let loop = EventLoop.current!
            let listener = try Raw.listen(80)
            let incoming = start { unsafe await loop.perform(.poll(listener, events: Int16(POLLIN))) }
            let (client, connected) = try await Raw.connect(80)
            #expect(connected == 0)
            #expect(try await incoming.value == POLLIN)
            let (answers, accept) = Raw.accept(listener)
            let server = await answers.next().result.descriptor
            loop.cancel(accept)
            _ = await answers.next()
            unsafe #expect(await loop.perform(.poll(client, events: Int16(POLLIN | POLLOUT))) == POLLOUT)
            let cancelled = start { unsafe await loop.perform(.poll(server, events: Int16(POLLIN))) }
            await EventLoop.yield()
            cancelled.cancel()
            #expect(try await cancelled.value == -ECANCELED)
            let readable = start { unsafe await loop.perform(.poll(server, events: Int16(POLLIN))) }
            #expect(await Raw.send(client, [1, 2, 3]) == 3)
            #expect(try await readable.value == POLLIN)
            let receiving = Receiving(server)
            #expect(await receiving.bytes(3) == [1, 2, 3])
            await Raw.close(client)
            #expect(await receiving.next().end == 0)
            unsafe #expect(await loop.perform(.poll(server, events: 0x2000)) == 0x2000)
            await Raw.close(server)
            unsafe #expect(await loop.perform(.poll(server, events: Int16(POLLIN))) == -EBADF)
            await Raw.close(listener)
        }
    }

    // MARK: Pipes

    /// A pipe's ends, non-blocking.
    private func makePipe() throws -> (reader: Descriptor, writer: Descriptor) {
        var ends: (Int32, Int32) = (0, 0)
        let answer = unsafe withUnsafeMutableBytes(of: &ends) {
            unsafe pipe($0.baseAddress!.assumingMemoryBound(to: Int32.self))
        }
        try #require(answer == 0)
        for end in [ends.0, ends.1] { #expect(fcntl(end, F_SETFL, O_NONBLOCK) == 0) }
        return (Descriptor(rawValue: ends.0), Descriptor(rawValue: ends.1))
    }

    private func put(_ writer: Descriptor, _ count: Int) {
        let bytes = [UInt8](repeating: 7, count: count)
        #expect(unsafe write(writer.rawValue, bytes, count) == count)
    }

    private func take(_ reader: Descriptor, _ count: Int) {
        var bytes = [UInt8](repeating: 0, count: count)
        #expect(unsafe read(reader.rawValue, &bytes, count) == count)
    }

    /// Writes until there is no room; answers how many bytes that were.
    @discardableResult
    private func fill(_ writer: Descriptor) -> Int {
        let bytes = [UInt8](repeating: 7, count: 4096)
        var total = 0
        while true {
            let count = unsafe write(writer.rawValue, bytes, bytes.count)
            if count < 0 { return total }
            total += count
        }
    }
}
