// Opening below a folder: nothing leads out of it, whatever changes meanwhile.

import CRondo
import Glibc
import RondoTesting
import Synchronization
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct FileBeneathTests {
        /// A folder with links in it, beside something that must not be seen.
        private static func makeTree(in folder: FilePath) async throws -> FilePath {
            let root = folder.appending("root")
            try await Files.makeDirectory(root.appending("sub/deep"), withParents: true)
            try await Files.makeDirectory(folder.appending("rootless"))
            for (path, text) in [
                ("secret", "secret"), ("rootless/secret", "secret"), ("root/file", "top"), ("root/sub/file", "below"),
            ] {
                try await File.write(Array(text.utf8), to: folder.appending(path))
            }
            for (link, target) in [
                ("in", "sub/file"), ("sub/up", "../file"), ("out", "../secret"), ("sub/out", "../../secret"),
                ("folder", "sub"), ("parent", ".."), ("absolute", root.appending("file").string), ("circle", "circle"),
                ("there-and-back", "../root/file"),
            ] {
                try await Files.makeSymbolicLink(at: root.appending(link), to: FilePath(target))
            }
            return root
        }

        private static func contents(_ path: String, _ root: FilePath) async throws -> String {
            let file = try await File.open(FilePath(path), beneath: root)
            let text = String(decoding: try await file.read(100), as: UTF8.self)
            await file.close()
            return text
        }

        @Test(arguments: World.allCases) func whatIsBelowIsOpened(world: World) throws {
            try world.runInFolder { folder in
                let root = try await Self.makeTree(in: folder)
                for (path, expected) in [
                    ("file", "top"), ("sub/file", "below"), ("./sub/../file", "top"), ("sub//file", "below"),
                    ("in", "below"), ("sub/up", "top"), ("folder/file", "below"), ("folder/up", "top"),
                ] {
                    let text = try await Self.contents(path, root)
                    #expect(text == expected, "\(path)")
                }
                let entries = try await Directory.entries(of: "sub", beneath: root)
                #expect(entries.map(\.name) == ["deep", "file", "out", "up"])
                #expect(entries.map(\.kind) == [.directory, .regular, .symbolicLink, .symbolicLink])
                let through = try await Directory.entries(of: "folder/.", beneath: root)
                #expect(through == entries)
                let all = try await Directory.entries(of: ".", beneath: root)
                #expect(all.count == 9)
            }
        }

        @Test(arguments: World.allCases) func nothingLeadsOut(world: World) throws {
            try world.runInFolder { folder in
                let root = try await Self.makeTree(in: folder)
                for path in [
                    "..", "../secret", "sub/../../secret", "out", "sub/out", "parent/secret", "parent", "absolute",
                    "there-and-back", "../root/file", "../rootless/secret", folder.appending("secret").string,
                    root.appending("file").string,
                ] {
                    let error = await ioError { _ = try await File.open(FilePath(path), beneath: root) }
                    #expect(
                        error?.description
                            == "open \(path): it leads out of \(root), or a link in it is absolute", "\(path)")
                    let listing = await ioError { _ = try await Directory.entries(of: FilePath(path), beneath: root) }
                    #expect(listing != nil, "\(path)")
                }
            }
        }

        @Test(arguments: World.allCases) func whatIsNotThereIsSaid(world: World) throws {
            try world.runInFolder { folder in
                let root = try await Self.makeTree(in: folder)
                let missing = await ioError { _ = try await File.open("sub/nothing", beneath: root) }
                #expect(
                    missing?.description == "open \(root)/sub/nothing: No such file or directory (check the path)")
                for (path, expected) in [("file/x", Errno.notDirectory), ("circle", .tooManySymbolicLinkLevels)] {
                    let error = await ioError { _ = try await File.open(FilePath(path), beneath: root) }
                    #expect(error?.cause == .system(expected), "\(path)")
                }
                let noFolder = await ioError { _ = try await File.open("file", beneath: root.appending("file")) }
                #expect(noFolder?.cause == .system(.notDirectory))
                let noList = await ioError { _ = try await Directory.entries(of: "file", beneath: root) }
                #expect(noList?.cause == .system(.notDirectory))
            }
        }

        /// A pipe without a writer would hold a thread for ever.
        @Test(arguments: World.real) func aPipeIsNotWaitedFor(world: World) throws {
            try world.runInFolder { folder in
                unsafe #expect(mkfifo(folder.appending("pipe").string, 0o600) == 0)
                let file = try await File.open("pipe", beneath: folder)
                let status = try await file.status()
                #expect(status.kind == .pipe)
                await file.close()
            }
        }

        /// As on kernels without openat2: the same, but for links, none of which is followed.
        @Test func nameByName() throws {
            try World.epoll.runInFolder { folder in
                let root = try await Self.makeTree(in: folder)
                func open(_ path: String) -> Int32 {
                    let answer = unsafe rondo_open_beneath(root.string, path, 1)
                    if answer >= 0 { close(answer) }
                    return min(answer, 0)
                }
                for path in ["file", "sub/file", "sub//deep", ".", "./sub/./file", "sub/"] {
                    #expect(open(path) == 0, "\(path)")
                }
                for (path, expected) in [
                    ("..", EXDEV), ("sub/../file", EXDEV), ("/etc/passwd", EXDEV), ("in", ELOOP), ("out", ELOOP),
                    ("folder/file", ENOTDIR), ("parent/secret", ENOTDIR), ("nothing", ENOENT), ("file/x", ENOTDIR),
                    ("", ENOENT), ("//", EXDEV),
                ] {
                    #expect(open(path) == -expected, "\(path)")
                }
            }
        }

        private final class End: Sendable { let hasCome = Atomic(false) }

        private static func swap(_ name: String, _ other: String, until end: End) async throws {
            try await offload {
                while !end.hasCome.load(ordering: .relaxed) {
                    unsafe _ = rondo_rename(RONDO_AT_FDCWD, name, RONDO_AT_FDCWD, other, RONDO_RENAME_EXCHANGE)
                }
            }
        }

        /// Somebody puts a link to the outside in the place of a folder, again and again.
        @Test(arguments: World.real) func aFolderThatBecomesALinkLeadsNowhere(world: World) throws {
            try world.runInFolder { folder in
                let root = try await Self.makeTree(in: folder)
                try await Files.makeDirectory(root.appending("turn"))
                try await File.write(Array("inside".utf8), to: root.appending("turn/secret"))
                try await Files.makeSymbolicLink(at: root.appending("link"), to: folder)
                let end = End()
                let (turn, link) = (root.appending("turn").string, root.appending("link").string)
                let loop = try #require(EventLoop.current)
                let swapping = Task(executorPreference: loop.executor) { try await Self.swap(turn, link, until: end) }
                for _ in 0..<2000 {
                    guard let text = try? await Self.contents("turn/secret", root) else { continue }
                    #expect(text == "inside")
                }
                end.hasCome.store(true, ordering: .relaxed)
                try await swapping.value
            }
        }
    }
}
