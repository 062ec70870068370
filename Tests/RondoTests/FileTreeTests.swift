// Walking and removing trees, temporary files and folders, replacing a file as a whole.

import CRondo
import CTestSupport
import Glibc
import RondoTesting
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct FileTreeTests {
        private static func makeTree(in folder: FilePath) async throws {
            for path in ["a/b/c", "d", "e"] {
                try await Files.makeDirectory(folder.appending(path), withParents: true)
            }
            for path in ["a/1", "a/b/2", "a/b/c/3", "d/4"] {
                try await File.write([1], to: folder.appending(path))
            }
            try await Files.makeSymbolicLink(at: folder.appending("d/loop"), to: "..")
            try await Files.makeSymbolicLink(at: folder.appending("dangling"), to: "nowhere")
        }

        // MARK: Walking

        @Test(arguments: World.allCases) func walksATree(world: World) throws {
            try world.runInFolder { folder in
                try await Self.makeTree(in: folder)
                var seen: [String] = []
                for try await entry in Directory.walk(folder) {
                    #expect(entry.error == nil)
                    let name = entry.path.string.dropFirst(folder.string.count + 1)
                    #expect(entry.depth == name.split(separator: "/").count)
                    if let parent = name.lastIndex(of: "/") { #expect(seen.contains(String(name[..<parent]))) }
                    let kind = try await Files.status(of: entry.path, followingLinks: false).kind
                    #expect(entry.kind == kind)
                    seen.append(String(name))
                }
                #expect(
                    seen.sorted() == [
                        "a", "a/1", "a/b", "a/b/2", "a/b/c", "a/b/c/3", "d", "d/4", "d/loop", "dangling", "e",
                    ])
                var shallow: [String] = []
                for try await entry in Directory.walk(folder, maximumDepth: 2, skipping: { $0.name == "d" }) {
                    shallow.append(entry.name)
                }
                #expect(shallow.sorted() == ["1", "a", "b", "dangling", "e"])
                // Dropped in the middle.
                for try await entry in Directory.walk(folder) where entry.depth == 2 { break }
                await settle()
                let missing = folder.appending("missing")
                let error = await ioError { for try await _ in Directory.walk(missing) {} }
                #expect(error?.description == "walk \(missing): No such file or directory (check the path)")
            }
        }

        @Test(arguments: World.real) func walksAndRemovesManyNames(world: World) throws {
            try world.runInFolder { folder in
                for number in 0..<10 {
                    let part = "\(folder)/folder \(number)"
                    unsafe mkdir(part, 0o700)
                    for file in 0..<20 { unsafe close(open("\(part)/a long name of a file: \(file)", O_CREAT, 0o600)) }
                }
                // Names need not be Unicode.
                unsafe mkdir([CChar](folder.string.utf8CString.dropLast()) + [47, -1, -2, 0], 0o700)
                var count = 0
                for try await entry in Directory.walk(folder) {
                    count += 1
                    _ = try await Files.status(of: entry.path)
                }
                #expect(count == 10 * 21 + 1)
                try await Files.removeTree(folder)
                #expect(try await !Files.exists(folder))
                unsafe mkdir(folder.string, 0o700)
            }
        }

        /// A folder that can't be entered is reported, and the rest is walked.
        @Test func anErrorOfAFolderDoesNotEndTheWalk() throws {
            var options = SimulationOptions()
            options.descriptorLimit = 2
            try Simulation.explore(seeds: 0..<20, options: options) { simulation in
                for path in ["/t/a/b/x", "/t/a/c", "/t/d/e/f", "/t/g"] { simulation.files.write(path, "text") }
                var seen: [String] = []
                var errors: [String] = []
                for try await entry in Directory.walk("/t") {
                    seen.append(entry.path.string)
                    if let error = entry.error { errors.append(error.description) }
                }
                try #require(seen.sorted() == ["/t/a", "/t/a/b", "/t/a/c", "/t/d", "/t/d/e", "/t/g"])
                let hint = "raise the limit of open files: ulimit -n"
                try #require(
                    errors.sorted() == ["/t/a/b", "/t/d/e"].map { "walk \($0): Too many open files (\(hint))" })
                let error = await ioError { for try await _ in Directory.walk("/t", stopsAtErrors: true) {} }
                try #require(error?.errno == .tooManyOpenFiles)
                try await Task.sleep(for: .seconds(1))
                try #require(simulation.openDescriptors.isEmpty)
            }
        }

        @Test(arguments: World.allCases) func aWalkIsCancelled(world: World) throws {
            try world.runInFolder { folder in
                try await Self.makeTree(in: folder)
                for yields in 0..<20 {
                    let walking = start { for try await _ in Directory.walk(folder) {} }
                    for _ in 0..<yields { await EventLoop.yield() }
                    walking.cancel()
                    if case .failure(let error) = await walking.result {
                        #expect((error as? IOError)?.cause == .cancelled)
                    }
                }
                await settle()
                #expect(statistics.pendingOperations == 0)
            }
        }

        // MARK: Removing

        @Test(arguments: World.allCases) func removesATree(world: World) throws {
            try world.runInFolder { folder in
                let tree = folder.appending("tree")
                try await Files.makeDirectory(tree)
                try await Self.makeTree(in: tree)
                let kept = folder.appending("kept")
                try await Files.makeDirectory(kept)
                try await File.write([1], to: kept.appending("file"))
                try await Files.makeSymbolicLink(at: tree.appending("a/b/out"), to: kept)
                try await Files.removeTree(tree)
                #expect(try await !Files.exists(tree))
                #expect(try await File.contents(of: kept.appending("file")) == [1], "links are not followed")
                try await Files.makeSymbolicLink(at: tree, to: "kept")
                try await Files.removeTree(tree)
                #expect(try await Files.exists(kept))
                let error = await ioError { try await Files.removeTree(tree) }
                #expect(error?.description == "remove \(tree): No such file or directory (check the path)")
            }
        }

        // MARK: Temporary files and folders

        @Test(arguments: World.allCases) func temporariesGoByThemselves(world: World) throws {
            try world.runInFolder { folder in
                let size = try await TemporaryFile.with(in: folder) { file in
                    try await file.write(pattern(1000))
                    #expect(try await file.read(1000) == pattern(1000))
                    #expect(try await file.status().links == 0)
                    #expect(try await Directory.entries(of: folder).isEmpty)
                    return try await file.status().size
                }
                #expect(size == 1000)
                // As on a file system without unnamed files.
                let named = try await PathCalls(loop).makeUnnamedFile(in: folder, allowsUnnamed: false)
                #expect(try await named.status().links == 0)
                await named.close()

                var seen = FilePath()
                try await TemporaryDirectory.with(in: folder) { path in
                    seen = path
                    try await Self.makeTree(in: path)
                    #expect(try await Files.status(of: path).permissions == .ownerReadWriteExecute)
                }
                #expect(try await !Files.exists(seen))
                struct Stop: Error {}
                await #expect(throws: Stop.self) {
                    try await TemporaryDirectory.with(in: folder) { path in
                        try await File.write([1], to: path.appending("file"))
                        throw Stop()
                    }
                }
                let missing = folder.appending("missing")
                let error = await ioError {
                    try await TemporaryFile.with(in: missing) { _ in }
                }
                #expect(
                    error?.description
                        == "make a temporary file in \(missing): No such file or directory (check the path)")
                #expect(try await Directory.entries(of: folder).isEmpty)
            }
        }

        @Test(arguments: World.allCases) func aCancelledTaskLeavesNoTemporaryFolder(world: World) throws {
            try world.runInFolder { folder in
                for yields in 0..<40 {
                    let task = start {
                        try await TemporaryDirectory.with(in: folder) { path in try await Self.makeTree(in: path) }
                    }
                    for _ in 0..<yields { await EventLoop.yield() }
                    task.cancel()
                    _ = await task.result
                    let left = try await Directory.entries(of: folder)
                    #expect(left.isEmpty)
                }
            }
        }

        // MARK: Replacing

        @Test(arguments: World.allCases) func replacesAFile(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("file")
                try await File.replace(at: path, with: [1, 2, 3])
                #expect(try await File.contents(of: path) == [1, 2, 3])
                #expect(try await FileStatus.of(path).permissions == .ownerReadWrite)
                let changed = try await File.open(path, .update())
                try await changed.setPermissions([.ownerReadWrite, .groupReadWrite])
                await changed.close()
                let old = try await File.open(path)
                let answer = try await File.replace(at: path) { file in
                    try await file.write(pattern(10_000))
                    #expect(try await File.contents(of: path) == [1, 2, 3])
                    return 7
                }
                #expect(answer == 7)
                #expect(try await File.contents(of: path) == pattern(10_000))
                #expect(try await FileStatus.of(path).permissions == [.ownerReadWrite, .groupReadWrite])
                #expect(try await old.read(10) == [1, 2, 3])
                await old.close()
                let error = await ioError {
                    try await File.replace(at: path) { file in
                        try await file.write([9])
                        throw IOError("test", "it", .unexpectedEnd)
                    }
                }
                #expect(error?.cause == .unexpectedEnd)
                let isFolder = await ioError { try await File.replace(at: folder, with: [1]) }
                #expect(isFolder?.operation == "rename")
                #expect(try await File.contents(of: path) == pattern(10_000))
                #expect(try await Directory.entries(of: folder).map(\.name) == ["file"])
            }
        }

        /// Wherever the cancellation comes: the old content or the new one, and no third file.
        @Test func aCancelledReplacementIsWholeOrNothing() throws {
            let outcomes = Journal<Bool>()
            try Simulation.explore(seeds: 0..<300) { simulation in
                let (old, new) = (pattern(500), pattern(3000, from: 7))
                simulation.files.write("/d/file", old)
                let task = start { try await File.replace(at: "/d/file", with: new) }
                var numbers = SeededGenerator(seed: simulation.seed)
                try await Task.sleep(for: .microseconds(numbers.next() % 12_000))
                task.cancel()
                let isDone = (try? await task.value) != nil
                outcomes.add(isDone)
                try #require(simulation.files.list("/d") == ["file"])
                let content = simulation.files.read("/d/file")
                try #require(isDone ? content == new : content == old || content == new)
                try #require(simulation.openDescriptors.isEmpty)
            }
            #expect(Set(outcomes.all) == [true, false])
        }

        @Test func aReplacementOnAFullDiskKeepsTheOldContent() throws {
            var options = SimulationOptions()
            options.fileCapacity = 1000
            try Simulation.explore(seeds: 0..<50, options: options) { simulation in
                simulation.files.write("/d/file", pattern(600))
                let error = await ioError { try await File.replace(at: "/d/file", with: pattern(500)) }
                try #require(error?.errno == .noSpace)
                try #require(simulation.files.list("/d") == ["file"])
                try #require(simulation.files.read("/d/file") == pattern(600))
                try #require(simulation.openDescriptors.isEmpty)
            }
        }

        /// The same with the kernel: a small file system of its own.
        @Test(arguments: World.real) func aFullFileSystemKeepsTheOldContent(world: World) throws {
            let folder = TemporaryFolder()
            guard unsafe test_mount_small(folder.path, 64 * 1024) == 0 else {
                print("not tested: mounting a small file system is denied (errno \(errno))")
                return
            }
            defer { unsafe #expect(test_unmount(folder.path) == 0) }
            try world.run {
                let path = FilePath("\(folder.path)/file")
                try await File.write(pattern(40_000), to: path)
                let error = await ioError { try await File.replace(at: path, with: pattern(40_000, from: 1)) }
                #expect(error?.errno == .noSpace)
                #expect(
                    error?.description.hasSuffix("No space left on device (free some space on that file system)")
                        == true)
                #expect(try await File.contents(of: path) == pattern(40_000))
                #expect(try await Directory.entries(of: FilePath(folder.path)).map(\.name) == ["file"])
                let file = try await File.open(path, .update())
                #expect(await ioError { try await file.preallocate(1 << 20) }?.errno == .noSpace)
                await file.close()
            }
        }
    }
}
