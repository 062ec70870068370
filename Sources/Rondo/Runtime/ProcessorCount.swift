// How many processors a process may use: as many as it may run on, and no more than its cgroup has time for.

import CRondo
import Glibc

/// What the process may use of the machine's processors.
public enum Processors {
    /// Processors worth a loop each: those that the process may run on (`taskset`, cpusets), or less if its cgroup (or
    /// one above it) has less time in `cpu.max`. At least 1.
    public static var available: Int {
        let mayRunOn = Int(rondo_processor_count())
        guard let limit = cgroupLimit else { return max(1, mayRunOn) }
        return max(1, min(mayRunOn, Int(limit.rounded(.up))))
    }

    /// The least of the limits in `cpu.max` of our cgroup (version 2) and of those above it, in processors; nil if
    /// there is none. 0.5 is half of one processor's time.
    public static var cgroupLimit: Double? {
        guard let groups = text(of: "/proc/self/cgroup"),
            let line = groups.split(separator: "\n").first(where: { $0.hasPrefix("0::") })
        else { return nil }
        var path = String(line.dropFirst(3))
        if path == "/" { path = "" }
        var least: Double?
        while true {
            for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
                guard let limit = text(of: "\(root)\(path)/cpu.max").flatMap(limit(inSetting:)) else { continue }
                least = min(least ?? limit, limit)
            }
            guard let slash = path.lastIndex(of: "/") else { return least }
            path = String(path[..<slash])
        }
    }

    /// What a `cpu.max` says: `150000 100000` is 1.5 processors; nil for `max 100000` and for what is no such text.
    static func limit(inSetting setting: String) -> Double? {
        let parts = setting.split(whereSeparator: \.isWhitespace)
        guard parts.count == 2, let quota = Double(String(parts[0])), let period = Double(String(parts[1])),
            quota > 0, period > 0
        else { return nil }
        return quota / period
    }

    /// The first page of a small file of the system.
    private static func text(of path: String) -> String? {
        // SAFETY: the path and the bytes outlive the calls, which are told their sizes.
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { _ = Glibc.close(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        let count = unsafe Glibc.read(file, &bytes, bytes.count)
        return count > 0 ? String(decoding: bytes[..<count], as: UTF8.self) : nil
    }
}
