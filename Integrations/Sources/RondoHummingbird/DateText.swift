// The time for the header `date`: a second's text is made once.

import Glibc
import Synchronization

/// The time as HTTP writes it. From any thread.
final class DateText: Sendable {
    private struct Second {
        var time: time_t = -1
        var text = ""
    }
    private let second = Mutex(Second())

    /// Now, for example `Sun, 06 Nov 1994 08:49:37 GMT`.
    var now: String {
        var clock = timespec()
        unsafe clock_gettime(CLOCK_REALTIME_COARSE, &clock)
        return second.withLock { second in
            if second.time != clock.tv_sec { second = Second(time: clock.tv_sec, text: Self.text(of: clock.tv_sec)) }
            return second.text
        }
    }

    /// The text of a second since 1970.
    static func text(of time: time_t) -> String {
        var time = time
        var parts = unsafe tm()
        // SAFETY: both are this function's own.
        unsafe gmtime_r(&time, &parts)
        let (weekday, day, month, year) = unsafe (parts.tm_wday, parts.tm_mday, parts.tm_mon, parts.tm_year + 1900)
        let (hour, minute, second) = unsafe (parts.tm_hour, parts.tm_min, parts.tm_sec)
        func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
        let days = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        let date = "\(days[Int(weekday)]), \(two(day)) \(months[Int(month)]) \(year)"
        return "\(date) \(two(hour)):\(two(minute)):\(two(second)) GMT"
    }
}
