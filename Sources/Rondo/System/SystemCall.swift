// The one place where the C library's −1-and-errno convention and EINTR are dealt with.

import CRondo
import Glibc
package import SystemPackage

/// Runs a call that answers −1 and sets `errno`, again for as long as a signal interrupts it.
///
/// - Returns: what the call answered, never negative.
@discardableResult
package func systemCall<Value: FixedWidthInteger & SignedInteger>(_ call: () -> Value) throws(Errno) -> Value {
    while true {
        let value = call()
        if value >= 0 { return value }
        let code = errno
        if code != EINTR { throw Errno(rawValue: code) }
    }
}

/// Unwraps an answer that is not negative, or else the negated errno (the convention of io_uring and of CRondo).
@inline(__always)
package func checked(_ answer: Int32) throws(Errno) -> Int32 {
    if answer < 0 { throw Errno(rawValue: -answer) }
    return answer
}

/// Nanoseconds of `CLOCK_MONOTONIC`: the time of every real driver, timer and measurement.
@inline(__always)
package func monotonicNanoseconds() -> UInt64 {
    rondo_clock_nanoseconds(CLOCK_MONOTONIC)
}
