// What may be asked of files and folders beside opening, reading, writing and closing them. io_uring has operations for
// most of it; the rest, and all of it with epoll, are calls in the offload pool.

package import CRondo
import Glibc

extension Descriptor {
    /// Stands for the working directory, as the folder that a relative path starts from.
    package static let workingDirectory = Descriptor(rawValue: RONDO_AT_FDCWD)
}

/// One thing asked of the file system.
///
/// A path is relative to the folder before it, which may be ``Descriptor/workingDirectory``. As with all operations,
/// pointers stay valid until the completion.
@unsafe
package enum FileOperation {
    /// As `Operation.open`, relative to an open folder.
    case open(in: Descriptor, UnsafePointer<CChar>, flags: Int32, mode: UInt32)
    /// Opens for reading what the second path leads to below the folder that the first one names, and nothing outside
    /// of it (-EXDEV).
    case openBeneath(UnsafePointer<CChar>, UnsafePointer<CChar>)
    /// Fills in the status of what a path names; a symbolic link stands for itself.
    case linkStatus(in: Descriptor, UnsafePointer<CChar>, UnsafeMutablePointer<rondo_statx>)
    /// Cuts or extends a file.
    case truncate(Descriptor, size: UInt64)
    /// Takes the space for a range on the disk, and makes the file at least so long.
    case allocate(Descriptor, offset: UInt64, count: UInt64)
    /// Reads at `offset` into several pieces of memory, in order.
    case readParts(Descriptor, UnsafePointer<rondo_memory>, count: Int, offset: UInt64)
    /// Writes several pieces of memory at `offset`, in order.
    case writeParts(Descriptor, UnsafePointer<rondo_memory>, count: Int, offset: UInt64)
    /// Sends what is at `offset` to a stream socket that `prepareToMove` was called for, and shows it to nobody;
    /// completes with the number of bytes, which may be less than `count`: 0 where the file's size says that nothing
    /// is, EAGAIN if the socket has no room. An error may be of either end.
    case send(Descriptor, offset: UInt64, count: Int, to: Descriptor)
    /// Moves a name (`RONDO_RENAME_NOREPLACE`, `RONDO_RENAME_EXCHANGE` or 0).
    case rename(in: Descriptor, UnsafePointer<CChar>, to: Descriptor, UnsafePointer<CChar>, flags: UInt32)
    /// Removes a name of a file (flags 0), or an empty folder (`RONDO_AT_REMOVEDIR`).
    case remove(in: Descriptor, UnsafePointer<CChar>, flags: Int32)
    /// Makes a folder.
    case makeFolder(in: Descriptor, UnsafePointer<CChar>, mode: UInt32)
    /// Gives a file a second name.
    case link(in: Descriptor, UnsafePointer<CChar>, to: Descriptor, UnsafePointer<CChar>)
    /// Makes a symbolic link whose text is the first path.
    case symbolicLink(UnsafePointer<CChar>, in: Descriptor, UnsafePointer<CChar>)
    /// Reads a symbolic link's text; completes with its length, `count` if it was cut off.
    case readLink(in: Descriptor, UnsafePointer<CChar>, UnsafeMutableRawPointer, count: Int)
    /// Sets who may read, write and run a file.
    case setMode(Descriptor, mode: UInt32)
    /// Sets when a file was accessed and modified: two times since 1970, as seconds and nanoseconds.
    case setTimes(Descriptor, UnsafePointer<FileTimes>)
    /// Appends the next names of an open folder; completes with their number, 0 at the end.
    case listNext(Descriptor, Unmanaged<FolderPart>)
    /// Makes an inotify instance; completes with its descriptor.
    case openWatch
    /// Watches a folder (`inotify_add_watch`); completes with the kernel's number for it.
    case addWatch(Descriptor, UnsafePointer<CChar>, mask: UInt32)
    /// Watches a folder no more.
    case removeWatch(Descriptor, number: Int32)
    /// `flock`. With neither `LOCK_NB` nor `LOCK_UN` it waits for the lock, on a thread of its own.
    case lock(Descriptor, Int32)

    package var kind: Operation.Kind {
        // SAFETY: looks at the case only.
        switch unsafe self {
        case .open, .openBeneath: .open
        case .linkStatus: .status
        case .truncate: .truncate
        case .allocate: .allocate
        case .readParts, .send: .read
        case .writeParts: .write
        case .rename: .rename
        case .remove: .remove
        case .makeFolder: .makeFolder
        case .link, .symbolicLink: .link
        case .readLink: .readLink
        case .setMode, .setTimes: .setStatus
        case .listNext: .list
        case .openWatch, .addWatch, .removeWatch: .watch
        case .lock: .lock
        }
    }

    /// The open file or folder that it works on.
    package var descriptor: Descriptor? {
        // SAFETY: no pointer is looked at.
        switch unsafe self {
        case .truncate(let descriptor, _), .allocate(let descriptor, _, _), .readParts(let descriptor, _, _, _),
            .writeParts(let descriptor, _, _, _), .setMode(let descriptor, _), .setTimes(let descriptor, _),
            .listNext(let descriptor, _), .lock(let descriptor, _), .open(let descriptor, _, _, _),
            .linkStatus(let descriptor, _, _), .rename(let descriptor, _, _, _, _), .remove(let descriptor, _, _),
            .makeFolder(let descriptor, _, _), .link(let descriptor, _, _, _), .symbolicLink(_, let descriptor, _),
            .readLink(let descriptor, _, _, _), .addWatch(let descriptor, _, _), .removeWatch(let descriptor, _),
            .send(let descriptor, _, _, _):
            descriptor == .workingDirectory ? nil : descriptor
        case .openBeneath, .openWatch: nil
        }
    }

    /// Whether it may wait for as long as somebody else likes: no thread of the pool is held for that.
    var waitsForLock: Bool {
        // SAFETY: no pointer is looked at.
        if case .lock(_, let flags) = unsafe self { flags & (LOCK_NB | LOCK_UN) == 0 } else { false }
    }
}

extension Operation {
    /// As `FileOperation.waitsForLock`.
    var waitsForLock: Bool {
        // SAFETY: no pointer is looked at.
        if case .file(let operation) = unsafe self { unsafe operation.waitsForLock } else { false }
    }
}

/// Two times since 1970.
package struct FileTimes: Sendable {
    package var accessedSeconds: Int64
    package var modifiedSeconds: Int64
    package var accessedNanoseconds: Int64
    package var modifiedNanoseconds: Int64
}

/// What `listNext` appends to: names as the kernel has them, which need not be Unicode.
package final class FolderPart: @unchecked Sendable {
    // SAFETY: written by whoever carries the operation out, read by the waiting task after its completion; the
    // completion orders the two.

    /// Names with their final zero, without `.` and `..`, in no particular order; and what they name (`DT_REG`…).
    package var entries: [(name: [CChar], type: UInt8)] = []
    package init() {}

    /// How much the kernel may write at once.
    private static let size = 32 * 1024

    /// Appends the next entries of an open folder; a blocking call.
    ///
    /// - Returns: how many it has appended, or a negated errno.
    func readNext(of folder: Descriptor) -> Int32 {
        let memory = UnsafeMutableRawPointer.allocate(byteCount: Self.size, alignment: 8)
        // SAFETY: the kernel fills `memory` with whole records, whose length is in each; freed at the end.
        defer { unsafe memory.deallocate() }
        let before = entries.count
        while entries.count == before {
            let filled = unsafe rondo_read_folder(folder.rawValue, memory, Self.size)
            if filled <= 0 { return filled }
            var offset = 0
            while offset < Int(filled) {
                let record = unsafe memory + offset
                unsafe append(record.load(fromByteOffset: 18, as: UInt8.self), record + 19)
                offset += unsafe Int(record.load(fromByteOffset: 16, as: UInt16.self))
            }
        }
        return Int32(entries.count - before)
    }

    private func append(_ type: UInt8, _ name: UnsafeRawPointer) {
        // SAFETY: a name in a record ends with a zero.
        let text = unsafe name.assumingMemoryBound(to: CChar.self)
        let length = unsafe strlen(text)
        let isDot = unsafe text[0] == 46 && (length == 1 || (length == 2 && text[1] == 46))
        if !isDot { unsafe entries.append((Array(UnsafeBufferPointer(start: text, count: length + 1)), type)) }
    }
}

extension FileOperation {
    /// Carries the operation out, here and now; for the offload pool.
    ///
    /// - Returns: what a driver completes it with.
    func performBlocking() -> Int32 {
        // SAFETY: pointers in an operation live until its completion, which comes after this call.
        switch unsafe self {
        case .open(let folder, let path, let flags, let mode):
            return unsafe rondo_openat(folder.rawValue, path, flags | O_CLOEXEC, mode)
        case .openBeneath(let folder, let path): return unsafe rondo_open_beneath(folder, path, 0)
        case .linkStatus(let folder, let path, let status):
            return unsafe rondo_statx_call(folder.rawValue, path, RONDO_AT_SYMLINK_NOFOLLOW, status)
        case .truncate(let file, let size): return rondo_truncate(file.rawValue, size)
        case .allocate(let file, let offset, let count): return rondo_allocate(file.rawValue, offset, count)
        case .readParts(let file, let parts, let count, let offset):
            return unsafe rondo_read_parts(file.rawValue, parts, count, offset)
        case .writeParts(let file, let parts, let count, let offset):
            return unsafe rondo_write_parts(file.rawValue, parts, count, offset)
        case .send(let file, let offset, let count, let socket):
            let count = unsafe min(count, Operation.transferLimit)
            return rondo_send_file(file.rawValue, offset, count, socket.rawValue)
        case .rename(let folder, let path, let newFolder, let newPath, let flags):
            return unsafe rondo_rename(folder.rawValue, path, newFolder.rawValue, newPath, flags)
        case .remove(let folder, let path, let flags): return unsafe rondo_unlink(folder.rawValue, path, flags)
        case .makeFolder(let folder, let path, let mode): return unsafe rondo_make_folder(folder.rawValue, path, mode)
        case .link(let folder, let path, let newFolder, let newPath):
            return unsafe rondo_link(folder.rawValue, path, newFolder.rawValue, newPath)
        case .symbolicLink(let text, let folder, let path):
            return unsafe rondo_symbolic_link(text, folder.rawValue, path)
        case .readLink(let folder, let path, let memory, let count):
            return unsafe rondo_read_link(folder.rawValue, path, memory, count)
        case .setMode(let file, let mode): return rondo_set_mode(file.rawValue, mode)
        case .setTimes(let file, let times): return unsafe times.pointee.set(on: file)
        case .listNext(let folder, let part):
            return unsafe part._withUnsafeGuaranteedRef { $0.readNext(of: folder) }
        case .openWatch: return rondo_open_watch()
        case .addWatch(let watch, let path, let mask): return unsafe rondo_add_watch(watch.rawValue, path, mask)
        case .removeWatch(let watch, let number): return rondo_remove_watch(watch.rawValue, number)
        case .lock(let file, let flags):
            require(unsafe !waitsForLock, "a wait for a lock in the offload pool")
            return rondo_lock_now(file.rawValue, flags)
        }
    }
}

extension FileTimes {
    fileprivate func set(on file: Descriptor) -> Int32 {
        // SAFETY: both arrays have the two elements that the call reads.
        unsafe rondo_set_times(
            file.rawValue, [accessedSeconds, modifiedSeconds], [accessedNanoseconds, modifiedNanoseconds])
    }
}
