// What needs no waiting is done at once, in the running job: a file whose name and bytes are in memory is opened and
// read without an operation (docs/decisions/0034). Whatever stands in the way, the operation tells.

import CRondo
import Glibc
import SystemPackage

extension EventLoop {
    /// Whether a file may be used at once. What is refused or cancelled is so by the operation.
    private var mayUseFilesNow: Bool { !isShuttingDown && !Task.isCancelled }

    /// Opens a file for reading; nil if that is to be an operation.
    func openFileNow(_ path: FilePath, beneath folder: FilePath? = nil) -> Descriptor? {
        guard mayUseFilesNow else { return nil }
        // SAFETY: the strings live as long as the call, which keeps nothing.
        let answer = unsafe path.withPlatformString { path in
            guard let folder else { return unsafe driver.openFileNow(path, beneath: nil) }
            return unsafe folder.withPlatformString { unsafe driver.openFileNow(path, beneath: $0) }
        }
        return answer < 0 ? nil : Descriptor(rawValue: answer)
    }

    /// Reads from a file what is in memory; nil if that is to be an operation.
    func readFileNow(
        _ file: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, offset: UInt64, place: inout FilePlace
    ) -> Int32? {
        guard place != .elsewhere, count <= Self.fileBytesNow, mayUseFilesNow else { return nil }
        // SAFETY: the caller's memory is valid during the call.
        let answer = unsafe driver.readFileNow(file, bytes, count: count, offset: offset, place: &place)
        if answer < 0 { return nil }
        // The caller has booked one operation. That many bytes take about as long as one.
        _ = spendOperation(Int(answer) / (16 * 1024))
        return answer
    }

    /// Fills in the status of an open file; false if that is to be an operation.
    func fileStatusNow(
        _ file: Descriptor, _ status: UnsafeMutablePointer<rondo_statx>, place: inout FilePlace
    ) -> Bool {
        guard place != .elsewhere, mayUseFilesNow else { return false }
        // SAFETY: the caller's memory is valid during the call.
        return unsafe driver.fileStatusNow(file, status, place: &place) >= 0
    }

    /// The most that is read at once: other tasks wait while it is copied.
    private static let fileBytesNow = 256 * 1024
}
