// Which parts of io_uring this kernel lets us have.

import Rondo
import SystemPackage

enum KernelFindings {
    static func all() -> [Finding] { UringProbe.checks().map(finding) }

    private static func finding(_ check: UringCheck) -> Finding {
        switch check.verdict {
        case .works: Finding(name: check.name, verdict: .good, value: check.purpose)
        case .notTried: Finding(name: check.name, verdict: .bad, value: "not tried: what it builds on does not work")
        case .refused(let errno):
            Finding(
                name: check.name, verdict: check.isRequired ? .bad : .low, value: "\(check.purpose): \(errno)",
                advice: advice(check, errno))
        }
    }

    private static func advice(_ check: UringCheck, _ errno: Errno) -> String {
        if !check.isRequired { return "Rondo does without; a newer kernel is a little faster" }
        return switch errno {
        case .notPermitted, .permissionDenied:
            "set kernel.io_uring_disabled to 0, or allow io_uring in the container's seccomp profile "
                + "(docker run --security-opt seccomp=…); until then Rondo uses epoll"
        case .noFunction: "this kernel is built without io_uring, or a seccomp profile hides it; Rondo uses epoll"
        case .noMemory: "raise the limit of locked memory: ulimit -l"
        default: "this kernel is too old for Rondo's ring (Linux 6.1 or later); Rondo uses epoll"
        }
    }
}
