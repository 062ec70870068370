// Files that are in memory: opened and read in the running job, and everything else by operations as before.

import CRondo
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct FilesNowTests {
        /// Opens `path` and reads it in the way that is under test, without the loop.
        private func canBeReadNow(_ path: FilePath) -> Bool {
            let file = unsafe path.withPlatformString { unsafe rondo_open_cached(nil, $0) }
            defer { close(file) }
            var byte: UInt8 = 0
            return unsafe file >= 0 && rondo_read_cached(file, &byte, 1, 0) >= 0
        }

        /// Whether the file is on no disk, so that nothing of it can be forgotten.
        private func isInMemory(_ path: FilePath) -> Bool {
            let file = unsafe open(path.string, O_RDONLY | O_CLOEXEC)
            defer { close(file) }
            return rondo_is_memory_file(file) != 0
        }

        /// Lets the kernel forget the bytes of a file.
        private func forget(_ path: FilePath) {
            let file = unsafe open(path.string, O_RDONLY | O_CLOEXEC)
            defer { close(file) }
            fsync(file)
            posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED)
        }

        @Test(arguments: World.real) func whatIsInMemoryTakesNoOperation(world: World) throws {
            for folder in [TemporaryFolder(), TemporaryFolder(in: "/dev/shm")] {
                try world.run {
                    let path = FilePath("\(folder.path)/file")
                    let bytes = pattern(150_000)
                    try await File.write(bytes, to: path)
                    let isMemory = path.starts(with: "/dev/shm")
                    guard isMemory || canBeReadNow(path) else { return }
                    let before = statistics.operations
                    let file = try await File.open(path)
                    let status = try await file.status()
                    #expect(status.size == 150_000)
                    #expect(status.kind == .regular)
                    let part = try await file.read(100, at: 70_000)
                    #expect(part == Array(bytes[70_000..<70_100]))
                    let end = try await file.read(100, at: 149_990)
                    #expect(end == Array(bytes[149_990...]))
                    let beyond = try await file.read(100, at: 150_000)
                    #expect(beyond.isEmpty)
                    await file.close()
                    let below = try await File.open("file", beneath: FilePath(folder.path))
                    let all = try await below.read(200_000)
                    #expect(all == bytes)
                    await below.close()
                    #expect(statistics.operations == before)
                    // What could keep other tasks waiting goes the usual way.
                    let again = try await File.open(path)
                    let much = try await again.read(300_000)
                    #expect(much == bytes)
                    #expect(statistics.operations > before)
                    await again.close()
                }
            }
        }

        @Test(arguments: World.real) func whatIsOnTheDiskIsWaitedFor(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = FilePath("\(folder.path)/file")
                let bytes = pattern(150_000)
                try await File.write(bytes, to: path)
                // A refused read makes the kernel fetch what it lacks, and a quick disk may have it in time.
                var hasWaited = false
                for _ in 0..<100 where !hasWaited {
                    forget(path)
                    let before = statistics.operations
                    let all = try await File.contents(of: path)
                    #expect(all == bytes)
                    hasWaited = statistics.operations > before
                }
                #expect(hasWaited || isInMemory(path))
                // The end of the file may be forgotten alone: what is there comes first, then the rest.
                let tail = unsafe open(path.string, O_RDONLY | O_CLOEXEC)
                posix_fadvise(tail, 64 * 1024, 0, POSIX_FADV_DONTNEED)
                close(tail)
                let file = try await File.open(path)
                let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: 150_001, alignment: 1)
                nonisolated(unsafe) let buffer = unsafe memory
                let count = try await unsafe file.read(into: buffer, at: 0)
                #expect(count == 150_000)
                #expect(unsafe Array(memory[..<count]) == bytes)
                unsafe memory.deallocate()
                await file.close()
            }
        }

        @Test(arguments: World.real) func filesThatAreNoneOfADiskAreReadAsBefore(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let status = try await File.contents(of: "/proc/self/status")
                #expect(String(decoding: status, as: UTF8.self).contains("VmRSS"))
                #expect(status.last == UInt8(ascii: "\n"))
                let zeros = try await File.open("/dev/zero")
                let device = try await zeros.status()
                #expect(device.kind == .characterDevice)
                let some = try await zeros.read(1000)
                #expect(some == [UInt8](repeating: 0, count: 1000))
                await zeros.close()
                let nothing = try await File.contents(of: "/dev/null")
                #expect(nothing.isEmpty)
                let opened = try await File.open(FilePath(folder.path))
                let kind = try await opened.status().kind
                #expect(kind == .directory)
                await opened.close()
                let isFolder = await ioError { try await File.contents(of: FilePath(folder.path)) }
                #expect(isFolder?.description.hasPrefix("read \(folder.path): Is a directory") == true)
                let missing = await ioError { try await File.contents(of: "/none/of/this") }
                #expect(missing?.description.hasPrefix("open /none/of/this: No such file or directory") == true)
            }
        }

        /// Opening it may not tell the writer that there is a reader, and then leave it alone.
        @Test(arguments: World.withRing) func aPipeKeepsItsWriter(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = FilePath("\(folder.path)/pipe")
                unsafe #expect(mkfifo(path.string, 0o600) == 0)
                let reader = try await File.open(path)
                let writer = try await File.open(path, .update())
                try await writer.write(Array("one".utf8))
                let one = try await reader.read(3)
                #expect(one == Array("one".utf8))
                let waiting = start { try await reader.read(5) }
                await settle()
                try await writer.write(Array("later".utf8))
                let later = try await waiting.value
                #expect(later == Array("later".utf8))
                await reader.close()
                await writer.close()
            }
        }

        @Test(arguments: World.real) func aCancelledTaskReadsNothing(world: World) throws {
            let folder = TemporaryFolder(in: "/dev/shm")
            try world.run {
                let path = FilePath("\(folder.path)/file")
                try await File.write(pattern(100), to: path)
                let file = try await File.open(path)
                let opening = start { try await File.open(path) }
                opening.cancel()
                #expect(await ioError(of: opening)?.cause == .cancelled)
                let reading = start { try await file.read(100) }
                reading.cancel()
                // The kernel may be faster than the request to end it.
                if case .failure(let error) = await reading.result { #expect((error as? IOError)?.cause == .cancelled) }
                await file.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        /// How often another task has its turn while `body` runs.
        private func turnsOfOthers(during body: sending @escaping () async throws -> Void) async throws -> Int {
            let reader = start {
                try await body()
                return true
            }
            let other = start {
                var turns = 0
                while !Task.isCancelled {
                    await EventLoop.yield()
                    turns += 1
                }
                return turns
            }
            _ = try await reader.value
            other.cancel()
            return try await other.value
        }

        /// Nothing is waited for, and yet others have their turn.
        @Test(arguments: World.real) func readersTakeTurnsWithOthers(world: World) throws {
            let folder = TemporaryFolder(in: "/dev/shm")
            try world.run {
                let budget = EventLoop.current!.configuration.operationBudget
                let (small, large) = (FilePath("\(folder.path)/small"), FilePath("\(folder.path)/large"))
                try await File.write(pattern(100), to: small)
                try await File.write(pattern(256 * 1024), to: large)
                let ofMany = try await turnsOfOthers { for _ in 0..<2000 { _ = try await File.contents(of: small) } }
                #expect(ofMany >= 2000 * 2 / budget)
                let file = try await File.open(large)
                let ofLarge = try await turnsOfOthers { for _ in 0..<200 { _ = try await file.read(256 * 1024) } }
                #expect(ofLarge >= 200 * 16 / budget)
                await file.close()
            }
        }

        /// A task without an executor of its own, whose actor runs here, is on the loop's thread by chance: it goes on
        /// elsewhere after each wait.
        @Test(arguments: World.real) func whoIsHereByChanceIsServed(world: World) async throws {
            let folder = TemporaryFolder()
            try await world.runElsewhere {
                try await Files.makeDirectory(FilePath("\(folder.path)/sub"))
                let reader = ChanceReader()
                var (rounds, met) = (0, 0)
                while met < 20, rounds < 10_000 {
                    rounds += 1
                    if try await reader.lure(into: FilePath(folder.path)).value { met += 1 }
                }
                #expect(met == 20, "no task met the loop's thread in \(rounds) rounds")
            }
        }
    }
}

/// An actor of nobody's, which is entered by a task of Swift's own threads while the loop's thread is in it.
private actor ChanceReader {
    /// Has a task wait for the actor, whose answer is whether it then was on the loop's thread.
    func lure(into folder: FilePath) -> Task<Bool, any Error> {
        let flag = Flag()
        let task = Task.detached { [self] in
            flag.isSet.store(true, ordering: .releasing)
            return try await list(folder)
        }
        while !flag.isSet.load(ordering: .acquiring) { sched_yield() }
        for _ in 0..<50 { sched_yield() }
        return task
    }

    private func list(_ folder: FilePath) async throws -> Bool {
        guard EventLoop.current != nil else { return false }
        let entries = try await Directory.entries(of: ".", beneath: folder)
        #expect(entries.map(\.name) == ["sub"])
        return true
    }
}

private final class Flag: Sendable {
    let isSet = Atomic<Bool>(false)
}
