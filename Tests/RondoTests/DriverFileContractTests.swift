// What every driver promises of the operations on files and folders.

import CRondo
import CTestSupport
import Glibc
import SystemPackage
import Testing

@testable import Rondo

@Suite("Driver contract: files", .serialized)
struct DriverFileContractTests {
    private let here = Descriptor.workingDirectory

    /// Runs `body` with a driver and a folder of its own.
    private func with(
        _ world: DriverWorld, threads: Int = 2, _ body: (DriverHarness, String) throws -> Void
    ) throws {
        let folder = TemporaryFolder()
        let harness = try DriverHarness(world, threads: threads)
        try body(harness, folder.path)
        harness.finish()
    }

    // MARK: Sizes and bytes

    @Test(arguments: DriverWorld.usable)
    func sizesChange(_ world: DriverWorld) throws {
        try with(world) { harness, folder in
            let file = try harness.openFile("\(folder)/file", O_RDWR | O_CREAT)
            unsafe #expect(try harness.perform(.file(.truncate(file, size: 5000))) == 0)
            #expect(size(of: file) == 5000)
            unsafe #expect(try harness.perform(.file(.truncate(file, size: 7))) == 0)
            #expect(size(of: file) == 7)
            unsafe #expect(try harness.perform(.file(.allocate(file, offset: 4096, count: 4096))) == 0)
            #expect(size(of: file) == 8192)
            unsafe #expect(try harness.perform(.file(.allocate(file, offset: 0, count: 100))) == 0)
            #expect(size(of: file) == 8192)
            unsafe #expect(try harness.perform(.file(.allocate(file, offset: 0, count: 0))) == -EINVAL)
            let readOnly = try harness.openFile("\(folder)/file", O_RDONLY)
            unsafe #expect(try harness.perform(.file(.truncate(readOnly, size: 0))) == -EINVAL)
            unsafe #expect(try harness.perform(.file(.allocate(readOnly, offset: 0, count: 1))) == -EBADF)
            try harness.close(file, readOnly)
        }
    }

    @Test(arguments: DriverWorld.usable)
    func partsAreWrittenAndReadInOrder(_ world: DriverWorld) throws {
        try with(world) { harness, folder in
            let file = try harness.openFile("\(folder)/file", O_RDWR | O_CREAT)
            let parts = Parts(["hello ", "", "wide ", "world"])
            unsafe #expect(
                try harness.perform(.file(.writeParts(file, parts.list, count: 4, offset: 10))) == 16)
            #expect(contents(ofFile: "\(folder)/file") == [UInt8](repeating: 0, count: 10) + "hello wide world".utf8)
            let memory = Parts(["123", "4567890", "ab"])
            unsafe #expect(
                try harness.perform(.file(.readParts(file, memory.list, count: 3, offset: 11))) == 12)
            #expect(memory.texts == ["ell", "o wide ", "wo"])
            unsafe #expect(
                try harness.perform(.file(.readParts(file, memory.list, count: 3, offset: 24))) == 2)
            #expect(memory.texts == ["ldl", "o wide ", "wo"])
            unsafe #expect(
                try harness.perform(.file(.readParts(file, memory.list, count: 3, offset: 26))) == 0)
            // At the current position.
            unsafe #expect(
                try harness.perform(.file(.writeParts(file, memory.list, count: 1, offset: .max))) == 3)
            unsafe #expect(
                try harness.perform(.file(.readParts(file, memory.list, count: 1, offset: .max))) == 3)
            try harness.close(file)
        }
    }

    @Test(arguments: DriverWorld.usable)
    func modeAndTimesAreSet(_ world: DriverWorld) throws {
        try with(world) { harness, folder in
            let file = try harness.openFile("\(folder)/file", O_RDWR | O_CREAT)
            unsafe #expect(try harness.perform(.file(.setMode(file, mode: 0o640))) == 0)
            var times = FileTimes(
                accessedSeconds: 1, modifiedSeconds: 1_000_000, accessedNanoseconds: 2, modifiedNanoseconds: 500)
            let answer = unsafe try withUnsafePointer(to: &times) { times in
                unsafe try harness.perform(.file(.setTimes(file, times)))
            }
            #expect(answer == 0)
            var status = stat()
            unsafe #expect(fstat(file.rawValue, &status) == 0)
            #expect(status.st_mode & 0o7777 == 0o640)
            #expect(status.st_mtim.tv_sec == 1_000_000 && status.st_mtim.tv_nsec == 500)
            #expect(status.st_atim.tv_sec == 1 && status.st_atim.tv_nsec == 2)
            try harness.close(file)
        }
    }

    // MARK: Names

    @Test(arguments: DriverWorld.usable)
    func namesAreMadeMovedAndRemoved(_ world: DriverWorld) throws {
        try with(world) { harness, folder in
            let base = try harness.openFile(folder, O_RDONLY | O_DIRECTORY)
            let at = OpenFolder(harness: harness, folder: base)
            #expect(try at.makeFolder("d") == 0)
            #expect(try at.makeFolder("d") == -EEXIST)
            #expect(try at.makeFolder("x/y") == -ENOENT)
            let flags = O_RDWR | O_CREAT | O_EXCL
            let opened = unsafe try harness.perform(.file(.open(in: base, c("a"), flags: flags, mode: 0o600)))
            let file = Descriptor(rawValue: opened)
            #expect(fcntl(opened, F_GETFD) & FD_CLOEXEC != 0)
            #expect(try at.rename("a", "d/b") == 0)
            #expect(names(in: "\(folder)/d") == ["b"])
            #expect(try at.rename("a", "c") == -ENOENT)
            #expect(try at.rename("d", "d/e") == -EINVAL)
            unsafe close(open("\(folder)/c", O_RDWR | O_CREAT | O_CLOEXEC, 0o600))
            #expect(try at.rename("d/b", "c", flags: RONDO_RENAME_NOREPLACE) == -EEXIST)
            #expect(try at.rename("d/b", "c") == 0)
            #expect(try at.rename("c", "d", flags: RONDO_RENAME_EXCHANGE) == 0)
            #expect(names(in: "\(folder)/c") == [])
            #expect(try at.rename("d", "c") == -EISDIR)
            #expect(try at.rename("c", "d") == -ENOTDIR)
            #expect(try at.remove("c", 0) == -EISDIR)
            #expect(try at.remove("d", RONDO_AT_REMOVEDIR) == -ENOTDIR)
            #expect(try at.remove("d", 0) == 0)
            #expect(try at.remove("d", 0) == -ENOENT)
            #expect(try at.remove("c", RONDO_AT_REMOVEDIR) == 0)
            #expect(names(in: folder) == [])
            try harness.close(base, file)
        }
    }

    @Test(arguments: DriverWorld.usable)
    func linksAreMadeAndRead(_ world: DriverWorld) throws {
        try with(world) { harness, folder in
            let base = try harness.openFile(folder, O_RDONLY | O_DIRECTORY)
            try harness.close(harness.openFile("\(folder)/a", O_RDWR | O_CREAT))
            unsafe #expect(try harness.perform(.file(.link(in: base, c("a"), to: base, c("b")))) == 0)
            unsafe #expect(try harness.perform(.file(.link(in: base, c("a"), to: base, c("b")))) == -EEXIST)
            unsafe #expect(try harness.perform(.file(.symbolicLink(c("no where"), in: base, c("s")))) == 0)
            unsafe #expect(try harness.perform(.file(.symbolicLink(c("no where"), in: base, c("s")))) == -EEXIST)
            #expect(linkTarget("\(folder)/s") == "no where")
            let text = UnsafeMutableRawPointer.allocate(byteCount: 100, alignment: 1)
            defer { unsafe text.deallocate() }
            unsafe #expect(try harness.perform(.file(.readLink(in: base, c("s"), text, count: 100))) == 8)
            unsafe #expect(memcmp(text, "no where", 8) == 0)
            unsafe #expect(try harness.perform(.file(.readLink(in: base, c("s"), text, count: 3))) == 3)
            unsafe #expect(try harness.perform(.file(.readLink(in: base, c("a"), text, count: 100))) == -EINVAL)
            let raw = UnsafeMutablePointer<rondo_statx>.allocate(capacity: 1)
            defer { unsafe raw.deallocate() }
            var status = rondo_file_status()
            unsafe #expect(try harness.perform(.file(.linkStatus(in: base, c("s"), raw))) == 0)
            unsafe rondo_statx_decode(raw, &status)
            #expect(status.mode & S_IFMT == S_IFLNK && status.size == 8)
            unsafe #expect(try harness.perform(.file(.linkStatus(in: base, c("b"), raw))) == 0)
            unsafe rondo_statx_decode(raw, &status)
            #expect(status.links == 2)
            try harness.close(base)
        }
    }

    @Test(arguments: DriverWorld.usable)
    func foldersAreListedInParts(_ world: DriverWorld) throws {
        try with(world) { harness, folder in
            let wanted = Set((0..<700).map { "a file with a rather long name, number \($0)" })
            for name in wanted { unsafe mkdir("\(folder)/\(name)", 0o700) }
            let base = try harness.openFile(folder, O_RDONLY | O_DIRECTORY)
            let part = FolderPart()
            var rounds = 0
            while true {
                let before = part.entries.count
                let answer = unsafe try harness.perform(.file(.listNext(base, .passUnretained(part))))
                #expect(answer == part.entries.count - before)
                if answer <= 0 { break }
                rounds += 1
            }
            #expect(rounds > 1, "a part is small")
            let found = part.entries.map { String(decoding: $0.name.dropLast().map(UInt8.init), as: UTF8.self) }
            #expect(Set(found) == wanted && found.count == wanted.count)
            #expect(part.entries.allSatisfy { $0.type == UInt8(DT_DIR) })
            let file = try harness.openFile("\(folder)/file", O_RDWR | O_CREAT)
            unsafe #expect(try harness.perform(.file(.listNext(file, .passUnretained(part)))) == -ENOTDIR)
            try harness.close(base, file)
        }
    }

    // MARK: Locks

    @Test(arguments: DriverWorld.usable)
    func locksExclude(_ world: DriverWorld) throws {
        try with(world, threads: 1) { harness, folder in
            let files = try (0..<3).map { _ in try harness.openFile("\(folder)/file", O_RDWR | O_CREAT) }
            func lock(_ index: Int, _ flags: Int32) -> Flight {
                unsafe harness.start(.file(.lock(files[index], flags)))
            }
            #expect(try harness.result(of: lock(0, LOCK_EX)) == 0)
            #expect(try harness.result(of: lock(1, LOCK_SH | LOCK_NB)) == -EWOULDBLOCK)
            let waiting = [lock(1, LOCK_SH), lock(2, LOCK_SH)]
            harness.settle()
            #expect(waiting.allSatisfy { $0.result == nil })
            // Waits hold no thread of the pool: it has but one.
            #expect(try harness.result(of: lock(0, LOCK_EX | LOCK_NB)) == 0)
            #expect(try harness.result(of: lock(0, LOCK_UN)) == 0)
            for flight in waiting { #expect(try harness.result(of: flight) == 0) }
            #expect(try harness.result(of: lock(0, LOCK_EX | LOCK_NB)) == -EWOULDBLOCK)
            // Closing gives up a lock.
            let exclusive = lock(0, LOCK_EX)
            harness.settle()
            try harness.close(files[1], files[2])
            #expect(try harness.result(of: exclusive) == 0)
            try harness.close(files[0])
        }
    }

    /// Before the thread has begun, while it waits, and when the lock has just become free.
    @Test(arguments: DriverWorld.usable)
    func waitsForLocksAreCancelled(_ world: DriverWorld) throws {
        try with(world) { harness, folder in
            let holder = try harness.openFile("\(folder)/file", O_RDWR | O_CREAT)
            let other = try harness.openFile("\(folder)/file", O_RDWR)
            var results: Set<Int32> = []
            // ThreadSanitizer holds the ending signal back if it comes just before the wait, which then goes on.
            let delaysSignals = unsafe dlsym(nil, "__tsan_init") != nil
            for round in 0..<200 {
                unsafe #expect(try harness.perform(.file(.lock(holder, LOCK_EX))) == 0)
                let waiting = unsafe harness.start(.file(.lock(other, LOCK_EX)))
                if round % 3 == 1 { harness.settle() }
                if round % 3 == 2 { #expect(flock(holder.rawValue, LOCK_UN) == 0) }
                for _ in 0..<round % 20 { harness.turn(until: 0) }
                harness.cancel(waiting)
                harness.cancel(waiting)
                if delaysSignals { #expect(flock(holder.rawValue, LOCK_UN) == 0) }
                let result = try harness.result(of: waiting)
                results.insert(result)
                if round % 3 != 2, !delaysSignals { #expect(result == -ECANCELED) }
                // Who was cancelled has no lock; the thread is through with the descriptor.
                if result == 0 { #expect(flock(other.rawValue, LOCK_UN) == 0) }
                #expect(flock(holder.rawValue, LOCK_EX | LOCK_NB) == 0, "the lock is free after \(result)")
                #expect(flock(holder.rawValue, LOCK_UN) == 0)
                harness.cancel(waiting)
            }
            #expect(results.isSubset(of: [0, -ECANCELED]))
            try harness.close(holder, other)
        }
    }

    // MARK: Refusals and cancellation

    @Test(arguments: DriverWorld.usable)
    func badDescriptorsAreRefused(_ world: DriverWorld) throws {
        try with(world) { harness, _ in
            for bad in [Descriptor(rawValue: -1), Descriptor(rawValue: 1_000_003)] {
                let parts = Parts(["x"])
                let part = FolderPart()
                let raw = UnsafeMutablePointer<rondo_statx>.allocate(capacity: 1)
                defer { unsafe raw.deallocate() }
                let times = UnsafeMutablePointer<FileTimes>.allocate(capacity: 1)
                defer { unsafe times.deallocate() }
                unsafe times.initialize(
                    to: FileTimes(
                        accessedSeconds: 1, modifiedSeconds: 1, accessedNanoseconds: 0, modifiedNanoseconds: 0))
                func refuse(_ call: FileOperation, _ location: SourceLocation = #_sourceLocation) throws {
                    let answer = unsafe try harness.perform(.file(call))
                    #expect(answer == -EBADF, sourceLocation: location)
                }
                unsafe try refuse(.truncate(bad, size: 1))
                unsafe try refuse(.allocate(bad, offset: 0, count: 1))
                unsafe try refuse(.readParts(bad, parts.list, count: 1, offset: 0))
                unsafe try refuse(.writeParts(bad, parts.list, count: 1, offset: 0))
                unsafe try refuse(.open(in: bad, c("x"), flags: O_RDONLY, mode: 0))
                unsafe try refuse(.linkStatus(in: bad, c("x"), raw))
                unsafe try refuse(.rename(in: bad, c("x"), to: bad, c("y"), flags: 0))
                unsafe try refuse(.remove(in: bad, c("x"), flags: 0))
                unsafe try refuse(.makeFolder(in: bad, c("x"), mode: 0))
                unsafe try refuse(.link(in: bad, c("x"), to: bad, c("y")))
                unsafe try refuse(.symbolicLink(c("x"), in: bad, c("y")))
                unsafe try refuse(.readLink(in: bad, c("x"), UnsafeMutableRawPointer(raw), count: 8))
                unsafe try refuse(.setMode(bad, mode: 0))
                unsafe try refuse(.setTimes(bad, times))
                unsafe try refuse(.listNext(bad, .passUnretained(part)))
                unsafe try refuse(.lock(bad, LOCK_EX))
                unsafe try refuse(.lock(bad, LOCK_UN))
                withExtendedLifetime(part) {}
            }
        }
    }

    /// Cancelled before it was handed over, while it runs or after: it has happened as a whole, or not at all.
    @Test(arguments: DriverWorld.usable)
    func cancellingMeetsOperationsAnywhere(_ world: DriverWorld) throws {
        try with(world) { harness, folder in
            let base = try harness.openFile(folder, O_RDONLY | O_DIRECTORY)
            let file = try harness.openFile("\(folder)/file", O_RDWR | O_CREAT)
            let texts = Parts(["hello", "world"])
            for round in 0..<60 {
                #expect(ftruncate(file.rawValue, 0) == 0)
                let flights = unsafe [
                    harness.start(.file(.makeFolder(in: base, c("d"), mode: 0o700))),
                    harness.start(.file(.writeParts(file, texts.list, count: 2, offset: 0))),
                    harness.start(.file(.symbolicLink(c("text"), in: base, c("s")))),
                    harness.start(.file(.link(in: base, c("file"), to: base, c("l")))),
                    harness.start(.file(.setMode(file, mode: 0o600))),
                ]
                for _ in 0..<round % 6 { harness.turn(until: 0) }
                for flight in flights { harness.cancel(flight) }
                for flight in flights {
                    #expect([0, 10, -ECANCELED].contains(try harness.result(of: flight)))
                    harness.cancel(flight)
                }
                #expect((unsafe rmdir("\(folder)/d") == 0) == (flights[0].result == 0))
                #expect(size(of: file) == (flights[1].result == 10 ? 10 : 0))
                #expect((unsafe unlink("\(folder)/s") == 0) == (flights[2].result == 0))
                #expect((unsafe unlink("\(folder)/l") == 0) == (flights[3].result == 0))
            }
            try harness.close(base, file)
            withExtendedLifetime(texts) {}
        }
    }

    /// What waits for a thread of the pool is taken back at once.
    @Test(arguments: DriverWorld.usable)
    func queuedCallsAreTakenBack(_ world: DriverWorld) throws {
        try with(world, threads: 1) { harness, folder in
            let file = try harness.openFile("\(folder)/file", O_RDWR | O_CREAT)
            let gate = TestSemaphore()
            let blocker = OffloadWork {
                gate.wait()
                return 0
            }
            let blocking = unsafe harness.start(.offload(.passUnretained(blocker)))
            let queued = unsafe [
                harness.start(.file(.setMode(file, mode: 0o777))), harness.start(.file(.lock(file, LOCK_EX | LOCK_NB))),
            ]
            for flight in queued { harness.cancel(flight) }
            for flight in queued { #expect(try harness.result(of: flight) == -ECANCELED) }
            gate.post()
            #expect(try harness.result(of: blocking) == 0)
            var status = stat()
            unsafe #expect(fstat(file.rawValue, &status) == 0 && status.st_mode & 0o111 == 0)
            try harness.close(file)
            withExtendedLifetime(blocker) {}
        }
    }

    private func size(of file: Descriptor) -> Int {
        var status = stat()
        return unsafe fstat(file.rawValue, &status) == 0 ? Int(status.st_size) : -1
    }
}

/// A C string that lives as long as the process.
private func c(_ text: StaticString) -> UnsafePointer<CChar> {
    unsafe UnsafeRawPointer(text.utf8Start).assumingMemoryBound(to: CChar.self)
}

/// Names in an open folder.
private struct OpenFolder {
    let harness: DriverHarness
    let folder: Descriptor

    func makeFolder(_ name: StaticString) throws -> Int32 {
        unsafe try harness.perform(.file(.makeFolder(in: folder, c(name), mode: 0o700)))
    }

    func remove(_ name: StaticString, _ flags: Int32) throws -> Int32 {
        unsafe try harness.perform(.file(.remove(in: folder, c(name), flags: flags)))
    }

    func rename(_ name: StaticString, _ new: StaticString, flags: UInt32 = 0) throws -> Int32 {
        unsafe try harness.perform(.file(.rename(in: folder, c(name), to: folder, c(new), flags: flags)))
    }
}

/// Pieces of memory with texts in them.
@safe
private final class Parts {
    // SAFETY: the indices are within the list, and everything is freed with it.
    let list: UnsafeMutablePointer<rondo_memory>
    private let count: Int

    init(_ texts: [String]) {
        count = texts.count
        unsafe list = .allocate(capacity: count)
        for (index, text) in texts.enumerated() {
            let start = UnsafeMutableRawPointer.allocate(byteCount: text.utf8.count + 1, alignment: 1)
            unsafe start.copyMemory(from: text, byteCount: text.utf8.count + 1)
            unsafe (list + index).initialize(to: rondo_memory(start: start, count: text.utf8.count))
        }
    }

    var texts: [String] {
        (0..<count).map { index in
            let part = unsafe UnsafeRawBufferPointer(start: list[index].start, count: list[index].count)
            return unsafe String(decoding: part, as: UTF8.self)
        }
    }

    deinit {
        for index in 0..<count { unsafe list[index].start.deallocate() }
        unsafe list.deallocate()
    }
}

extension DriverHarness {
    func openFile(_ path: String, _ flags: Int32) throws -> Descriptor {
        let answer = unsafe try path.withCString { unsafe try perform(.open($0, flags: flags, mode: 0o600)) }
        return Descriptor(rawValue: try #require(answer >= 0 ? answer : nil, "open \(path): \(answer)"))
    }
}
