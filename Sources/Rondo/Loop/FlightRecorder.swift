// Where trace files are, and how one is made. Nothing here may hurt the program: what can't be made is left out, and
// the reason said in one line for debugging.

import CRondo
import Glibc
import Synchronization
import SystemPackage

/// Whether the events of a loop are recorded, for `rondo trace`.
public enum RecorderSetting: Sendable {
    /// Yes in a whole program (``RondoProgram``), unless the environment says `RONDO_INSPECT=off`; not elsewhere.
    case automatic
    /// No.
    case off
    /// Yes.
    case on
}

/// The trace files of this user.
package enum TraceFolder {
    /// `$XDG_RUNTIME_DIR/rondo`, or `/tmp/rondo-` and the user's number.
    package static var path: String {
        if let folder = environmentValue("XDG_RUNTIME_DIR"), folder.hasPrefix("/") { return "\(folder)/rondo" }
        return "/tmp/rondo-\(geteuid())"
    }

    /// The end of a trace file's name, which begins with the process's number.
    package static let suffix = ".trace"

    /// How many files of dead processes are kept.
    static let kept = 8

    /// The process that a file's name tells of, and the number of the file among that process's.
    package static func process(of name: String) -> Int32? {
        guard name.hasSuffix(suffix) else { return nil }
        let number = name.dropLast(suffix.count).prefix { $0 != "-" }
        guard let process = Int32(number), process > 0 else { return nil }
        return process
    }
}

/// Makes trace files.
enum FlightRecorder {
    /// How many this process has made.
    private static let made = Atomic<Int>(0)
    /// The most that all loops of a process take.
    private static let bytesInAll = 64 << 20

    /// Memory for the events of some loops, in a file; nil if there is to be none, or can be none.
    static func memory(for configuration: LoopConfiguration, loops: Int, isProgram: Bool) -> EventMemory? {
        switch configuration.recorder {
        case .off: return nil
        case .on: break
        case .automatic: if !isProgram || environmentValue("RONDO_INSPECT") == "off" { return nil }
        }
        let wanted = min(max(configuration.recorderMegabytes, 1), 1024) << 20
        let layout = EventMemoryLayout(loops: loops, bytesPerLoop: min(wanted, max(bytesInAll, wanted) / loops))
        do throws(IOError) {
            return try make(layout)
        } catch {
            configuration.logger.debug("no flight recorder: \(error)")
            return nil
        }
    }

    private static func make(_ layout: EventMemoryLayout) throws(IOError) -> EventMemory {
        let path = TraceFolder.path
        // SAFETY: the calls below read their C strings and nothing else.
        let folder = unsafe rondo_trace_folder_open(path, 1)
        if folder == -EPERM {
            throw IOError("open", path, .invalid("it must be a folder that belongs to the user alone (mode 0700)"))
        }
        if folder < 0 { throw IOError("open", path, .system(Errno(rawValue: -folder))) }
        defer { Glibc.close(folder) }
        removeOld(in: folder)
        let number = made.add(1, ordering: .relaxed).oldValue
        let name = "\(getpid())\(number == 0 ? "" : "-\(number)")\(TraceFolder.suffix)"
        let file = unsafe rondo_trace_file_create(folder, name, UInt64(layout.size))
        if file < 0 { throw IOError("make", "\(path)/\(name)", .system(Errno(rawValue: -file))) }
        defer { Glibc.close(file) }
        do throws(Errno) {
            return try EventMemory(layout, file: file)
        } catch {
            _ = unsafe unlinkat(folder, name, 0)
            throw IOError("map", "\(path)/\(name)", .system(error))
        }
    }

    /// Removes the files of dead processes, but for the latest.
    private static func removeOld(in folder: Int32) {
        let copy = fcntl(folder, F_DUPFD_CLOEXEC, 0)
        guard copy >= 0 else { return }
        guard let directory = unsafe fdopendir(copy) else {
            Glibc.close(copy)
            return
        }
        defer { unsafe closedir(directory) }
        var dead: [(name: String, modified: Int)] = []
        while dead.count < 4096, let entry = unsafe readdir(directory) {
            // SAFETY: an entry is valid until the next readdir, and its name ends with a zero.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            guard let process = TraceFolder.process(of: name), kill(process, 0) != 0, errno == ESRCH else { continue }
            var status = stat()
            guard unsafe fstatat(folder, name, &status, AT_SYMLINK_NOFOLLOW) == 0 else { continue }
            dead.append((name, status.st_mtim.tv_sec))
        }
        dead.sort { $0.modified > $1.modified }
        for file in dead.dropFirst(TraceFolder.kept) { _ = unsafe unlinkat(folder, file.name, 0) }
    }
}
