// Where the inspectors of a user's programs listen: a folder that nobody else can enter, a socket for each process.

import CRondo
import Glibc
import Rondo

package enum InspectorPlace {
    /// The flight recorder's too.
    package static var folder: String { TraceFolder.path }

    /// The socket of a process.
    package static func socket(of processID: Int32) -> String { "\(folder)/\(processID).sock" }

    /// Whether the folder is there and the user's own: in `/tmp` somebody else may have been first, and could listen.
    package static var isOwn: Bool {
        var status = stat()
        // SAFETY: the path and the status live across the call.
        return unsafe lstat(folder, &status) == 0 && status.st_mode & S_IFMT == S_IFDIR
            && status.st_uid == geteuid() && status.st_mode & 0o077 == 0
    }

    /// Makes the folder, or makes sure that it is the user's own.
    static func prepareFolder() throws(IOError) {
        let path = folder
        // SAFETY: the path lives across the calls.
        if unsafe mkdir(path, 0o700) < 0, errno != EEXIST {
            throw IOError("make folder", path, .system(.init(rawValue: errno)))
        }
        guard isOwn else {
            throw IOError("use", path, .invalid("it is not a folder that only its owner may use: remove it"))
        }
    }

    /// The processes that can be asked, by their ids. Sockets that a process has left behind are removed.
    package static func processes() -> [Int32] {
        guard isOwn, let folder = unsafe opendir(folder) else { return [] }
        defer { unsafe closedir(folder) }
        var processes: [Int32] = []
        while let entry = unsafe readdir(folder) {
            // SAFETY: a name ends with a zero, within the entry.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { name in
                unsafe name.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
            }
            guard name.hasSuffix(".sock"), let process = Int32(name.dropLast(5)) else { continue }
            if kill(process, 0) == 0 || errno == EPERM {
                processes.append(process)
            } else {
                unsafe unlink(socket(of: process))
            }
        }
        return processes.sorted()
    }
}
