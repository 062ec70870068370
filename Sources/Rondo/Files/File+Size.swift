import CRondo
import Glibc
public import SystemPackage

extension File {
    /// Writes all of `bytes` behind the file's end; the file must be open in ``OpenMode/append(permissions:)``.
    ///
    /// What one call of the kernel writes stays together, also if other programs append to the same file.
    public func append(_ bytes: [UInt8]) async throws(IOError) {
        if !appends { throw IOError("append to", path.string, .invalid("it was not opened for appending")) }
        // SAFETY: the caller's array is held until this function returns, which is after the last completion.
        let buffer = unsafe bytes.span.bytes.withUnsafeBytes { unsafe $0 }
        defer { withExtendedLifetime(bytes) {} }
        var written = 0
        while written < buffer.count {
            nonisolated(unsafe) let rest = unsafe buffer.baseAddress! + written
            let count = buffer.count - written
            written += try await run("append to") { file in
                await unsafe file.loop.perform(.write(file.descriptor, rest, count: count, offset: .max))
            }
        }
    }

    /// Cuts the file off at `size` bytes, or extends it with zeros that take no room on the disk.
    public func truncate(to size: Int64) async throws(IOError) {
        if size < 0 { throw IOError("truncate", path.string, .invalid("\(size) is no size")) }
        _ = try await run("truncate") { file in
            await unsafe file.loop.perform(.file(.truncate(file.descriptor, size: UInt64(size))))
        }
    }

    /// Takes room on the disk for `count` bytes from `offset` on, and makes the file at least so long: writing there
    /// can't fail for want of space any more.
    ///
    /// - Throws: `IOError`: `preallocate x: No space left on device`; `Operation not supported` where the file system
    ///   can't do it.
    public func preallocate(_ count: Int64, at offset: Int64 = 0) async throws(IOError) {
        let position = try checkedOffset(offset, "preallocate")
        if count < 0 { throw IOError("preallocate", path.string, .invalid("\(count) is no number of bytes")) }
        if count == 0 { return }
        _ = try await run("preallocate") { file in
            await unsafe file.loop.perform(
                .file(.allocate(file.descriptor, offset: position, count: UInt64(count))))
        }
    }

    /// Sets who may read, write and run the file.
    public func setPermissions(_ permissions: FilePermissions) async throws(IOError) {
        _ = try await run("set permissions of") { file in
            await unsafe file.loop.perform(.file(.setMode(file.descriptor, mode: UInt32(permissions.rawValue))))
        }
    }

    /// Sets when the file was modified, as time since 1970 began, and that it was accessed then.
    public func setModified(_ time: Duration) async throws(IOError) {
        // Towards the past, so that the nanoseconds are never negative.
        var (seconds, rest) = time.components
        if rest < 0 {
            seconds -= 1
            rest += 1_000_000_000_000_000_000
        }
        let nanoseconds = rest / 1_000_000_000
        let times = UnsafeMutablePointer<FileTimes>.allocate(capacity: 1)
        // SAFETY: freed when this function returns, which is after the last completion.
        unsafe times.initialize(
            to: FileTimes(
                accessedSeconds: seconds, modifiedSeconds: seconds, accessedNanoseconds: nanoseconds,
                modifiedNanoseconds: nanoseconds))
        defer { unsafe times.deallocate() }
        nonisolated(unsafe) let source = unsafe times
        _ = try await run("set times of") { file in
            await unsafe file.loop.perform(.file(.setTimes(file.descriptor, source)))
        }
    }
}

// MARK: Several pieces of memory

extension File {
    /// What one call takes (IOV_MAX).
    private static let partLimit = 1024

    /// Writes all of `parts` at `offset`, one behind the other, without putting them together first.
    public func write(_ parts: [[UInt8]], at offset: Int64 = 0) async throws(IOError) {
        let start = try checkedOffset(offset, "write")
        if appends { throw IOError("write", path.string, .invalid("it was opened for appending: use append(_:)")) }
        // SAFETY: the arrays are held until this function returns, which is after the last completion.
        defer { withExtendedLifetime(parts) {} }
        let list = MemoryList(capacity: parts.count)
        for part in parts {
            let bytes = unsafe part.span.bytes.withUnsafeBytes { unsafe $0 }
            unsafe list.append(UnsafeMutableRawPointer(mutating: bytes.baseAddress), bytes.count)
        }
        var position = start
        while let (next, count) = unsafe list.rest(limit: Self.partLimit) {
            nonisolated(unsafe) let next = unsafe next
            let at = position
            let written = try await run("write") { file in
                await unsafe file.loop.perform(
                    .file(.writeParts(file.descriptor, next, count: count, offset: at)))
            }
            list.drop(written)
            position += UInt64(written)
        }
    }

    /// Reads at `offset` into several pieces of memory, one behind the other.
    ///
    /// - Parameter parts: at most 1,024 pieces of memory that stay valid until this returns.
    /// - Returns: how many bytes were read; 0 at the end of the file.
    // SAFETY: the caller keeps the memory until this returns, which is after the last completion.
    @unsafe
    public func read(into parts: [UnsafeMutableRawBufferPointer], at offset: Int64) async throws(IOError) -> Int {
        let position = try checkedOffset(offset, "read")
        let count = unsafe parts.count
        if count > Self.partLimit {
            throw IOError("read", path.string, .invalid("\(count) pieces are more than \(Self.partLimit)"))
        }
        let list = MemoryList(capacity: count)
        for index in 0..<count { unsafe list.append(parts[index].baseAddress, parts[index].count) }
        guard let (first, left) = unsafe list.rest(limit: Self.partLimit) else { return 0 }
        nonisolated(unsafe) let start = unsafe first
        return try await run("read") { file in
            await unsafe file.loop.perform(
                .file(.readParts(file.descriptor, start, count: left, offset: position)))
        }
    }
}

/// Pieces of memory for one operation, in the kernel's words.
@safe
private final class MemoryList: @unchecked Sendable {
    // SAFETY: belongs to one function, which waits for the operations that use it before it lets it go. The indices are
    // within the capacity.
    private let pieces: UnsafeMutablePointer<rondo_memory>
    private var first = 0
    private var count = 0

    init(capacity: Int) { unsafe pieces = .allocate(capacity: max(1, capacity)) }
    deinit { unsafe pieces.deallocate() }

    func append(_ start: UnsafeMutableRawPointer?, _ size: Int) {
        if size == 0 { return }
        unsafe (pieces + count).initialize(to: rondo_memory(start: start, count: size))
        count += 1
    }

    /// What is left; nil if nothing is.
    func rest(limit: Int) -> (UnsafePointer<rondo_memory>, Int)? {
        first == count ? nil : unsafe (UnsafePointer(pieces + first), min(limit, count - first))
    }

    /// Takes bytes off the beginning.
    func drop(_ size: Int) {
        var size = size
        while first < count, unsafe size >= pieces[first].count {
            unsafe size -= pieces[first].count
            first += 1
        }
        if size > 0 {
            unsafe pieces[first].start += size
            unsafe pieces[first].count -= size
        }
    }
}
