// The file of a Unix socket. Binding makes it, and nobody but us removes it; but the name may be another's by then, so
// it is removed only while it is the file that we made.

import Glibc
import SystemPackage

/// The file that a socket was bound to.
struct BoundPath: Sendable {
    private let path: String
    private let file: SocketFile
    private let files: any SocketFiles

    /// The file at `path`; nil if there is none.
    init?(_ path: String, in files: any SocketFiles) {
        guard let file = try? files.file(at: path) else { return nil }
        self.path = path
        self.file = file
        self.files = files
    }

    /// Removes the file, if it is still the same.
    func remove(on loop: EventLoop) async {
        _ = await loop.runBlocking {
            removeNow()
            return 0
        }
    }

    func removeNow() {
        if let now = try? files.file(at: path), now == file { files.remove(path) }
    }

    /// Removes a socket that nobody has open any more: connecting to it is refused.
    ///
    /// - Returns: 0, or a negated errno: `EADDRINUSE` if somebody listens, or it is no socket.
    static func removeStale(_ path: String, _ kind: SocketKind, in files: any SocketFiles) -> Int32 {
        do throws(Errno) {
            guard let found = try files.file(at: path) else { return 0 }
            guard found.isSocket, let bound = BoundPath(path, in: files) else { return -EADDRINUSE }
            guard files.probe(path, kind) == -ECONNREFUSED else { return -EADDRINUSE }
            bound.removeNow()
            return 0
        } catch {
            return -error.rawValue
        }
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
