// Changes of folders. They come from the kernel, so the simulated world has none.

import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct DirectoryWatchTests {
        /// Takes events until one is about `last`, and answers them as texts: `created a`.
        private static func events(_ watch: DirectoryWatch, until last: String) async throws -> [String] {
            var all: [String] = []
            for try await event in watch {
                let name = event.path.string.dropFirst(watch.root.string.count + 1)
                let kind =
                    switch event.kind {
                    case .movedFrom: "from"
                    case .movedTo: "to"
                    default: "\(event.kind)"
                    }
                all.append("\(kind) \(name)\(event.isDirectory ? "/" : "")")
                if all.last == last { break }
            }
            return all
        }

        @Test(arguments: World.real) func tellsWhatHappens(world: World) throws {
            try world.runInFolder { folder in
                let watch = try await DirectoryWatch.start(folder)
                let (a, b) = (folder.appending("a"), folder.appending("b"))
                try await File.write([1], to: a)
                try await Files.rename(a, to: b)
                try await Files.remove(b)
                try await Files.makeDirectory(a)
                try await Files.makeDirectory(a.appending("unseen"))
                try await Files.removeTree(a)
                let all = try await Self.events(watch, until: "removed a/")
                // The kernel may let go of a file a moment after its close has completed: under its next name.
                let order = ["created a", "modified a", "from a", "to b", "removed b", "created a/", "removed a/"]
                let others = all.filter { !$0.hasPrefix("written") }
                #expect(others == order)
                let written = all.filter { $0.hasPrefix("written") }
                #expect(written.count == 1 && ["written a", "written b"].contains(written[0]), "\(all)")
                await watch.close()
                await watch.close()
                for try await event in watch { Issue.record("\(event) after the end") }
            }
        }

        @Test(arguments: World.real) func bothHalvesOfAMoveHaveOneCookie(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("a")
                try await File.write([1], to: path)
                let watch = try await DirectoryWatch.start(folder)
                try await Files.rename(path, to: folder.appending("b"))
                var events = watch.makeAsyncIterator()
                guard case .movedFrom(let from) = try await events.next()?.kind,
                    case .movedTo(let to) = try await events.next()?.kind
                else {
                    Issue.record("no move")
                    return await watch.close()
                }
                #expect(from == to)
                await watch.close()
            }
        }

        @Test(arguments: World.real) func watchesWhatIsBelow(world: World) throws {
            try world.runInFolder { folder in
                let outside = TemporaryFolder()
                try await Files.makeDirectory(folder.appending("a/b"), withParents: true)
                let watch = try await DirectoryWatch.start(folder, recursive: true)
                try await File.write([], to: folder.appending("a/b/1"))
                #expect(try await Self.events(watch, until: "written a/b/1") == ["created a/b/1", "written a/b/1"])
                // New folders are watched; what was in them before that is not missed.
                try await Files.makeDirectory(folder.appending("c/d"), withParents: true)
                try await File.write([], to: folder.appending("c/d/2"))
                let new = try await Self.events(watch, until: "created c/d/2")
                #expect(Set(new).isSuperset(of: ["created c/", "created c/d/", "created c/d/2"]))
                // A folder that was moved within is known by its new name.
                try await Files.rename(folder.appending("a"), to: folder.appending("c/e"))
                _ = try await Self.events(watch, until: "to c/e/")
                try await Files.remove(folder.appending("c/e/b/1"))
                #expect(try await Self.events(watch, until: "removed c/e/b/1").last == "removed c/e/b/1")
                // One that was moved out is not watched any more.
                let away = FilePath("\(outside.path)/away")
                try await Files.rename(folder.appending("c"), to: away)
                _ = try await Self.events(watch, until: "from c/")
                try await File.write([1], to: folder.appending("3"))
                _ = try await Self.events(watch, until: "written 3")
                try await File.write([1], to: away.appending("unseen"))
                try await File.write([1], to: folder.appending("4"))
                let rest = try await Self.events(watch, until: "written 4")
                #expect(rest == ["created 4", "modified 4", "written 4"])
                await watch.close()
            }
        }

        @Test(arguments: World.real) func aFolderThatGoesSaysSo(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("a")
                try await Files.makeDirectory(path)
                let watch = try await DirectoryWatch.start(path)
                try await Files.remove(path)
                let event = try await watch.makeAsyncIterator().nextOnly()
                #expect(event?.kind == .gone && event?.path == path)
                await watch.close()
                let error = await ioError { try await DirectoryWatch.start(path) }
                #expect(error?.description == "watch \(path): No such file or directory (check the path)")
            }
        }

        @Test(arguments: World.real) func aWaitIsCancelledOrEnded(world: World) throws {
            try world.runInFolder { folder in
                for yields in 0..<10 {
                    let watch = try await DirectoryWatch.start(folder)
                    let first = start { try await Self.events(watch, until: "") }
                    for _ in 0..<yields { await EventLoop.yield() }
                    first.cancel()
                    #expect(await ioError(of: first)?.cause == .cancelled)
                    // Nothing is lost by that.
                    unsafe mkdir(folder.appending("a").string, 0o700)
                    #expect(try await Self.events(watch, until: "created a/") == ["created a/"])
                    unsafe rmdir(folder.appending("a").string)
                    let second = start { try await Self.events(watch, until: "") }
                    for _ in 0..<yields { await EventLoop.yield() }
                    await watch.close()
                    #expect(try await second.value.allSatisfy { $0 == "removed a/" })
                }
                // Dropped while a poll is under way.
                let task = start { try await Self.events(DirectoryWatch.start(folder), until: "") }
                for _ in 0..<10 { try await Task.sleep(for: .milliseconds(1)) }
                task.cancel()
                #expect(await ioError(of: task)?.cause == .cancelled)
            }
        }

        @Test func aSimulationSaysThatItHasNone() throws {
            try World.simulated.run {
                let error = await ioError { try await DirectoryWatch.start("/") }
                #expect(error?.description == "watch /: Operation not supported")
            }
        }
    }
}

extension DirectoryWatch.AsyncIterator {
    /// One event, of an iterator that is needed no more.
    func nextOnly() async throws(IOError) -> DirectoryWatch.Event? {
        var iterator = self
        return try await iterator.next()
    }
}
