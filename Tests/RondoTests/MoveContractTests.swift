// What the drivers with a kernel promise of moving bytes through a pipe: it never waits, and operations on the same
// sockets go on as before.

import CRondo
import Glibc
import SystemPackage
import Testing

@testable import Rondo

@Suite("Driver contract: moving bytes", .serialized)
struct MoveContractTests {
    private static let total = 24 << 20

    @Test(arguments: DriverWorld.usable)
    func movingNeverWaits(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, near) = try harness.makeConnection()
        let (far, server) = try harness.makeConnection()
        let pipe = try harness.driver.openTransferPipe(capacity: 1 << 20)
        for socket in [near, far] { try harness.driver.prepareToMove(socket) }
        #expect(harness.driver.moveNow(from: near, into: pipe.writer, count: 1000) == -EAGAIN)
        #expect(harness.driver.moveNow(outOf: pipe.reader, to: far, count: 1000) == -EAGAIN)
        // Until the last socket is full: nobody reads there.
        var (moved, blocked) = (0, false)
        let sending = unsafe harness.send(client, Self.zeros)
        while !blocked {
            let count = harness.driver.moveNow(from: near, into: pipe.writer, count: 1 << 20)
            if count == -EAGAIN {
                unsafe #expect(try harness.perform(.poll(near, events: Int16(POLLIN))) & POLLIN != 0)
                continue
            }
            #expect(count > 0)
            if count <= 0 { break }
            moved += Int(count)
            var left = Int(count)
            while left > 0, !blocked {
                let answer = harness.driver.moveNow(outOf: pipe.reader, to: far, count: left)
                if answer == -EAGAIN { blocked = true } else { left -= Int(answer) }
            }
            if moved >= Self.total { break }
        }
        #expect(blocked && moved > 0)
        // A peer that has gone is an error, and no signal ends this process.
        try harness.close(server)
        unsafe #expect(try harness.perform(.poll(far, events: Int16(POLLOUT))) & POLLERR != 0)
        #expect(harness.driver.moveNow(outOf: pipe.reader, to: far, count: 1) == -ECONNRESET)
        #expect(harness.driver.moveNow(outOf: pipe.reader, to: far, count: 1) == -EPIPE)
        harness.cancel(sending)
        try harness.result(of: sending)
        for end in [pipe.reader, pipe.writer] { harness.driver.closeNow(end) }
        try harness.close(client, near, far)
        harness.finish()
    }

    /// A multishot receive, and a send that must wait for room, on a socket that must not block any more.
    @Test(arguments: DriverWorld.usable)
    func operationsGoOnAsBefore(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        let pipe = try harness.driver.openTransferPipe(capacity: 1 << 20)
        let armedBefore = harness.receive(server)
        harness.settle()
        try harness.driver.prepareToMove(server)
        try harness.driver.prepareToMove(server)
        for count in 1...20 {
            #expect(try harness.result(of: harness.send(client, "x")) == 1)
            try harness.run("\(count) bytes") { armedBefore.bytes.count == count }
            #expect(armedBefore.result == nil)
        }
        harness.cancel(armedBefore)
        #expect(try harness.result(of: armedBefore) == -ECANCELED)
        let armedAfter = harness.receive(server)
        harness.settle()
        #expect(armedAfter.result == nil, "it waits, and does not answer EAGAIN")

        let sending = unsafe harness.send(server, Self.zeros)
        harness.settle()
        #expect(sending.result == nil, "there can't be room for all of it")
        #expect(try harness.result(of: harness.send(client, "y")) == 1)
        try harness.run("a byte") { armedAfter.bytes.count == 1 }
        let receiving = harness.receive(client)
        var sent = Int(try harness.result(of: sending))
        while sent > 0, sent < Self.total {
            let rest = unsafe harness.send(server, UnsafeRawBufferPointer(rebasing: Self.zeros[sent...]))
            let answer = try harness.result(of: rest)
            #expect(answer > 0)
            if answer <= 0 { break }
            sent += Int(answer)
        }
        try harness.run("all bytes") { receiving.bytes.count == Self.total }
        unsafe #expect(try harness.perform(.shutdown(client, how: Int32(SHUT_WR))) == 0)
        #expect(try harness.result(of: armedAfter) == 0)
        harness.cancel(receiving)
        try harness.result(of: receiving)
        // At its end there is nothing to move.
        #expect(harness.driver.moveNow(from: server, into: pipe.writer, count: 10) == 0)
        for end in [pipe.reader, pipe.writer] { harness.driver.closeNow(end) }
        try harness.close(client, server)
        harness.finish()
    }

    /// A file goes to a socket without waiting for it, and no signal ends this process.
    @Test(arguments: DriverWorld.usable)
    func filesAreSentWithoutWaiting(_ world: DriverWorld) throws {
        let folder = TemporaryFolder()
        let harness = try DriverHarness(world)
        let (near, far) = try harness.makeConnection()
        let file = try harness.openFile("\(folder.path)/file", O_RDWR | O_CREAT)
        unsafe #expect(try harness.perform(.file(.truncate(file, size: 5000))) == 0)
        func send(_ offset: UInt64, _ count: Int, to socket: Descriptor) throws -> Int32 {
            unsafe try harness.perform(.file(.send(file, offset: offset, count: count, to: socket)))
        }
        try harness.driver.prepareToMove(near)
        #expect(try send(0, 1000, to: near) == 1000)
        #expect(try send(4900, 1000, to: near) == 100, "no more than there is")
        for offset: UInt64 in [5000, 5001, .max] { #expect(try send(offset, 1000, to: near) == 0) }
        #expect(try send(0, 0, to: near) == 0)
        #expect(try send(0, 1, to: Descriptor(rawValue: -1)) == -EBADF)
        unsafe #expect(try harness.perform(.file(.truncate(file, size: UInt64(Self.total)))) == 0)
        var sent = 0
        while sent < Self.total {
            let answer = try send(UInt64(sent), Self.total - sent, to: near)
            if answer < 0 {
                #expect(answer == -EAGAIN)
                break
            }
            sent += Int(answer)
        }
        #expect(sent > 0 && sent < Self.total, "there can't be room for all of it")
        try harness.close(far)
        unsafe #expect(try harness.perform(.poll(near, events: Int16(POLLOUT))) & POLLERR != 0)
        #expect(try send(0, 1, to: near) == -ECONNRESET)
        #expect(try send(0, 1, to: near) == -EPIPE)
        try harness.close(near, file)
        harness.finish()
    }

    /// A simulation has no such way, and says so.
    @Test func notInASimulation() throws {
        try World.simulated.run {
            let driver = EventLoop.current!.driver
            #expect(throws: Errno.notSupported) { _ = try driver.openTransferPipe(capacity: 1 << 20) }
            let pair = try await connectedPair()
            #expect(driver.moveNow(from: pair.client.descriptor, into: pair.client.descriptor, count: 1) == -EOPNOTSUPP)
            await pair.close()
        }
    }

    /// More than two connections' buffers take; never freed.
    nonisolated(unsafe) private static let zeros: UnsafeRawBufferPointer = {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: total, alignment: 1)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
        return UnsafeRawBufferPointer(memory)
    }()
}
