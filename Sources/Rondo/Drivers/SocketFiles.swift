// The files of Unix sockets. A bind makes one, and it stays when the socket is closed: so a program looks at it, and
// removes it. These are plain calls and no operations, as a bind is no operation either.

import Glibc
package import SystemPackage

/// What a driver's world has where Unix sockets are bound. Each call may block for as long as a file system takes.
package protocol SocketFiles: Sendable {
    /// What stands at a path; nil if nothing does. A symbolic link stands for itself.
    func file(at path: String) throws(Errno) -> SocketFile?
    /// Sets who may connect to the socket at a path.
    func setMode(_ mode: UInt32, at path: String) throws(Errno)
    /// Removes a file.
    func remove(_ path: String)
    /// Tries to connect to the socket at a path.
    ///
    /// - Returns: 0, or a negated errno: `ECONNREFUSED` if nobody has it open.
    func probe(_ path: String, _ kind: SocketKind) -> Int32
}

/// A file, and whether it is a socket's.
package struct SocketFile: Hashable, Sendable {
    package var device: UInt64
    package var inode: UInt64
    package var isSocket: Bool

    package init(device: UInt64, inode: UInt64, isSocket: Bool) {
        self.device = device
        self.inode = inode
        self.isSocket = isSocket
    }
}

/// The kernel's.
struct KernelSocketFiles: SocketFiles {
    func file(at path: String) throws(Errno) -> SocketFile? {
        var status = stat()
        // SAFETY: the status and the path outlive the call; so below.
        if unsafe lstat(path, &status) == 0 {
            return SocketFile(
                device: UInt64(status.st_dev), inode: UInt64(status.st_ino),
                isSocket: status.st_mode & S_IFMT == S_IFSOCK)
        }
        if errno == ENOENT { return nil }
        throw Errno(rawValue: errno)
    }

    func setMode(_ mode: UInt32, at path: String) throws(Errno) {
        // SAFETY: as above.
        try systemCall { unsafe chmod(path, mode) }
    }

    func remove(_ path: String) {
        // SAFETY: as above.
        _ = unsafe unlink(path)
    }

    func probe(_ path: String, _ kind: SocketKind) -> Int32 {
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let probe = socket(kind.domain, kind.type | flags, 0)
        if probe < 0 { return -errno }
        defer { close(probe) }
        // SAFETY: the name outlives the call.
        let answer = unsafe UnixAddress.path(FilePath(path)).socketName.withSockaddr { unsafe connect(probe, $0, $1) }
        return answer < 0 ? -errno : 0
    }
}
