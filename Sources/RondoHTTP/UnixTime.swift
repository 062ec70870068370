// The wall clock.

import Glibc

enum UnixTime {
    /// Seconds since 1970.
    static func now() -> Int { time(nil) }
}
