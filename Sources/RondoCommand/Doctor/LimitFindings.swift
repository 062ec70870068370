// What this machine, container or session limits, and what to do about each limit.

import CRondo
import Glibc
import Rondo

enum LimitFindings {
    static func all() -> [Finding] {
        [openFiles(), lockedMemory(), uringDisabled(), processors(), cgroupProcessors(), threads(), acceptQueue()]
    }

    // MARK: Of the process

    private static func openFiles() -> Finding {
        let limit = read(RLIMIT_NOFILE)
        let value = "\(words(limit.rlim_cur)), at most \(words(limit.rlim_max)) (hard limit)"
        if limit.rlim_cur >= 4096 { return Finding(name: "open files", verdict: .good, value: value) }
        let advice =
            limit.rlim_max > limit.rlim_cur
            ? "each connection is one: ulimit -n \(words(min(limit.rlim_max, 65_536), grouped: false)), or "
                + "LimitNOFILE= in a systemd unit"
            : "each connection is one: raise the hard limit in /etc/security/limits.conf, by LimitNOFILE= in a systemd "
                + "unit, or by docker run --ulimit nofile=65536"
        return Finding(name: "open files", verdict: .low, value: value, advice: advice)
    }

    private static func lockedMemory() -> Finding {
        let limit = read(__RLIMIT_MEMLOCK)
        let value = limit.rlim_cur == rlim_t.max ? "unlimited" : "\((limit.rlim_cur / 1024).grouped) KiB"
        if limit.rlim_cur >= 1 << 20 { return Finding(name: "locked memory", verdict: .good, value: value) }
        return Finding(
            name: "locked memory", verdict: .low, value: value,
            advice: "a ring may count as locked memory: ulimit -l 8192, or LimitMEMLOCK= in a systemd unit")
    }

    private static func threads() -> Finding {
        let wanted = LoopConfiguration().offloadThreads + 8
        var limit = read(__RLIMIT_NPROC).rlim_cur
        if let text = cgroupSetting("pids.max"), let most = rlim_t(text) { limit = min(limit, most) }
        let value = "\(words(limit)); Rondo starts up to \(LoopConfiguration().offloadThreads) for calls that block"
        if limit >= rlim_t(wanted) { return Finding(name: "threads", verdict: .good, value: value) }
        return Finding(
            name: "threads", verdict: .low, value: value,
            advice: "raise ulimit -u (it counts all of the user's threads), or the container's --pids-limit")
    }

    // MARK: Of the system

    private static func uringDisabled() -> Finding {
        let name = "io_uring_disabled"
        switch text(of: "/proc/sys/kernel/io_uring_disabled") {
        case "0": return Finding(name: name, verdict: .good, value: "0: everybody may use io_uring")
        case "1":
            return Finding(
                name: name, verdict: .low, value: "1: only privileged processes and kernel.io_uring_group",
                advice: "sysctl -w kernel.io_uring_disabled=0, or join the group; without, Rondo uses epoll")
        case "2":
            return Finding(
                name: name, verdict: .bad, value: "2: nobody may use io_uring",
                advice: "sysctl -w kernel.io_uring_disabled=0; without, Rondo uses epoll")
        case let other?: return Finding(name: name, verdict: .good, value: other)
        case nil:
            return Finding(name: name, verdict: .good, value: "there is no such setting: nothing is disabled by it")
        }
    }

    private static func acceptQueue() -> Finding {
        guard let setting = text(of: "/proc/sys/net/core/somaxconn"), let length = Int(setting) else {
            return Finding(name: "somaxconn", verdict: .good, value: "not readable here")
        }
        let value = "\(length.grouped) connections may wait to be accepted"
        if length >= 1024 { return Finding(name: "somaxconn", verdict: .good, value: value) }
        return Finding(
            name: "somaxconn", verdict: .low, value: value,
            advice: "a burst of more loses a second each: sysctl -w net.core.somaxconn=4096")
    }

    private static func processors() -> Finding {
        let count = Int(rondo_processor_count())
        let advice =
            "the loop shares it with the offload pool and the kernel's own work: give the process two "
            + "(taskset, --cpuset-cpus)"
        return Finding(
            name: "CPUs", verdict: count > 1 ? .good : .low, value: "\(count) that this process may run on",
            advice: count > 1 ? nil : advice)
    }

    private static func cgroupProcessors() -> Finding {
        let name = "cgroup cpu.max"
        guard let setting = cgroupSetting("cpu.max") else {
            return Finding(name: name, verdict: .good, value: "there is none (no cgroup v2, or no limit in it)")
        }
        let parts = setting.split(separator: " ").map(String.init)
        guard parts.count == 2, let quota = Double(parts[0]), let period = Double(parts[1]), period > 0 else {
            return Finding(name: name, verdict: .good, value: "no limit")
        }
        let share = quota / period
        let value = "\(share.fixed(2)) CPUs (\(setting))"
        if share >= 1 { return Finding(name: name, verdict: .good, value: value) }
        return Finding(
            name: name, verdict: .low, value: value,
            advice:
                "when a period's share is used up the loop stands still for the rest of it: raise it to 1 or "
                + "more (--cpus)"
        )
    }

    // MARK: Reading

    /// A setting of our cgroup, or of the nearest one above that has it; nil if none limits.
    private static func cgroupSetting(_ name: String) -> String? {
        guard let groups = text(of: "/proc/self/cgroup") else { return nil }
        guard let line = groups.split(separator: "\n").first(where: { $0.hasPrefix("0::") }) else { return nil }
        var path = String(line.dropFirst(3))
        while true {
            for root in ["/sys/fs/cgroup", "/sys/fs/cgroup/unified"] {
                if let text = text(of: "\(root)\(path)/\(name)"), !text.hasPrefix("max") { return text }
            }
            guard let slash = path.lastIndex(of: "/") else { return nil }
            path = String(path[..<slash])
        }
    }

    private static func read(_ resource: __rlimit_resource) -> rlimit {
        var limit = rlimit()
        // SAFETY: the call fills in the one value; it knows every resource that is asked for here.
        _ = unsafe getrlimit(__rlimit_resource_t(resource.rawValue), &limit)
        return limit
    }

    private static func words(_ limit: rlim_t, grouped: Bool = true) -> String {
        limit == .max ? "unlimited" : grouped ? limit.grouped : "\(limit)"
    }

    /// The first page of a small file of the system, without its last line break.
    static func text(of path: String) -> String? {
        let file = unsafe open(path, O_RDONLY | O_CLOEXEC)
        guard file >= 0 else { return nil }
        defer { close(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        // SAFETY: reads at most as many bytes as there are.
        let count = unsafe Glibc.read(file, &bytes, bytes.count)
        guard count > 0 else { return nil }
        var text = String(decoding: bytes[..<count], as: UTF8.self)
        if text.last == "\n" { text.removeLast() }
        return text
    }
}
