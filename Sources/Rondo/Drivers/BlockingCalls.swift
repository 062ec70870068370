// File operations as blocking calls, for a driver whose kernel interface has no others. They run on the offload pool.

import CRondo
import Glibc
import SystemPackage

extension Operation {
    /// Carries a file operation out, here and now.
    ///
    /// - Returns: what a driver completes the operation with: a value that is not negative, or a negated errno.
    func performBlocking() -> Int32 {
        // SAFETY: pointers in an operation live until its completion, which comes after this call.
        switch unsafe self {
        case .open(let path, let flags, let mode):
            return unsafe Self.answer { unsafe Glibc.open(path, flags | O_CLOEXEC, mode) }
        case .read(let descriptor, let bytes, let count, let offset):
            let count = unsafe min(count, Self.transferLimit)
            return unsafe Self.answer {
                offset == .max
                    ? unsafe Glibc.read(descriptor.rawValue, bytes, count)
                    : unsafe pread(descriptor.rawValue, bytes, count, off_t(truncatingIfNeeded: offset))
            }
        case .write(let descriptor, let bytes, let count, let offset):
            let count = unsafe min(count, Self.transferLimit)
            return unsafe Self.answer {
                offset == .max
                    ? unsafe Glibc.write(descriptor.rawValue, bytes, count)
                    : unsafe pwrite(descriptor.rawValue, bytes, count, off_t(truncatingIfNeeded: offset))
            }
        case .synchronize(let descriptor, let dataOnly):
            return unsafe Self.answer { dataOnly ? fdatasync(descriptor.rawValue) : fsync(descriptor.rawValue) }
        case .status(let descriptor, let path, let status):
            let directory = descriptor?.rawValue ?? AT_FDCWD
            guard let path = unsafe path else {
                return unsafe rondo_statx_call(directory, "", Int32(RONDO_AT_EMPTY_PATH), status)
            }
            return unsafe rondo_statx_call(directory, path, 0, status)
        case .list(let path, let listing):
            return unsafe listing._withUnsafeGuaranteedRef { unsafe $0.readAll(path) }
        case .file(let operation):
            return unsafe operation.performBlocking()
        case .nothing, .accept, .connect, .connectNamed, .receive, .send, .receiveMessage, .sendMessage, .shutdown,
            .poll, .close, .offload:
            crash("\(unsafe kind) is no file operation")
        }
    }

    /// The most that Linux moves in one call (MAX_RW_COUNT); a greater count is cut down to it by the kernel too.
    static let transferLimit = 0x7fff_f000

    private static func answer<Value: FixedWidthInteger & SignedInteger>(_ call: () -> Value) -> Int32 {
        do throws(Errno) {
            return Int32(try systemCall(call))
        } catch {
            return -error.rawValue
        }
    }
}
