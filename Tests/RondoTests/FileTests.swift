// Files and folders.

import CTestSupport
import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct FileTests {
        // MARK: Bytes

        @Test(arguments: World.real) func readsWhatWasWritten(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = FilePath("\(folder.path)/a file ä")
                let bytes = pattern(300_000)
                try await File.write(bytes, to: path)
                let all = try await File.contents(of: path)
                #expect(all == bytes)
                try await File.write([], to: path)
                let nothing = try await File.contents(of: path)
                #expect(nothing.isEmpty)
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func readsAndWritesAtOffsets(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let file = try await File.open(FilePath("\(folder.path)/file"), .replace())
                try await file.write(Array("0123456789".utf8))
                try await file.write(Array("abc".utf8), at: 4)
                let middle = try await file.read(5, at: 3)
                #expect(middle == Array("3abc7".utf8))
                let end = try await file.read(100, at: 8)
                #expect(end == Array("89".utf8))
                let beyond = try await file.read(100, at: 1000)
                #expect(beyond.isEmpty)
                // Writing beyond the end leaves zeros between.
                try await file.write([1], at: 12)
                let gap = try await file.read(10, at: 9)
                #expect(gap == [UInt8(ascii: "9"), 0, 0, 1])
                try await file.synchronize()
                try await file.synchronize(dataOnly: true)
                let size = try await file.status().size
                #expect(size == 13)
                await file.close()
            }
        }

        @Test(arguments: World.real) func anOffsetBeforeTheBeginningSaysSo(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = "\(folder.path)/file"
                let file = try await File.open(FilePath(path), .update())
                let error = await ioError { try await file.read(1, at: -1) }
                #expect(error?.description == "read \(path): offset -1 is before the file's beginning")
                let other = await ioError { try await file.write([1], at: .min) }
                #expect(other?.operation == "write")
                await file.close()
            }
        }

        @Test(arguments: World.real) func readsFilesThatDoNotKnowTheirSize(world: World) throws {
            try world.run {
                let status = try await File.contents(of: "/proc/self/status")
                #expect(String(decoding: status.prefix(5), as: UTF8.self) == "Name:")
                let maps = try await File.contents(of: "/proc/self/maps")
                #expect(maps.count > 4096)
                let error = await ioError { try await File.contents(of: "/proc/self/maps", limit: 100) }
                #expect(error?.cause == .limitExceeded(100))
            }
        }

        @Test(arguments: World.real) func limitsHold(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = FilePath("\(folder.path)/file")
                try await File.write(pattern(100), to: path)
                let all = try await File.contents(of: path, limit: 100)
                #expect(all == pattern(100))
                let error = await ioError { try await File.contents(of: path, limit: 99) }
                #expect(error?.description == "read \(path): more than the limit of 99 bytes arrived")
            }
        }

        @Test(arguments: World.real) func severalTasksShareAFile(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let file = try await File.open(FilePath("\(folder.path)/file"), .replace())
                try await withThrowingTaskGroup { group in
                    for number in (0..<100).shuffled() {
                        group.addTask {
                            let bytes = pattern(4096, from: number)
                            try await file.write(bytes, at: Int64(number * 4096))
                            let again = try await file.read(4096, at: Int64(number * 4096))
                            #expect(again == bytes)
                        }
                    }
                    try await group.waitForAll()
                }
                let size = try await file.status().size
                #expect(size == 409_600)
                await file.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        // MARK: Status and folders

        @Test(arguments: World.real) func tellsWhatAPathNames(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = FilePath("\(folder.path)/file")
                let file = try await File.open(path, .createNew(permissions: [.ownerReadWrite, .groupRead]))
                try await file.write(pattern(100))
                let status = try await FileStatus.of(path)
                #expect(status == (try await file.status()))
                #expect(status.kind == .regular)
                #expect(status.size == 100)
                #expect(status.links == 1)
                #expect(status.owner == getuid())
                #expect(status.permissions.isSubset(of: [.ownerReadWrite, .groupRead]))
                #expect(status.modified > .seconds(1_700_000_000))
                await file.close()
                let parent = try await FileStatus.of(FilePath(folder.path))
                #expect(parent.kind == .directory)
                #expect(parent.device == status.device)
                let null = try await FileStatus.of("/dev/null")
                #expect(null.kind == .characterDevice)
            }
        }

        @Test(arguments: World.real) func listsAFolder(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let empty = try await Directory.entries(of: FilePath(folder.path))
                #expect(empty.isEmpty)
                try await File.write([], to: FilePath("\(folder.path)/b"))
                try await File.write([], to: FilePath("\(folder.path)/ä"))
                unsafe mkdir("\(folder.path)/a", 0o755)
                unsafe symlink("b", "\(folder.path)/c")
                let entries = try await Directory.entries(of: FilePath(folder.path))
                #expect(entries.map(\.name) == ["a", "b", "c", "ä"])
                #expect(entries.map(\.kind) == [.directory, .regular, .symbolicLink, .regular])
                let error = await ioError { try await Directory.entries(of: "/does/not/exist") }
                #expect(error?.description == "list /does/not/exist: No such file or directory (check the path)")
                let other = await ioError { try await Directory.entries(of: FilePath("\(folder.path)/b")) }
                #expect(other?.errno == .notDirectory)
            }
        }

        // MARK: Errors

        @Test(arguments: World.real) func errorsSayWhatAndWhy(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let missing = await ioError { try await File.open("/does/not/exist") }
                #expect(missing?.description == "open /does/not/exist: No such file or directory (check the path)")
                let status = await ioError { try await FileStatus.of("/does/not/exist") }
                #expect(status?.description == "stat /does/not/exist: No such file or directory (check the path)")
                let isFolder = await ioError { try await File.contents(of: FilePath(folder.path)) }
                #expect(isFolder?.description == "read \(folder.path): Is a directory (name a file, not a folder)")
                let path = FilePath("\(folder.path)/file")
                try await File.write([1], to: path)
                let isThere = await ioError { try await File.open(path, .createNew()) }
                #expect(isThere?.description == "open \(path): File exists")
                let full = await ioError { try await File.write(pattern(100), to: "/dev/full") }
                let text = "write /dev/full: No space left on device (free some space on that file system)"
                #expect(full?.description == text)
                let readOnly = try await File.open(path)
                #expect(await ioError { try await readOnly.write([1]) }?.errno == .badFileDescriptor)
                await readOnly.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(.enabled(if: getuid() != 0), arguments: World.real) func noPermissionSaysSo(world: World) throws {
            try world.run {
                let error = await ioError { try await File.open("/etc/shadow") }
                #expect(error?.description == "open /etc/shadow: Permission denied (check owner and mode)")
                await settle()
            }
        }

        @Test(arguments: World.real) func aClosedFileSaysSo(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = "\(folder.path)/file"
                let file = try await File.open(FilePath(path), .update())
                await file.close()
                await file.close()
                let errors = [
                    await ioError { try await file.read(1) }, await ioError { try await file.write([1]) },
                    await ioError { try await file.status() }, await ioError { try await file.synchronize() },
                ]
                #expect(errors.map { $0?.operation } == ["read", "write", "stat", "synchronize"])
                for error in errors {
                    #expect(error?.description.hasSuffix("\(path): it is closed (do not use it after close())") == true)
                }
            }
        }

        // MARK: Ends

        @Test(arguments: World.real) func closingWaitsForOperations(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let file = try await File.open(FilePath("\(folder.path)/file"), .replace())
                let tasks = (0..<20).map { number in
                    start { try await file.write(pattern(100_000), at: Int64(number * 100_000)) }
                }
                await settle()
                await file.close()
                #expect(statistics.pendingOperations == 0)
                for task in tasks { try await task.value }
                let size = try await FileStatus.of(FilePath("\(folder.path)/file")).size
                #expect(size == 2_000_000)
            }
        }

        @Test(arguments: World.real) func aFileThatIsDroppedIsClosed(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                for _ in 0..<10 { try await writeAndDrop(FilePath("\(folder.path)/file")) }
                for _ in 0..<10_000 where openFiles(in: folder) > 0 { try await Task.sleep(for: .milliseconds(1)) }
                #expect(openFiles(in: folder) == 0)
            }
        }

        private func writeAndDrop(_ path: FilePath) async throws {
            try await File.open(path, .update()).write([1])
        }

        /// The pool lists folders with every driver. A listing that waits for a thread ends at once, and nobody goes on
        /// asking for its end.
        @Test(arguments: World.real) func aListingThatWaitsForAThreadEndsAtOnce(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                $0.offloadThreads = 1
            } _: {
                let gate = TestSemaphore()
                let busy = start { try await offload { gate.wait() } }
                await settle()
                let listing = start { try await Directory.entries(of: FilePath(folder.path)).count }
                await settle()
                listing.cancel()
                #expect(await ioError(of: listing)?.cause == .cancelled)
                let turns = statistics.turns
                for _ in 0..<10 { try await Task.sleep(for: .milliseconds(1)) }
                #expect(statistics.turns - turns < 100, "the loop spins")
                gate.post()
                try await busy.value
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func aTaskThatIsCancelledBeginsNothing(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = FilePath("\(folder.path)/file")
                let file = try await File.open(path, .update())
                let tasks = [
                    start { _ = try await File.open(path) }, start { _ = try await file.read(1) },
                    start { try await file.write([1]) }, start { _ = try await file.status() },
                    start { try await file.synchronize() }, start { _ = try await FileStatus.of(path) },
                    start { _ = try await Directory.entries(of: FilePath(folder.path)) },
                ]
                for task in tasks { task.cancel() }
                for task in tasks { #expect(await ioError(of: task)?.cause == .cancelled) }
                await file.close()
                let size = try await FileStatus.of(path).size
                #expect(size == 0)
                #expect(statistics.pendingOperations == 0)
            }
        }

        /// Whatever the cancellation meets: each operation ends, with its result or cancelled, and nothing is left.
        @Test(arguments: World.real) func cancellingMeetsOperationsAnywhere(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let file = try await File.open(FilePath("\(folder.path)/file"), .replace())
                try await file.write(pattern(4096))
                for yields in 0..<50 {
                    let tasks = (0..<10).map { _ in start { try await file.read(4096) } }
                    for _ in 0..<yields { await EventLoop.yield() }
                    for task in tasks { task.cancel() }
                    for task in tasks {
                        switch await task.result {
                        case .success(let bytes): #expect(bytes == pattern(4096))
                        case .failure(let error): #expect((error as? IOError)?.cause == .cancelled)
                        }
                    }
                    #expect(statistics.pendingOperations == 0)
                }
                await file.close()
            }
        }

        /// A read that would wait for ever (an empty pipe) is given up at once.
        @Test(arguments: World.withRing) func aReadThatWaitsIsCancelled(world: World) throws {
            let folder = TemporaryFolder()
            try world.run {
                let path = "\(folder.path)/pipe"
                unsafe mkfifo(path, 0o600)
                let file = try await File.open(FilePath(path), .update())
                let reader = start { try await file.read(1) }
                try await Task.sleep(for: .milliseconds(1))
                #expect(statistics.pendingOperations == 1)
                reader.cancel()
                #expect(await ioError(of: reader)?.cause == .cancelled)
                #expect(statistics.pendingOperations == 0)

                // Closing waits for the reader, which gets its byte.
                let next = start { try await file.read(1) }
                await settle()
                let closing = start { await file.close() }
                try await Task.sleep(for: .milliseconds(1))
                #expect(await ioError { try await file.read(1) }?.cause == .closed)
                let writer = try await File.open(FilePath(path), .update())
                try await writer.write([7])
                let bytes = try await next.value
                #expect(bytes == [7])
                try await closing.value
                await writer.close()
            }
        }

        @Test(arguments: World.real) func isUsedFromOtherThreads(world: World) async throws {
            let folder = TemporaryFolder()
            try await world.runElsewhere {
                let file = try await File.open(FilePath("\(folder.path)/file"), .replace())
                let task = Task.detached {
                    try await file.write(pattern(1000))
                    let bytes = try await file.read(1000)
                    await file.close()
                    return bytes
                }
                let bytes = try await task.value
                #expect(bytes == pattern(1000))
            }
        }
    }
}
