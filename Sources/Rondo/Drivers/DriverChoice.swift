// Which driver a loop gets, and why. io_uring is denied in most containers (Docker's and containerd's default seccomp
// profiles) and on some hardened hosts, so nothing is believed before a real operation has gone through a real ring.

import CRondo
import Glibc
package import SystemPackage

/// The drivers that a program can ask for.
public enum DriverKind: String, Sendable, CaseIterable {
    case uring = "io_uring"
    case epoll
}

/// What io_uring can do here, each part tried by itself.
package struct UringFeatures: Sendable {
    /// Several receives share a buffer (incremental provided buffers, Linux 6.12).
    package var sharedBuffers = false
    /// A wait can be given a point in time (Linux 6.12).
    package var absoluteWait = false
    /// Files can be truncated (Linux 6.9).
    package var truncates = false
}

/// The outcome of the choice.
package struct DriverChoice: Sendable {
    package var kind: DriverKind
    /// One line for people: why this driver.
    package var reason: String
    package var features = UringFeatures()
    /// Whether somebody asked for this driver by name, and shall have no other.
    package var isForced = false

    /// Chooses for this thread: what `forced` says, else what `RONDO_DRIVER` says, else io_uring if it works.
    ///
    /// - Throws: `IOError` if a driver was asked for by name that does not work here or does not exist.
    package static func make(forced: DriverKind?) throws(IOError) -> DriverChoice {
        var wanted = forced
        var source = "configured"
        if wanted == nil, let value = environmentValue("RONDO_DRIVER"), !value.isEmpty, value != "auto" {
            guard let kind = DriverKind(rawValue: value == "uring" ? "io_uring" : value) else {
                throw IOError(
                    "choose driver", "RONDO_DRIVER=\(value)", .invalid("no such driver: use io_uring, epoll or auto"))
            }
            wanted = kind
            source = "RONDO_DRIVER"
        }
        if wanted == .epoll { return DriverChoice(kind: .epoll, reason: "\(source) says epoll", isForced: true) }
        switch UringProbe.run() {
        case .success(let features):
            let reason =
                wanted == nil ? "a no-op went through the ring" : "\(source) says io_uring, and a no-op went through"
            return DriverChoice(kind: .uring, reason: reason, features: features, isForced: wanted != nil)
        case .failure(let refusal):
            guard wanted == nil else {
                throw IOError("start driver", "io_uring (asked for by \(source))", .invalid(refusal.description))
            }
            return DriverChoice(kind: .epoll, reason: refusal.description)
        }
    }
}

/// A variable of the process's environment.
package func environmentValue(_ name: String) -> String? {
    // SAFETY: getenv answers a C string that lives as long as nobody changes the environment; it is copied here.
    guard let value = unsafe getenv(name) else { return nil }
    return unsafe String(cString: value)
}

/// Tries io_uring part by part.
package enum UringProbe {
    /// Why io_uring can't be used: the step that failed, and what that means.
    package struct Refusal: Error, CustomStringConvertible {
        package var step: String
        package var errno: Errno
        package var description: String { "io_uring is not usable: \(step): \(errno)\(hint)" }

        private var hint: String {
            switch errno {
            case .notPermitted where step == "io_uring_setup":
                " (kernel.io_uring_disabled is \(sysctlSetting), or a seccomp profile denies it, as Docker's does)"
            case .noFunction: " (the kernel is built without io_uring, or a seccomp profile hides it)"
            case .invalidArgument: " (Rondo's ring needs Linux 6.1 or later)"
            case .noMemory: " (raise the limit of locked memory: ulimit -l)"
            default: ""
            }
        }

        private var sysctlSetting: String {
            let path = "/proc/sys/kernel/io_uring_disabled"
            guard let fd = try? checked(unsafe rondo_openat(AT_FDCWD, path, O_RDONLY, 0)) else { return "not there" }
            defer { Glibc.close(fd) }
            var digit: UInt8 = 0
            // SAFETY: reads one byte into one byte.
            return unsafe read(fd, &digit, 1) == 1 ? String(UnicodeScalar(digit)) : "unreadable"
        }
    }

    /// Sends a no-op through a ring like the loop's, and tries what is optional.
    package static func run() -> Result<UringFeatures, Refusal> {
        let ring: UringRing
        do throws(Errno) {
            ring = try UringRing(entries: 8, waitsUntilAbsoluteTime: false)
        } catch {
            return .failure(Refusal(step: "io_uring_setup", errno: error))
        }
        // SAFETY: fresh submissions of a ring of our own.
        let entry = unsafe ring.nextSubmission()
        unsafe entry.pointee.opcode = RONDO_OP_NOP
        unsafe entry.pointee.user_data = 7
        ring.enter(waitingFor: 1, until: monotonicNanoseconds() + 1_000_000_000)
        guard let completion = ring.nextCompletion(), completion.user_data == 7, completion.res == 0 else {
            return .failure(Refusal(step: "no-op", errno: .timedOut))
        }
        var features = UringFeatures()
        if let refusal = registerBuffers(on: ring.fd, flags: 0) {
            return .failure(Refusal(step: "ring of provided buffers", errno: refusal))
        }
        features.sharedBuffers = registerBuffers(on: ring.fd, flags: RONDO_BUFFER_RING_INCREMENTAL) == nil
        features.absoluteWait = acceptsAbsoluteWait(ring.fd)
        features.truncates = supports(RONDO_OP_FTRUNCATE, ring.fd)
        return .success(features)
    }

    /// Whether the kernel knows an operation, in its own words.
    private static func supports(_ opcode: UInt8, _ fd: Int32) -> Bool {
        var probe = rondo_uring_probe()
        // SAFETY: the probe has room for 256 operations, and outlives the call.
        guard unsafe rondo_uring_register(fd, RONDO_REGISTER_PROBE, &probe, 256) >= 0, opcode <= probe.last_op
        else { return false }
        return unsafe withUnsafeBytes(of: &probe.ops) { operations in
            let stride = MemoryLayout<rondo_uring_probe_op>.stride
            let operation = unsafe operations.loadUnaligned(
                fromByteOffset: Int(opcode) * stride, as: rondo_uring_probe_op.self)
            return operation.flags & RONDO_PROBE_SUPPORTED != 0
        }
    }

    /// Registers a small ring of buffers; nil if the kernel takes it. The caller's ring is closed soon after, which
    /// ends the registration.
    static func registerBuffers(on fd: Int32, flags: UInt16) -> Errno? {
        // SAFETY: one page, which outlives the registration only as unused memory: it is unmapped at the end, and
        // the ring that knows it never receives anything.
        let page = unsafe mmap(nil, 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let page = unsafe page, unsafe page != MAP_FAILED else { return .noMemory }
        defer { unsafe munmap(page, 4096) }
        var registration = rondo_uring_buffer_registration(
            ring_addr: UInt64(UInt(bitPattern: page)), ring_entries: 8, bgid: flags, flags: flags,
            reserved: (0, 0, 0))
        let answer = unsafe rondo_uring_register(fd, RONDO_REGISTER_PBUF_RING, &registration, 1)
        return answer < 0 ? Errno(rawValue: -answer) : nil
    }

    /// Waits for a point in time that has passed; an older kernel refuses the flag.
    private static func acceptsAbsoluteWait(_ fd: Int32) -> Bool {
        var time = rondo_uring_timespec(seconds: 0, nanoseconds: 1)
        // SAFETY: the time outlives the call.
        return unsafe withUnsafePointer(to: &time) { time in
            var argument = rondo_uring_wait_argument(
                sigmask: 0, sigmask_size: 0, min_wait_microseconds: 0,
                timespec_address: UInt64(UInt(bitPattern: time)))
            let flags = RONDO_ENTER_GETEVENTS | RONDO_ENTER_EXT_ARG | RONDO_ENTER_ABS_TIMER
            let answer = unsafe rondo_uring_enter(fd, 0, 1, flags, &argument)
            return answer == -ETIME || answer >= 0
        }
    }
}

extension DriverChoice {
    /// Makes the driver that was chosen, on the thread that will use it: epoll if the kernel has no memory left for one
    /// more ring of io_uring, unless that was asked for by name.
    package func makeDriver(
        offload: OffloadPool, receiveBuffers buffers: ReceiveBuffers = ReceiveBuffers()
    ) throws(IOError) -> any Driver {
        do throws(Errno) {
            switch kind {
            case .uring: return try UringDriver(choice: self, receiveBuffers: buffers, offload: offload)
            case .epoll: return try EpollDriver(choice: self, receiveBuffers: buffers, offload: offload)
            }
        } catch {
            if kind == .epoll { throw IOError("start driver", kind.rawValue, .system(error)) }
            let refusal = UringProbe.Refusal(step: "a ring for the loop", errno: error)
            if isForced { throw IOError("start driver", kind.rawValue, .invalid(refusal.description)) }
            return try DriverChoice(kind: .epoll, reason: refusal.description)
                .makeDriver(offload: offload, receiveBuffers: buffers)
        }
    }
}
