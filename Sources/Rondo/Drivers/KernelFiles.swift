// Files that are in the kernel's memory, opened and read by the loop's own call (docs/decisions/0034); shared by the
// two real drivers.

import CRondo
import Glibc

/// Whether the kernel tells what is in memory, and can be believed. Linux 5.9 and 5.10 answer a read of what is not
/// there as if it were the end of the file (man 2 preadv2); they do not know yet how to open only what is in memory.
private let isCacheTold: Bool = {
    // SAFETY: reads the string.
    let root = unsafe rondo_open_cached(nil, "/")
    if root >= 0 { close(root) }
    return root >= 0
}()

extension KernelDriver {
    // SAFETY: the calls read their C strings, or fill in the caller's memory, and keep nothing.

    package func openFileNow(_ path: UnsafePointer<CChar>, beneath folder: UnsafePointer<CChar>?) -> Int32 {
        isCacheTold ? unsafe rondo_open_cached(folder, path) : -EAGAIN
    }

    package func readFileNow(
        _ file: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, offset: UInt64, place: inout FilePlace
    ) -> Int32 {
        if place == .unknown, !isCacheTold { place = .elsewhere }
        if place == .unknown || place == .disk {
            let answer = unsafe rondo_read_cached(file.rawValue, bytes, count, offset)
            if answer >= 0 { place = .disk }
            if answer != -EOPNOTSUPP { return answer }
            place = rondo_is_memory_file(file.rawValue) != 0 ? .memory : .elsewhere
        }
        if place == .elsewhere { return -EOPNOTSUPP }
        return unsafe Operation.read(file, bytes, count: count, offset: offset).performBlocking()
    }

    /// A regular file whose bytes the kernel can look for without waiting has its status in memory as long as it is
    /// open. Which files these are, a read far behind the end tells, which touches nothing.
    package func fileStatusNow(
        _ file: Descriptor, _ status: UnsafeMutablePointer<rondo_statx>, place: inout FilePlace
    ) -> Int32 {
        let answer = unsafe rondo_status_here(file.rawValue, status)
        if answer < 0 { return answer }
        var byte: UInt8 = 0
        return min(0, unsafe readFileNow(file, &byte, count: 1, offset: 1 << 62, place: &place))
    }
}
