// The file of a Unix socket. Binding makes it, and nobody but us removes it; but the name may be another's by then, so
// it is removed only while it is the file that we made.

import Glibc
import SystemPackage

/// The file that a socket was bound to.
struct BoundPath: Sendable {
    private let path: String
    private let device: UInt64
    private let inode: UInt64

    /// The file at `path`; nil if there is none.
    init?(_ path: String) {
        var status = stat()
        // SAFETY: the status outlives the call.
        guard unsafe lstat(path, &status) == 0 else { return nil }
        self.path = path
        device = UInt64(status.st_dev)
        inode = UInt64(status.st_ino)
    }

    /// Removes the file, if it is still the same.
    func remove(on loop: EventLoop) async {
        _ = await loop.runBlocking {
            removeNow()
            return 0
        }
    }

    func removeNow() {
        if let now = BoundPath(path), now.device == device, now.inode == inode { unsafe unlink(path) }
    }

    /// Removes a socket that nobody has open any more: connecting to it is refused.
    ///
    /// - Returns: 0, or a negated errno: `EADDRINUSE` if somebody listens, or it is no socket.
    static func removeStale(_ path: String, _ kind: SocketKind) -> Int32 {
        var status = stat()
        // SAFETY: the status outlives the call.
        guard unsafe lstat(path, &status) == 0 else { return errno == ENOENT ? 0 : -errno }
        guard status.st_mode & S_IFMT == S_IFSOCK, let found = BoundPath(path) else { return -EADDRINUSE }
        let flags = Int32(SOCK_CLOEXEC.rawValue) | Int32(SOCK_NONBLOCK.rawValue)
        let probe = socket(kind.domain, kind.type | flags, 0)
        if probe < 0 { return -errno }
        defer { Glibc.close(probe) }
        // SAFETY: the name outlives the call.
        let answer = unsafe UnixAddress.path(FilePath(path)).socketName.withSockaddr { unsafe connect(probe, $0, $1) }
        guard answer < 0, errno == ECONNREFUSED else { return -EADDRINUSE }
        found.removeNow()
        return 0
    }
}

extension EventLoop {
    /// Runs a blocking call in the offload pool, to its end. On the loop's thread; if the loop is closed, it runs here.
    func runBlocking(_ call: sending @escaping () -> Int32) async -> Int32 {
        if isClosed { return call() }
        let work = OffloadWork(call)
        // SAFETY: the work is kept until the completion.
        let answer = await unsafe performToTheEnd(.offload(.passUnretained(work)))
        return withExtendedLifetime(work) { answer }
    }
}

/// How long to wait before trying again what the kernel does not tell the time for.
struct RetryPause {
    private var microseconds = 50

    /// - Returns: false if the task was cancelled.
    mutating func wait() async -> Bool {
        microseconds = min(microseconds * 2, 50_000)
        do {
            try await Task.sleep(for: .microseconds(microseconds))
            return true
        } catch {
            return false
        }
    }
}
