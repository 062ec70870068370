import CRondo
import Glibc
public import SystemPackage

/// An open file.
///
/// Reads and writes name their offset, so several tasks may use a file at once. What is in memory is opened and read at
/// once; the rest goes through the ring with io_uring, and through the offload pool with epoll. Close it with
/// ``close()``; what is dropped open is closed all the same.
///
/// A task that is cancelled while it waits asks the kernel to give up, and goes on when the kernel is through with the
/// buffer; a read or write of a regular file usually completes instead.
@safe
public final class File: @unchecked Sendable {
    // SAFETY: `loop`, `path` and `descriptor` never change. The rest belongs to the loop's thread, and each method goes
    // there before it touches anything. What an operation points to is kept by the method that waits for it; the closer
    // is taken out of its property before it is resumed.

    /// How a file is to be opened.
    public struct OpenMode: Sendable {
        var flags: Int32
        var permissions: UInt32 = 0

        init(flags: Int32, permissions: UInt32 = 0) {
            self.flags = flags
            self.permissions = permissions
        }

        /// For reading only.
        public static var read: OpenMode { OpenMode(flags: O_RDONLY) }
        /// For reading and writing; made if it is not there.
        public static func update(permissions: FilePermissions = .ownerReadWrite) -> OpenMode {
            OpenMode(flags: O_RDWR | O_CREAT, permissions: UInt32(permissions.rawValue))
        }
        /// For writing, made or emptied.
        public static func replace(permissions: FilePermissions = .ownerReadWrite) -> OpenMode {
            OpenMode(flags: O_RDWR | O_CREAT | O_TRUNC, permissions: UInt32(permissions.rawValue))
        }
        /// For reading, and for writing behind its end with ``File/append(_:)``; made if it is not there.
        public static func append(permissions: FilePermissions = .ownerReadWrite) -> OpenMode {
            OpenMode(flags: O_RDWR | O_CREAT | O_APPEND, permissions: UInt32(permissions.rawValue))
        }
        /// For writing; an error if it is there already.
        public static func createNew(permissions: FilePermissions = .ownerReadWrite) -> OpenMode {
            OpenMode(flags: O_RDWR | O_CREAT | O_EXCL, permissions: UInt32(permissions.rawValue))
        }
    }

    /// The loop that does this file's work.
    public let loop: EventLoop
    /// The path that it was opened by.
    public let path: FilePath
    let descriptor: Descriptor
    /// Operations that the kernel has not finished.
    private var running = 0
    private var isClosed = false
    private var closer: UnsafeContinuation<Void, Never>?
    /// Whether writes go behind the end, wherever they are to go.
    let appends: Bool
    /// Whether a lock is held or waited for. On the loop's thread.
    var isLocked = false
    private var place = FilePlace.unknown
    /// Whether it was opened at once, for reading.
    private let wasOpenedNow: Bool

    init(
        _ descriptor: Descriptor, path: FilePath, loop: EventLoop, appends: Bool = false, wasOpenedNow: Bool = false
    ) {
        self.appends = appends
        self.wasOpenedNow = wasOpenedNow
        self.descriptor = descriptor
        self.path = path
        self.loop = loop
    }

    deinit {
        if isClosed { return }
        let (descriptor, loop) = (descriptor, loop)
        loop.detach { _ = await unsafe loop.performToTheEnd(.close(descriptor)) }
    }

    /// Opens a file.
    ///
    /// - Throws: `IOError`: `open /etc/shadow: Permission denied`.
    public static func open(_ path: FilePath, _ mode: OpenMode = .read) async throws(IOError) -> File {
        let loop = EventLoop.required(for: "File.open")
        if mode.flags == O_RDONLY, !loop.spendOperation(), let descriptor = loop.openFileNow(path) {
            return File(descriptor, path: path, loop: loop, wasOpenedNow: true)
        }
        let answer = unsafe await path.withCopy {
            await unsafe loop.perform(.open($0, flags: mode.flags, mode: mode.permissions))
        }
        if answer < 0 { throw IOError("open", path.string, IOError.cause(ofAnswer: answer)) }
        return File(
            Descriptor(rawValue: answer), path: path, loop: loop, appends: mode.flags & O_APPEND != 0)
    }

    /// Opens a file below a folder for reading. Whatever the path says, and whoever changes folders and links
    /// meanwhile, nothing outside of the folder is opened; nor does this wait for the other end of a pipe.
    ///
    /// Symbolic links are followed if they are relative and stay below the folder. Where the kernel has no `openat2`
    /// (Linux before 5.6, and some sandboxes) none are.
    ///
    /// What is not in memory is opened in the offload pool, with every driver.
    ///
    /// - Parameters:
    ///   - path: relative to `folder`.
    ///   - folder: may be relative to the working directory.
    /// - Throws: `IOError`: `open ../secret: it leads out of /srv/www, …`.
    public static func open(_ path: FilePath, beneath folder: FilePath) async throws(IOError) -> File {
        let calls = PathCalls(for: "File.open")
        if !calls.loop.spendOperation(), let descriptor = calls.loop.openFileNow(path, beneath: folder) {
            return File(descriptor, path: folder.pushing(path), loop: calls.loop, wasOpenedNow: true)
        }
        let descriptor = try await calls.openBeneath(folder, path, "open")
        return File(descriptor, path: folder.pushing(path), loop: calls.loop)
    }

    /// Reads up to `buffer.count` bytes at `offset`.
    ///
    /// - Parameter buffer: memory that stays valid until this returns.
    /// - Returns: how many bytes were read; 0 at the end of the file. Of a regular file fewer only at its end.
    // SAFETY: the caller keeps the memory until this returns, which is after the last completion.
    @unsafe
    public func read(into buffer: UnsafeMutableRawBufferPointer, at offset: Int64) async throws(IOError) -> Int {
        let position = try checkedOffset(offset, "read")
        guard let start = buffer.baseAddress else { return 0 }
        let count = buffer.count
        nonisolated(unsafe) let target = unsafe start
        return try await run("read") { file in await unsafe file.readAll(target, count, at: position) }
    }

    /// Reads what is in memory at once, and the rest by an operation, up to the end. On the loop's thread.
    private func readAll(_ target: UnsafeMutableRawPointer, _ count: Int, at position: UInt64) async -> Int32 {
        var filled = 0
        while filled < count {
            let (rest, left, offset) = unsafe (target + filled, count - filled, position + UInt64(filled))
            let now = unsafe loop.readFileNow(descriptor, rest, count: left, offset: offset, place: &place)
            guard let now else {
                let answer = await unsafe loop.perform(.read(descriptor, rest, count: left, offset: offset))
                return filled == 0 || answer == -ECANCELED ? answer : Int32(filled) + max(0, answer)
            }
            if now == 0 { break }
            filled += Int(now)
        }
        return Int32(filled)
    }

    /// Reads up to `count` bytes at `offset`; fewer at the end of the file.
    public func read(_ count: Int, at offset: Int64 = 0) async throws(IOError) -> [UInt8] {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(count, 1), alignment: 16)
        // SAFETY: freed when this function returns, which is after the last completion.
        defer { unsafe memory.deallocate() }
        var filled = 0
        while filled < count {
            let part = unsafe UnsafeMutableRawBufferPointer(rebasing: memory[filled..<count])
            let answer = try await unsafe read(into: part, at: offset + Int64(filled))
            if answer == 0 { break }
            filled += answer
        }
        return unsafe Array(memory[..<filled])
    }

    /// Writes all of `bytes` at `offset`.
    public func write(_ bytes: RawSpan, at offset: Int64) async throws(IOError) {
        let position = try checkedOffset(offset, "write")
        if appends { throw IOError("write", path.string, .invalid("it was opened for appending: use append(_:)")) }
        // SAFETY: the span is borrowed until this function returns, which is after the last completion.
        let buffer = unsafe bytes.withUnsafeBytes { unsafe $0 }
        var written = 0
        while written < buffer.count {
            nonisolated(unsafe) let rest = unsafe buffer.baseAddress! + written
            let (count, at) = (buffer.count - written, position + UInt64(written))
            written += try await run("write") { file in
                await unsafe file.loop.perform(.write(file.descriptor, rest, count: count, offset: at))
            }
        }
    }

    /// Writes all of `bytes` at `offset`.
    public func write(_ bytes: [UInt8], at offset: Int64 = 0) async throws(IOError) {
        unsafe try await write(bytes.span.bytes, at: offset)
    }

    /// Makes what was written durable (fsync).
    ///
    /// - Parameter dataOnly: leave metadata out that is not needed to read the data back (fdatasync).
    public func synchronize(dataOnly: Bool = false) async throws(IOError) {
        _ = try await run("synchronize") { file in
            await unsafe file.loop.perform(.synchronize(file.descriptor, dataOnly: dataOnly))
        }
    }

    /// Size, kind, times and the like.
    public func status() async throws(IOError) -> FileStatus {
        let raw = UnsafeMutablePointer<rondo_statx>.allocate(capacity: 1)
        // SAFETY: freed when this function returns, which is after the last completion.
        unsafe raw.initialize(to: rondo_statx())
        defer { unsafe raw.deallocate() }
        nonisolated(unsafe) let target = unsafe raw
        _ = try await run("stat") { file in
            if unsafe file.loop.fileStatusNow(file.descriptor, target, place: &file.place) { return 0 }
            return await unsafe file.loop.perform(.status(file.descriptor, nil, target))
        }
        return unsafe FileStatus(raw.pointee)
    }

    /// Closes the file, when operations that other tasks still wait for have ended. Closing twice is no mistake.
    public func close() async {
        await loop.onLoop {
            if isClosed { return }
            isClosed = true
            await unsafe park(unless: running == 0) { unsafe closer = $0 }
            // Of other places, closing may tell somebody, and wait until he has heard it.
            if wasOpenedNow, place == .disk || place == .memory, !loop.isClosed {
                return loop.driver.closeNow(descriptor)
            }
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
        }
    }

    func checkedOffset(_ offset: Int64, _ operation: String) throws(IOError) -> UInt64 {
        if offset >= 0 { return UInt64(offset) }
        throw IOError(operation, path.string, .invalid("offset \(offset) is before the file's beginning"))
    }

    /// Runs one operation on the loop's thread, with the file kept open meanwhile.
    func run(
        _ operation: String, _ body: @Sendable (File) async -> Int32
    ) async throws(IOError) -> Int {
        try await loop.onLoop { () async throws(IOError) in
            if loop.spendOperation() { await loop.yieldInTurn() }
            try beginUse(operation)
            let answer = await body(self)
            endUse()
            if answer < 0 { throw IOError(operation, path.string, IOError.cause(ofAnswer: answer)) }
            return Int(answer)
        }
    }

    /// Keeps the descriptor open until `endUse`. On the loop's thread.
    func beginUse(_ operation: String) throws(IOError) {
        if isClosed { throw IOError(operation, path.string, .closed) }
        running += 1
    }

    func endUse() {
        running -= 1
        if running == 0, let continuation = unsafe closer {
            unsafe closer = nil
            unsafe continuation.resume()
        }
    }
}

extension File {
    /// Opens a file, reads all of it, and closes it.
    ///
    /// - Parameter limit: the most bytes to accept.
    public static func contents(of path: FilePath, limit: Int = .max) async throws(IOError) -> [UInt8] {
        try await with(path, .read) { (file) async throws(IOError) in
            // A small file is read without asking for its size first: with io_uring that would take a thread.
            let first = min(limit, 64 * 1024 - 1) + 1
            var all = try await file.read(first)
            guard all.count <= limit else { throw IOError("read", path.string, .limitExceeded(limit)) }
            if all.count < first { return all }
            let expected = try await file.status().size
            guard expected <= limit else { throw IOError("read", path.string, .limitExceeded(limit)) }
            // One byte more than it says, to meet the end in the same read; files of /proc say 0.
            while true {
                let rest = max(64 * 1024, Int(expected) - all.count + 1)
                let more = try await file.read(rest, at: Int64(all.count))
                all.append(contentsOf: more)
                guard all.count <= limit else { throw IOError("read", path.string, .limitExceeded(limit)) }
                if more.count < rest { break }
            }
            return all
        }
    }

    /// Makes or empties a file, writes `bytes` into it, and closes it.
    public static func write(_ bytes: [UInt8], to path: FilePath) async throws(IOError) {
        try await with(path, .replace()) { (file) async throws(IOError) in try await file.write(bytes) }
    }

    /// Opens a file for the time of `body`.
    public static func with<Value>(
        _ path: FilePath, _ mode: OpenMode, _ body: (File) async throws(IOError) -> Value
    ) async throws(IOError) -> Value {
        let file = try await open(path, mode)
        do throws(IOError) {
            let value = try await body(file)
            await file.close()
            return value
        } catch {
            await file.close()
            throw error
        }
    }
}

extension FilePath {
    /// Hands a C string of the path to an async function, and frees it when that has returned.
    func withCopy<Value>(_ body: (UnsafePointer<CChar>) async -> Value) async -> Value {
        // SAFETY: strdup's copy is freed after the body, which waits for the last completion.
        let copy = unsafe withPlatformString { unsafe strdup($0) }
        guard let copy = unsafe copy else { crash("no memory for a path") }
        let value = await unsafe body(copy)
        unsafe free(copy)
        return value
    }
}
