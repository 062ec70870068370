// Operations on files in the words of io_uring. The kernel carries out most of them on worker threads of its own, as
// they may wait for a disk (man io_uring_enter).

import CRondo
import Glibc

extension FileOperation {
    /// Whether io_uring has an operation for it; the rest is for the offload pool.
    ///
    /// - Parameter truncates: whether the kernel has the one that came last (Linux 6.9).
    func isInRing(truncates: Bool) -> Bool {
        // SAFETY: looks at the case only.
        switch unsafe self {
        case .open, .linkStatus, .allocate, .readParts, .writeParts, .rename, .remove, .makeFolder, .link,
            .symbolicLink:
            true
        case .truncate: truncates
        case .openBeneath, .readLink, .setMode, .setTimes, .listNext, .lock, .openWatch, .addWatch, .removeWatch,
            .send:
            false
        }
    }

    /// Writes an operation that is in the ring into a submission.
    func encode(into entry: inout rondo_sqe) {
        // SAFETY: pointers become addresses; who owns what they point to is said at `Operation`.
        switch unsafe self {
        case .open(let folder, let path, let flags, let mode):
            unsafe entry.begin(RONDO_OP_OPENAT, folder, path)
            entry.op_flags = UInt32(bitPattern: flags | O_CLOEXEC)
            entry.len = mode
        case .linkStatus(let folder, let path, let status):
            unsafe entry.begin(RONDO_OP_STATX, folder, path)
            entry.op_flags = UInt32(RONDO_AT_SYMLINK_NOFOLLOW)
            entry.len = RONDO_STATX_BASIC_STATS
            entry.off = UInt64(UInt(bitPattern: status))
        case .truncate(let file, let size):
            entry.opcode = RONDO_OP_FTRUNCATE
            entry.fd = file.rawValue
            entry.off = size
        case .allocate(let file, let offset, let count):
            entry.opcode = RONDO_OP_FALLOCATE
            entry.fd = file.rawValue
            entry.off = offset
            entry.addr = count
        case .readParts(let file, let parts, let count, let offset):
            unsafe entry.begin(RONDO_OP_READV, file, UnsafeRawPointer(parts))
            entry.len = UInt32(clamping: count)
            entry.off = offset
        case .writeParts(let file, let parts, let count, let offset):
            unsafe entry.begin(RONDO_OP_WRITEV, file, UnsafeRawPointer(parts))
            entry.len = UInt32(clamping: count)
            entry.off = offset
        case .rename(let folder, let path, let newFolder, let newPath, let flags):
            unsafe entry.begin(RONDO_OP_RENAMEAT, folder, path)
            unsafe entry.add(newFolder, newPath)
            entry.op_flags = flags
        case .remove(let folder, let path, let flags):
            unsafe entry.begin(RONDO_OP_UNLINKAT, folder, path)
            entry.op_flags = UInt32(bitPattern: flags)
        case .makeFolder(let folder, let path, let mode):
            unsafe entry.begin(RONDO_OP_MKDIRAT, folder, path)
            entry.len = mode
        case .link(let folder, let path, let newFolder, let newPath):
            unsafe entry.begin(RONDO_OP_LINKAT, folder, path)
            unsafe entry.add(newFolder, newPath)
        case .symbolicLink(let text, let folder, let path):
            unsafe entry.begin(RONDO_OP_SYMLINKAT, folder, text)
            entry.off = UInt64(UInt(bitPattern: path))
        case .openBeneath, .readLink, .setMode, .setTimes, .listNext, .lock, .openWatch, .addWatch, .removeWatch,
            .send:
            crash("\(unsafe kind) has no submission")
        }
    }
}

extension rondo_sqe {
    fileprivate mutating func begin(_ opcode: UInt8, _ descriptor: Descriptor, _ address: UnsafeRawPointer) {
        self.opcode = opcode
        fd = descriptor.rawValue
        addr = UInt64(UInt(bitPattern: address))
    }

    /// The second folder and path.
    fileprivate mutating func add(_ folder: Descriptor, _ path: UnsafePointer<CChar>) {
        len = UInt32(bitPattern: folder.rawValue)
        off = UInt64(UInt(bitPattern: path))
    }
}
