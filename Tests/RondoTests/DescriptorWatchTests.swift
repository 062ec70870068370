// Waiting for descriptors that a library reads and writes by itself.

import CRondo
import Glibc
import RondoTesting
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct DescriptorWatchTests {
        @Test(arguments: World.real) func bothDirections(world: World) throws {
            try world.run {
                let pipe = try FilledPipe()
                let input = try DescriptorWatch(duplicating: pipe.reader)
                let output = try DescriptorWatch(duplicating: pipe.writer)
                // It is a state, not a change: what came before counts, again and again.
                for _ in 0..<3 { try await input.waitUntilReadable() }
                let writing = start { try await output.waitUntilWritable() }
                await settle()
                pipe.empty()
                try await writing.value
                let reading = start { try await input.waitUntilReadable() }
                await settle()
                _ = try pipe.writer.writeAll([1])
                try await reading.value
                // Both at once, on one descriptor.
                let (left, right) = try socketPair()
                let socket = try DescriptorWatch(duplicating: left)
                let arriving = start { try await socket.waitUntilReadable() }
                try await socket.waitUntilWritable()
                _ = try right.writeAll([1])
                try await arriving.value
                for watch in [input, output, socket] { await watch.close() }
                for descriptor in [left, right] { try descriptor.close() }
                try pipe.close()
            }
        }

        @Test(arguments: World.real) func theEndOfTheOtherSideIsReadable(world: World) throws {
            try world.run {
                let (left, right) = try socketPair()
                let watch = try DescriptorWatch(duplicating: left)
                let reading = start { try await watch.waitUntilReadable() }
                await settle()
                try right.close()
                try await reading.value
                try await watch.waitUntilWritable()  // a write would not wait either: it fails
                await watch.close()
                try left.close()
            }
        }

        /// A library closes its descriptor when it likes, and another file gets the number.
        @Test(arguments: World.real) func theNumberMayBeUsedAgain(world: World) throws {
            try world.run {
                let (left, right) = try socketPair()
                let watch = try DescriptorWatch(duplicating: left)
                let reading = start { try await watch.waitUntilReadable() }
                await settle()
                try left.close()
                let other = try FileDescriptor.open(FilePath("/dev/zero"), .readOnly)
                #expect(other.rawValue == left.rawValue, "the test wants the number to be used again")
                await settle()
                _ = try right.writeAll([1])
                try await reading.value
                await watch.close()
                for descriptor in [other, right] { try descriptor.close() }
            }
        }

        @Test(arguments: World.real) func cancellation(world: World) throws {
            try world.run {
                let (left, right) = try socketPair()
                let watch = try DescriptorWatch(duplicating: left)
                let waiting = start { try await watch.waitUntilReadable() }
                await settle()
                #expect(await ioError { try await watch.waitUntilReadable() }?.cause == .busy)
                waiting.cancel()
                #expect(await ioError(of: waiting)?.isCancellation == true)
                let early = start { try await watch.waitUntilReadable() }
                early.cancel()
                #expect(await ioError(of: early)?.isCancellation == true)
                _ = try right.writeAll([1])
                try await watch.waitUntilReadable()
                await watch.close()
                for descriptor in [left, right] { try descriptor.close() }
            }
        }

        /// A library goes on with its descriptor, and its next watch gets the number of the last one.
        @Test(arguments: World.real) func watchesOfOneDescriptorFollowEachOther(world: World) throws {
            try world.run {
                let (left, right) = try socketPair()
                for _ in 0..<3 {
                    let watch = try DescriptorWatch(duplicating: left)
                    let waiting = start { try await watch.waitUntilReadable() }
                    await settle()
                    _ = try right.writeAll([1])
                    try await waiting.value
                    var byte: [UInt8] = [0]
                    _ = try unsafe byte.withUnsafeMutableBytes { try unsafe left.read(into: $0) }
                    await watch.close()
                }
                for descriptor in [left, right] { try descriptor.close() }
            }
        }

        @Test(arguments: World.real) func closingEndsWaitsAndLeavesNothing(world: World) throws {
            try world.run {
                let (left, right) = try socketPair()
                let before = KernelObjects.count()
                let watch = try DescriptorWatch(duplicating: left)
                let waiting = start { try await watch.waitUntilReadable() }
                await settle()
                await watch.close()
                await watch.close()
                #expect(await ioError(of: waiting)?.cause == .closed)
                let late = await ioError { try await watch.waitUntilWritable() }
                #expect(
                    "\(late!)" == "wait for descriptor \(left.rawValue): it is closed (do not use it after close())")
                let another = try DescriptorWatch(duplicating: left)
                var dropped: DescriptorWatch? = try DescriptorWatch(duplicating: left)
                try await dropped?.waitUntilWritable()
                dropped = nil
                await settle()
                await another.close()  // takes a turn, as the dropped one's close does
                #expect(KernelObjects.count() == before)
                for descriptor in [left, right] { try descriptor.close() }
            }
        }

        /// Without optimisation each call between an actor's functions is a job. With so many others ready the loop
        /// waits in between, and the answer comes before the task has come to where it waits for it.
        @Test(arguments: World.real) func anAnswerOnTheWayToTheWaitIsNotMissed(world: World) throws {
            try world.run {
                let (left, right) = try socketPair()
                _ = try right.writeAll([1])
                let watch = try DescriptorWatch(duplicating: left)
                let watcher = Watcher(loop: EventLoop.current!)
                let waiting = start { try await watcher.wait(for: watch, times: 50) }
                let crowd = (0..<1500).map { _ in start { for _ in 0..<400 { await EventLoop.yield() } } }
                for task in crowd { try await task.value }
                await settle()
                if await watcher.count < 50 {
                    Issue.record("a wait has missed its answer")
                    waiting.cancel()
                }
                try await waiting.value
                await watch.close()
                for descriptor in [left, right] { try descriptor.close() }
            }
        }

        @Test(arguments: World.real) func whatCannotBeWatched(world: World) throws {
            try world.run {
                let none = await ioError { _ = try DescriptorWatch(duplicating: FileDescriptor(rawValue: 1_000_000)) }
                #expect("\(none!)" == "watch descriptor 1000000: Bad file descriptor")
                let file = try FileDescriptor.open(FilePath("/proc/self/exe"), .readOnly)
                let watch = try DescriptorWatch(duplicating: file)
                try await watch.waitUntilReadable()
                await watch.close()
                try file.close()
            }
        }

        @Test func aSimulationHasNone() throws {
            try World.simulated.run {
                let error = await ioError { _ = try DescriptorWatch(duplicating: .standardInput) }
                #expect("\(error!)" == "watch descriptor 0: a simulation has no descriptors")
            }
        }
    }
}

/// An actor of a loop.
private actor Watcher {
    private let loop: EventLoop
    private(set) var count = 0
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }

    init(loop: EventLoop) { self.loop = loop }

    func wait(for watch: DescriptorWatch, times: Int) async throws {
        while count < times {
            try await watch.waitUntilReadable()
            count += 1
        }
    }
}

/// Two connected sockets of nobody's loop.
private func socketPair() throws -> (FileDescriptor, FileDescriptor) {
    var ends: (Int32, Int32) = (0, 0)
    let answer = unsafe withUnsafeMutableBytes(of: &ends) {
        unsafe socketpair(
            AF_UNIX, Int32(SOCK_STREAM.rawValue), 0, $0.baseAddress!.assumingMemoryBound(to: Int32.self))
    }
    try #require(answer == 0)
    return (FileDescriptor(rawValue: ends.0), FileDescriptor(rawValue: ends.1))
}

/// A pipe that has no room for more.
private struct FilledPipe {
    let reader: FileDescriptor
    let writer: FileDescriptor
    private let capacity: Int

    init() throws {
        let (reader, writer) = try FileDescriptor.pipe()
        let flags = fcntl(writer.rawValue, F_GETFL)
        _ = fcntl(writer.rawValue, F_SETFL, flags | O_NONBLOCK)
        var capacity = 0
        let part = [UInt8](repeating: 7, count: 4096)
        while true {
            let count = unsafe part.withUnsafeBytes { unsafe Glibc.write(writer.rawValue, $0.baseAddress, $0.count) }
            if count < 0 { break }
            capacity += count
        }
        self.reader = reader
        self.writer = writer
        self.capacity = capacity
        _ = fcntl(writer.rawValue, F_SETFL, flags)
    }

    func empty() {
        var memory = [UInt8](repeating: 0, count: capacity)
        let count = unsafe memory.withUnsafeMutableBytes { unsafe read(reader.rawValue, $0.baseAddress, $0.count) }
        #expect(count == capacity)
    }

    func close() throws {
        try reader.close()
        try writer.close()
    }
}
