// Names, sizes, locks and streams of files, in every world.

import CTestSupport
import Glibc
import RondoTesting
import SystemPackage
import Testing

@testable import Rondo

extension World {
    /// Runs `body` with an empty folder of this world.
    func runInFolder(_ body: sending @escaping (FilePath) async throws -> Void) throws {
        let folder = driver == nil ? nil : TemporaryFolder()
        // SAFETY: sent to this function, which sends it on to the one task of the loop.
        nonisolated(unsafe) let body = body
        try run {
            if let folder { return try await unsafe body(FilePath(folder.path)) }
            try await Files.makeDirectory("/tmp/test", withParents: true)
            try await unsafe body("/tmp/test")
        }
    }
}

extension LoopSuites {
    @Suite struct FilesTests {
        // MARK: Names

        @Test(arguments: World.allCases) func namesAreMadeMovedAndRemoved(world: World) throws {
            try world.runInFolder { folder in
                let (a, b, link) = (folder.appending("a"), folder.appending("b"), folder.appending("link"))
                try await File.write([1, 2], to: a)
                try await Files.rename(a, to: b)
                #expect(try await !Files.exists(a))
                #expect(try await File.contents(of: b) == [1, 2])
                try await Files.link(b, to: a)
                #expect(try await Files.status(of: a).links == 2)
                let error = await ioError { try await Files.rename(a, to: b, replacing: false) }
                #expect(error?.description == "rename \(a) to \(b): File exists")
                try await Files.makeSymbolicLink(at: link, to: "b")
                #expect(try await Files.readLink(link) == "b")
                #expect(try await Files.status(of: link).kind == .regular)
                #expect(try await Files.status(of: link, followingLinks: false).kind == .symbolicLink)
                #expect(try await File.contents(of: link) == [1, 2])
                try await Files.remove(b)
                try await Files.remove(a)
                #expect(try await !Files.exists(link))
                #expect(try await Files.exists(link, followingLinks: false))
                let noLink = await ioError { try await Files.readLink(folder) }
                #expect(noLink?.description == "read link \(folder): Invalid argument")
                try await Files.remove(link)
                #expect(try await Directory.entries(of: folder).isEmpty)
            }
        }

        @Test(arguments: World.allCases) func foldersAreMadeWithTheirParents(world: World) throws {
            try world.runInFolder { folder in
                let deep = folder.appending("a/b/c")
                let error = await ioError { try await Files.makeDirectory(deep) }
                #expect(error?.description == "make folder \(deep): No such file or directory (check the path)")
                try await Files.makeDirectory(deep, withParents: true)
                try await Files.makeDirectory(deep, withParents: true)
                #expect(try await Files.status(of: deep).kind == .directory)
                let again = await ioError { try await Files.makeDirectory(deep) }
                #expect(again?.description == "make folder \(deep): File exists")
                let full = await ioError { try await Files.remove(folder.appending("a")) }
                let hint = "remove what is in it first, or all together with Files.removeTree"
                #expect(full?.description == "remove \(folder.appending("a")): Directory not empty (\(hint))")
                try await File.write([], to: folder.appending("file"))
                let below = folder.appending("file/x")
                if world.driver != nil {
                    // The folder above is there, but no folder can be made in it.
                    let refused = await ioError { try await Files.makeDirectory("/proc/nowhere/x", withParents: true) }
                    #expect(refused?.errno == .noSuchFileOrDirectory && refused?.subject == "/proc/nowhere")
                }
                let notAFolder = await ioError { try await Files.makeDirectory(below, withParents: true) }
                #expect(notAFolder?.errno == .notDirectory)
                try await Files.remove(deep)
                #expect(try await Directory.entries(of: folder.appending("a/b")).isEmpty)
            }
        }

        @Test(arguments: World.allCases) func namesAreExchanged(world: World) throws {
            try world.runInFolder { folder in
                let (a, b) = (folder.appending("a"), folder.appending("b"))
                try await File.write([1], to: a)
                try await Files.makeDirectory(b)
                try await Files.exchange(a, b)
                #expect(try await File.contents(of: b) == [1])
                #expect(try await Files.status(of: a).kind == .directory)
                let error = await ioError { try await Files.exchange(a, folder.appending("c")) }
                #expect(error?.errno == .noSuchFileOrDirectory)
            }
        }

        @Test(arguments: World.real) func otherFileSystemsSaySo(world: World) throws {
            guard let shared = try? DirectoryOnSharedMemory() else { return }
            try world.runInFolder { folder in
                let (from, to) = (folder.appending("a"), FilePath("\(shared.path)/a"))
                try await File.write([1], to: from)
                let error = await ioError { try await Files.rename(from, to: to) }
                let hint = "it is on another file system: copy it, and remove the old one"
                #expect(error?.description == "rename \(from) to \(to): Invalid cross-device link (\(hint))")
            }
        }

        // MARK: Sizes

        @Test(arguments: World.allCases) func sizesChange(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("file")
                let file = try await File.open(path, .replace())
                try await file.write([1, 2, 3])
                try await file.truncate(to: 5)
                #expect(try await file.read(10) == [1, 2, 3, 0, 0])
                try await file.truncate(to: 1)
                #expect(try await file.read(10) == [1])
                try await file.preallocate(4096, at: 4096)
                #expect(try await file.status().size == 8192)
                try await file.write([[7, 8], [], [9]], at: 1)
                #expect(try await file.read(5) == [1, 7, 8, 9, 0])
                try await file.setPermissions([.ownerReadWrite, .groupRead])
                try await file.setModified(.nanoseconds(-500))
                let status = try await file.status()
                #expect(status.permissions == [.ownerReadWrite, .groupRead])
                #expect(status.modified == .nanoseconds(-500))
                for error in [
                    await ioError { try await file.truncate(to: -1) },
                    await ioError { try await file.preallocate(-1) },
                    await ioError { try await file.preallocate(1, at: -1) },
                    await ioError { try await file.append([1]) },
                ] {
                    guard case .invalid = error?.cause else {
                        Issue.record("\(String(describing: error))")
                        continue
                    }
                }
                await file.close()
            }
        }

        @Test(arguments: World.allCases) func appendingGoesBehindTheEnd(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("log")
                let first = try await File.open(path, .append())
                let second = try await File.open(path, .append())
                for number in 0..<10 as Range<UInt8> {
                    try await first.append([number, 1])
                    try await second.append([number, 2])
                }
                let error = await ioError { try await first.write([1]) }
                let text = "it was opened for appending: use append(_:)"
                #expect(error?.description == "write \(path): \(text)")
                await first.close()
                await second.close()
                let all = try await File.contents(of: path)
                #expect(all == (0..<10).flatMap { [UInt8($0), 1, UInt8($0), 2] })
            }
        }

        @Test(arguments: World.allCases) func manyPartsAreWritten(world: World) throws {
            try world.runInFolder { folder in
                let file = try await File.open(folder.appending("file"), .replace())
                let parts = (0..<3000).map { pattern($0 % 7, from: $0) }
                try await file.write(parts, at: 5)
                let all = try await file.read(20_000, at: 5)
                #expect(all == parts.flatMap { $0 })
                await file.close()
            }
        }

        // MARK: Locks

        @Test(arguments: World.allCases) func locksExclude(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("lock")
                let first = try await File.open(path, .update())
                let second = try await File.open(path, .update())
                let journal = Journal<String>()
                try await first.lock()
                let error = await ioError { try await first.lock() }
                let text = "it is locked here already: open the file once more for a second holder"
                #expect(error?.description == "lock \(path): \(text)")
                #expect(try await !second.tryLock(.shared))
                let waiting = start {
                    try await second.withLock(.shared) { journal.add("second") }
                }
                for _ in 0..<20 { try await Task.sleep(for: .milliseconds(1)) }
                journal.add("first")
                try await first.unlock()
                try await waiting.value
                #expect(journal.all == ["first", "second"])
                #expect(try await first.tryLock(.shared))
                #expect(try await second.tryLock(.shared))
                try await first.unlock()
                try await first.unlock()
                await first.close()
                // The lock ends with the file.
                await second.close()
                let third = try await File.open(path, .update())
                #expect(try await third.tryLock())
                await third.close()
            }
        }

        @Test(arguments: World.allCases) func aWaitForALockIsCancelled(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("lock")
                let first = try await File.open(path, .update())
                let second = try await File.open(path, .update())
                for round in 0..<20 {
                    try await first.lock()
                    let waiting = start { try await second.lock() }
                    for _ in 0..<round { try await Task.sleep(for: .microseconds(100)) }
                    waiting.cancel()
                    #expect(await ioError(of: waiting)?.description == "lock \(path): the task was cancelled")
                    try await first.unlock()
                    #expect(try await first.tryLock(), "the cancelled task has no lock")
                    try await first.unlock()
                    #expect(try await second.tryLock(), "and may try again")
                    try await second.unlock()
                }
                await first.close()
                await second.close()
            }
        }

        // MARK: Streams

        @Test(arguments: World.allCases) func chunksComeInOrder(world: World) throws {
            try world.runInFolder { folder in
                let file = try await File.open(folder.appending("file"), .replace())
                let bytes = pattern(100_000)
                let writer = try file.writer(at: 3)
                for start in stride(from: 0, to: bytes.count, by: 7000) {
                    try await writer.write(Array(bytes[start..<min(start + 7000, bytes.count)]))
                }
                #expect(try await writer.finish() == 100_000)
                var all: [UInt8] = []
                for try await chunk in file.chunks(of: 4096, from: 3) {
                    #expect((1...4096).contains(chunk.count))
                    all += chunk
                }
                #expect(all == bytes)
                var part: [UInt8] = []
                for try await chunk in file.chunks(of: 1000, from: 13, count: 2500) { part += chunk }
                #expect(part == Array(bytes[10..<2510]))
                let copy = try await File.open(folder.appending("copy"), .append())
                #expect(try await copy.write(contentsOf: file.chunks(of: 9000)) == 100_003)
                #expect(try await copy.status().size == 100_003)
                await copy.close()
                await file.close()
            }
        }

        @Test(arguments: World.allCases) func aReadingThatIsDroppedLeavesNothing(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("file")
                try await File.write(pattern(100_000), to: path)
                for _ in 0..<10 {
                    let file = try await File.open(path)
                    for try await chunk in file.chunks(of: 1000) {
                        #expect(!chunk.isEmpty)
                        break
                    }
                    await file.close()
                    let error = await ioError { for try await _ in file.chunks() {} }
                    #expect(error?.cause == .closed)
                }
            }
        }

        @Test(arguments: World.allCases) func aCancelledTaskReadsAndWritesNoMore(world: World) throws {
            try world.runInFolder { folder in
                let file = try await File.open(folder.appending("file"), .replace())
                try await file.write(pattern(50_000))
                for yields in 0..<20 {
                    let reading = start {
                        var count = 0
                        for try await chunk in file.chunks(of: 100) { count += chunk.count }
                        return count
                    }
                    let writing = start {
                        let writer = try file.writer(at: 60_000)
                        for number in 0..<500 { try await writer.write(pattern(100, from: number)) }
                        return try await writer.finish()
                    }
                    for _ in 0..<yields { await EventLoop.yield() }
                    reading.cancel()
                    writing.cancel()
                    #expect(await ioError(of: reading)?.cause == .cancelled)
                    #expect(await ioError(of: writing)?.cause == .cancelled)
                }
                await file.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test func aFullDiskEndsAWriter() throws {
            var options = SimulationOptions()
            options.fileCapacity = 1000
            try Simulation.explore(seeds: 0..<20, options: options) { simulation in
                let file = try await File.open("/f", .replace())
                let writer = try file.writer()
                let error = await ioError {
                    for _ in 0..<20 { try await writer.write(pattern(100)) }
                    try await writer.finish()
                }
                try #require(error?.errno == .noSpace)
                try #require(await ioError { try await writer.finish() }?.errno == .noSpace)
                await file.close()
                try #require(simulation.files.read("/f")?.count == 1000)
            }
        }
    }
}

/// A folder on another file system than `/tmp`.
private final class DirectoryOnSharedMemory: Sendable {
    let path = "/dev/shm/rondo-test-\(getpid())"
    struct Missing: Error {}

    init() throws {
        var (shared, temporary) = (stat(), stat())
        guard unsafe mkdir(path, 0o700) == 0, unsafe stat(path, &shared) == 0, unsafe stat("/tmp", &temporary) == 0,
            shared.st_dev != temporary.st_dev
        else { throw Missing() }
    }

    deinit { unsafe rmdir(path) }
}
