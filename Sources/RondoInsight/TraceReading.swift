// Where trace files come from: the user's folder of them, or a path; at once, or for a while from a process that lives.

import CRondo
import Glibc
import Rondo
import SystemPackage

/// A trace file in the user's folder.
package struct TraceListing: Sendable {
    package var path: String
    package var trace: TraceFile
    /// Bytes of the file.
    package var size: Int
}

/// Reads trace files.
package enum TraceReading {
    /// The most that is read of a file.
    private static let sizeLimit: UInt64 = 4 << 30

    /// The trace of a file.
    package static func file(at path: String) throws(TraceError) -> TraceFile {
        do throws(TraceError) {
            return try TraceFile(bytes(of: path))
        } catch {
            throw TraceError("\(path): \(error.description)")
        }
    }

    /// All traces in the user's folder, those of living processes first.
    package static func all() throws(TraceError) -> [TraceListing] {
        let folder = TraceFolder.path
        guard let directory = unsafe opendir(folder) else {
            if errno == ENOENT { return [] }
            throw TraceError("\(folder): \(Errno(rawValue: errno))")
        }
        defer { unsafe closedir(directory) }
        var listings: [TraceListing] = []
        while let entry = unsafe readdir(directory) {
            // SAFETY: an entry is valid until the next readdir, and its name ends with a zero.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            guard TraceFolder.process(of: name) != nil, let bytes = try? bytes(of: "\(folder)/\(name)"),
                let trace = try? TraceFile(bytes)
            else { continue }
            listings.append(TraceListing(path: "\(folder)/\(name)", trace: trace, size: bytes.count))
        }
        return listings.sorted {
            ($0.trace.isAlive ? 1 : 0, $0.trace.startRealtime) > ($1.trace.isAlive ? 1 : 0, $1.trace.startRealtime)
        }
    }

    /// Where the trace of a process is.
    package static func path(ofProcess process: Int32) -> String {
        "\(TraceFolder.path)/\(process)\(TraceFolder.suffix)"
    }

    /// What a process that lives does from now on, for a while.
    ///
    /// The file is looked at again and again, so that a ring which is written faster than that time still tells all.
    ///
    /// - Parameter pause: waits a little; answers false when it has been enough.
    package static func following(path: String, while pause: () -> Bool) throws(TraceError) -> TraceFile {
        var collected = TraceCollector()
        do throws(TraceError) {
            try collected.begin(bytes(of: path))
            while pause() { try collected.add(bytes(of: path)) }
            return try collected.end(bytes(of: path))
        } catch {
            throw TraceError("\(path): \(error.description)")
        }
    }

    private static func bytes(of path: String) throws(TraceError) -> [UInt8] {
        var size: UInt64 = 0
        let file = unsafe rondo_trace_file_open(AT_FDCWD, path, &size)
        if file == -EINVAL { throw TraceError("this is no plain file") }
        if file < 0 { throw TraceError("\(Errno(rawValue: -file))") }
        defer { Glibc.close(file) }
        guard size <= sizeLimit else { throw TraceError("\(size) bytes are more than any trace that Rondo writes") }
        let count = Int(size)
        // SAFETY: reads into the new array's memory, and no more than there is.
        return unsafe [UInt8](unsafeUninitializedCapacity: count) { memory, filled in
            while filled < count {
                let answer = unsafe pread(file, memory.baseAddress! + filled, count - filled, off_t(filled))
                if answer < 0, errno == EINTR { continue }
                if answer <= 0 { return }
                filled += answer
            }
        }
    }
}

/// Puts together what was read of a file again and again while it was written.
private struct TraceCollector {
    private struct Loop {
        /// Events that were recorded before the first look, and until the last one.
        let start: UInt64
        var seen: UInt64
        var events: [rondo_event] = []
        var tasks: [UInt64: rondo_task_entry] = [:]
    }
    private var loops: [Int: Loop] = [:]
    private static let eventLimit = 1 << 25

    /// What is there already is not wanted, but for the tasks.
    mutating func begin(_ bytes: [UInt8]) throws(TraceError) {
        for (number, ring) in try TraceParts(bytes).rings(in: bytes).enumerated() {
            loops[number] = Loop(start: ring.header.recorded, seen: ring.header.recorded)
        }
    }

    mutating func add(_ bytes: [UInt8]) throws(TraceError) {
        for (number, ring) in try TraceParts(bytes).rings(in: bytes).enumerated() {
            var loop = loops[number] ?? Loop(start: 0, seen: 0)
            for task in ring.tasks { loop.tasks[UInt64(task.task) << 32 | task.time & 0xffff_ffff] = task }
            let new = ring.header.recorded - min(loop.seen, ring.header.recorded)
            loop.events += ring.events.suffix(Int(min(new, UInt64(ring.events.count))))
            if loop.events.count > Self.eventLimit { loop.events.removeFirst(loop.events.count - Self.eventLimit) }
            loop.seen = ring.header.recorded
            loops[number] = loop
        }
    }

    mutating func end(_ bytes: [UInt8]) throws(TraceError) -> TraceFile {
        try add(bytes)
        let parts = try TraceParts(bytes)
        let rings = parts.rings(in: bytes).enumerated().map { number, ring in
            var ring = ring
            guard let loop = loops[number] else { return ring }
            ring.header.recorded = max(UInt64(loop.events.count), loop.seen &- loop.start)
            ring.events = loop.events
            ring.tasks = loop.tasks.values.sorted { $0.time < $1.time }
            return ring
        }
        return TraceFile(parts, rings: rings)
    }
}
