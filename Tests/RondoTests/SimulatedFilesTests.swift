import CRondo
import Glibc
import RondoTesting
import Testing

@testable import Rondo

@Suite struct SimulatedFilesTests {
    private func explore(
        _ options: SimulationOptions = SimulationOptions(),
        _ body: @escaping @Sendable (Simulation) async throws -> Void
    ) throws {
        try Simulation.explore(seeds: 0..<20, options: options, body)
    }

    private static let whole: SimulationOptions = {
        var options = SimulationOptions()
        options.partialFileOdds = 0
        return options
    }()

    @Test func filesAreReadAtOffsetsAndInOrder() throws {
        try explore(Self.whole) { simulation in
            simulation.files.write("/etc/motd", "hello world")
            let file = await Raw.open("/etc/motd", O_RDONLY).descriptor
            try #require(await Raw.read(file, 5).bytes == Array("hello".utf8))
            try #require(await Raw.read(file, 3, at: 6).bytes == Array("wor".utf8))
            try #require(await Raw.read(file, 100).bytes == Array(" world".utf8))
            try #require(await Raw.read(file, 100).result == 0)
            try #require(await Raw.read(file, 100, at: 1000).result == 0)
            try #require(await Raw.read(file, 0).result == 0)
            try #require(await Raw.close(file) == 0)
            try #require(await Raw.read(file, 1).result == -EBADF)
            try #require(simulation.now > .zero && simulation.now < .seconds(1))
        }
    }

    @Test func filesAreWritten() throws {
        try explore(Self.whole) { simulation in
            let file = await Raw.open("out", O_WRONLY | O_CREAT).descriptor
            try #require(await Raw.write(file, Array("abc".utf8)) == 3)
            try #require(await Raw.write(file, Array("def".utf8)) == 3)
            try #require(await Raw.write(file, Array("X".utf8), at: 1) == 1)
            try #require(await Raw.write(file, Array("Z".utf8), at: 8) == 1)
            unsafe try #require(await Raw.loop.perform(unsafe .synchronize(file, dataOnly: false)) == 0)
            try #require(simulation.files.read("/out") == Array("aXcdef\0\0Z".utf8))
            try #require(await Raw.read(file, 1).result == -EBADF)
            await Raw.close(file)
        }
    }

    @Test func partialReadsAndWritesHappen() throws {
        let partial = Log<Bool>()
        try explore { simulation in
            let bytes = (0..<1000).map { UInt8(truncatingIfNeeded: $0) }
            let file = await Raw.open("/f", O_RDWR | O_CREAT).descriptor
            var rest = bytes[...]
            while !rest.isEmpty {
                let written = await Raw.write(file, Array(rest.prefix(100)))
                try #require(written > 0)
                partial.add(written < min(100, rest.count))
                rest = rest.dropFirst(Int(written))
            }
            var read: [UInt8] = []
            while true {
                let (piece, result) = await Raw.read(file, 100, at: UInt64(read.count))
                try #require(result >= 0)
                if result == 0 { break }
                read += piece
            }
            try #require(read == bytes)
        }
        #expect(partial.entries.contains(true) && partial.entries.contains(false))
    }

    @Test func openFlags() throws {
        try explore(Self.whole) { simulation in
            let files = simulation.files
            files.write("/d/f", "old text")
            try #require(await Raw.open("/none", O_RDONLY) == -ENOENT)
            try #require(await Raw.open("/none/f", O_RDWR | O_CREAT) == -ENOENT)
            try #require(await Raw.open("/d/f/g", O_RDONLY) == -ENOTDIR)
            try #require(await Raw.open("/d/f/g", O_RDWR | O_CREAT) == -ENOTDIR)
            try #require(await Raw.open("/d/f/", O_RDONLY) == -ENOTDIR)
            try #require(await Raw.open("", O_RDONLY) == -ENOENT)
            try #require(await Raw.open("/d/f", O_RDWR | O_CREAT | O_EXCL) == -EEXIST)
            try #require(await Raw.open("/d", O_WRONLY) == -EISDIR)
            try #require(await Raw.open("/d", O_RDONLY | O_CREAT) == -EISDIR)
            try #require(await Raw.open("/d/f", O_RDONLY | O_DIRECTORY) == -ENOTDIR)
            let folder = await Raw.open("/d", O_RDONLY | O_DIRECTORY)
            try #require(folder > 0)
            try #require(await Raw.read(folder.descriptor, 1).result == -EISDIR)
            try #require(await Raw.open("d/../d/./f", O_RDONLY) > 0)
            let fresh = await Raw.open("/d/new", O_RDWR | O_CREAT | O_EXCL)
            try #require(fresh > 0 && files.read("/d/new") == [])
            let readOnly = await Raw.open("/d/f", O_RDONLY).descriptor
            try #require(await Raw.write(readOnly, [1]) == -EBADF)
            let appending = await Raw.open("/d/f", O_WRONLY | O_APPEND).descriptor
            try #require(await Raw.write(appending, Array("!".utf8), at: 0) == 1)
            try #require(files.read("/d/f") == Array("old text!".utf8))
            let truncated = await Raw.open("/d/f", O_RDWR | O_TRUNC).descriptor
            try #require(files.read("/d/f") == [])
            try #require(await Raw.write(appending, Array("?".utf8)) == 1)
            try #require(await Raw.read(truncated, 10).bytes == Array("?".utf8))
        }
    }

    @Test func descriptorsAreLimitedAndUsedAgain() throws {
        var options = Self.whole
        options.descriptorLimit = 2
        try explore(options) { simulation in
            simulation.files.write("/f", "x")
            let first = await Raw.open("/f", O_RDONLY)
            let second = await Raw.open("/f", O_RDONLY)
            try #require(first > 1000 && second > first)
            try #require(await Raw.open("/f", O_RDONLY) == -EMFILE)
            await Raw.close(first.descriptor)
            try #require(await Raw.open("/f", O_RDONLY) == first)
            try #require(simulation.openDescriptors == ["the file /f", "the file /f"])
        }
    }

    @Test func aFullDiskRefuses() throws {
        var options = Self.whole
        options.fileCapacity = 10
        try explore(options) { simulation in
            let file = await Raw.open("/f", O_RDWR | O_CREAT).descriptor
            try #require(await Raw.write(file, [UInt8](repeating: 1, count: 8)) == 8)
            try #require(await Raw.write(file, [UInt8](repeating: 2, count: 8)) == 2)
            try #require(await Raw.write(file, [3]) == -ENOSPC)
            try #require(await Raw.write(file, [4], at: 0) == 1)
            // A removed file takes room for as long as it is open.
            simulation.files.remove("/f")
            let other = await Raw.open("/g", O_RDWR | O_CREAT).descriptor
            try #require(await Raw.write(other, [5]) == -ENOSPC)
            await Raw.close(file)
            try #require(await Raw.write(other, [5]) == 1)
        }
    }

    @Test func status() throws {
        try explore(Self.whole) { simulation in
            simulation.files.write("/d/f", "12345")
            try await Task.sleep(for: .seconds(7))
            let (file, result) = await Raw.status(nil, "/d/f")
            try #require(result == 0 && file.size == 5 && file.mode & S_IFMT == S_IFREG && file.links == 1)
            try #require(file.modified_seconds == 1_000_000_001)
            let opened = await Raw.open("/d/f", O_RDWR).descriptor
            _ = await Raw.write(opened, [1], at: 9)
            let (same, _) = await Raw.status(opened, nil)
            try #require(same.inode == file.inode && same.size == 10 && same.modified_seconds >= 1_000_000_008)
            let (folder, _) = await Raw.status(nil, "/d")
            try #require(folder.mode & S_IFMT == S_IFDIR && folder.inode != file.inode)
            try #require(await Raw.status(nil, "/e").result == -ENOENT)
            try #require(await Raw.status(nil, "/d/f/g").result == -ENOTDIR)
            try #require(await Raw.status(Descriptor(rawValue: 3), nil).result == -EBADF)
            simulation.files.remove("/d")
            try #require(await Raw.status(opened, nil).status.links == 0)
            let socket = try Raw.loop.driver.openSocket(for: .loopback(port: 1))
            try #require(await Raw.status(socket, nil).status.mode & S_IFMT == S_IFSOCK)
        }
    }

    @Test func listing() throws {
        let orders = Log<[String]>()
        try explore { simulation in
            for name in ["a", "b", "c", "d"] { simulation.files.write("/d/\(name)", name) }
            simulation.files.makeFolder("/d/e/f")
            let (names, result) = await Raw.list("/d")
            try #require(result == 0 && names.sorted() == ["a", "b", "c", "d", "e"])
            orders.add(names)
            try #require(await Raw.list("/d/e/f").names == [])
            try #require(await Raw.list("/d/a").result == -ENOTDIR)
            try #require(await Raw.list("/x").result == -ENOENT)
        }
        #expect(Set(orders.entries).count > 5)
    }

    @Test func theHelpersOfTests() throws {
        try Simulation.run(seed: 1) { simulation in
            let files = simulation.files
            files.write("a/b", [1, 2])
            files.write("a/b", [3])
            try #require(files.read("/a//b") == [3])
            try #require(files.read("/a") == nil && files.read("/c") == nil)
            try #require(files.list("/") == ["a"] && files.list("a/b") == nil)
            try #require(files.remove("a/b") && !files.remove("a/b"))
        }
    }

    // MARK: Cancelling

    @Test func aCancelledWriteHasNoEffectOrItsWhole() throws {
        let results = Log<Int32>()
        try Simulation.explore(seeds: 0..<100, options: Self.whole) { simulation in
            let file = await Raw.open("/f", O_RDWR | O_CREAT).descriptor
            let task = Task(executorPreference: Raw.loop.executor) { await Raw.write(file, [1, 2, 3]) }
            var numbers = SeededGenerator(seed: simulation.seed)
            try await Task.sleep(for: .microseconds(numbers.next() % 2000))
            task.cancel()
            let result = await task.value
            results.add(result)
            try #require(simulation.files.read("/f") == (result == 3 ? [1, 2, 3] : []))
        }
        #expect(Set(results.entries) == [3, -ECANCELED])
    }

    @Test func aCloseIsNeverCancelled() throws {
        try explore { simulation in
            simulation.files.write("/f", "x")
            let file = await Raw.open("/f", O_RDONLY).descriptor
            Task(executorPreference: Raw.loop.executor) { await Raw.close(file) }
            await EventLoop.yield()
            // The body ends while the close is under way: the loop must not cancel it.
            let task = Task(executorPreference: Raw.loop.executor) {
                await Raw.close(await Raw.open("/f", O_RDONLY).descriptor)
            }
            task.cancel()
            _ = await task.value
        }
    }

    @Test(arguments: 0..<50 as Range<UInt64>)
    func aCloseUnderWayOutlivesTheBody(seed: UInt64) throws {
        let simulation = try Simulation.run(seed: seed) { simulation in
            simulation.files.write("/f", "x")
            let file = await Raw.open("/f", O_RDONLY).descriptor
            async let closing = Raw.close(file)
            _ = Task(executorPreference: Raw.loop.executor) {
                await Raw.close(await Raw.open("/f", O_RDONLY).descriptor)
            }
            try #require(await closing == 0)
            _ = Task(executorPreference: Raw.loop.executor) {
                let file = await Raw.open("/f", O_RDONLY)
                if file > 0 { try? await Task.sleep(for: .zero) }
                if file > 0 { await Raw.close(file.descriptor) }
            }
            try await Task.sleep(for: .milliseconds(2))
            return simulation
        }
        #expect(simulation.openDescriptors.isEmpty)
    }
}

@Suite struct SimulatedOffloadTests {
    @Test func callsRunOnTheLoopsThreadAfterAWhile() throws {
        try Simulation.explore(seeds: 0..<20) { simulation in
            let thread = pthread_self()
            let result = await Raw.offload { pthread_self() == thread ? 7 : -1 }
            try #require(result == 7)
            try #require(simulation.now > .zero)
            try #require(await Raw.offload { -ENOENT } == -ENOENT)
            try #require(Raw.loop.currentStatistics.pendingOperations == 0)
        }
    }

    @Test func theSeedOrdersCalls() throws {
        let orders = Log<[Int]>()
        try Simulation.explore(seeds: 0..<20) { _ in
            let log = Log<Int>()
            await withDiscardingTaskGroup { group in
                for number in 0..<5 {
                    group.addTask {
                        _ = await Raw.offload {
                            log.add(number)
                            return 0
                        }
                    }
                }
            }
            orders.add(log.entries)
        }
        #expect(Set(orders.entries).count > 10)
    }

    @Test func aCancelledCallNeverRunsOrRunsAsAWhole() throws {
        let results = Log<Int32>()
        try Simulation.explore(seeds: 0..<100) { simulation in
            let calls = Log<Int>()
            let task = Task(executorPreference: Raw.loop.executor) {
                await Raw.offload {
                    calls.add(1)
                    return 5
                }
            }
            var numbers = SeededGenerator(seed: simulation.seed)
            try await Task.sleep(for: .microseconds(numbers.next() % 2000))
            task.cancel()
            let result = await task.value
            try #require(calls.entries.count == (result == 5 ? 1 : 0))
            try await Task.sleep(for: .seconds(1))
            try #require(calls.entries.count == (result == 5 ? 1 : 0))
            try #require(Raw.loop.currentStatistics.pendingOperations == 0)
            results.add(result)
        }
        #expect(Set(results.entries) == [5, -ECANCELED])
    }

    @Test func callsAreTakenBackWhenTheLoopEnds() throws {
        let calls = Log<Int>()
        try Simulation.explore(seeds: 0..<20) { _ in
            _ = Task(executorPreference: Raw.loop.executor) {
                await Raw.offload {
                    calls.add(1)
                    return 0
                }
            }
            await EventLoop.yield()
            await EventLoop.yield()
        }
        #expect(calls.entries.isEmpty)
    }
}
