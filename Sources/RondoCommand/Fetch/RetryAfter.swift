import Glibc

/// What a server says about when to come back.
enum RetryAfter {
    /// The longest that is waited for.
    static let longest: Duration = .seconds(300)

    /// A number of seconds, or a date; nil for anything else.
    ///
    /// - Parameter now: seconds since 1970.
    static func delay(_ text: String, now: Int = time(nil)) -> Duration? {
        if let seconds = Int(text), seconds >= 0 { return min(longest, .seconds(seconds)) }
        guard let date = date(text) else { return nil }
        return min(longest, .seconds(max(0, date - now)))
    }

    /// `Sun, 06 Nov 1994 08:49:37 GMT` in seconds since 1970.
    static func date(_ text: String) -> Int? {
        let words = text.split { " ,:".contains($0) }
        let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"]
        guard words.count == 8, words[7] == "GMT", let day = Int(words[1]),
            let month = months.firstIndex(of: String(words[2])), let year = Int(words[3]), let hour = Int(words[4]),
            let minute = Int(words[5]), let second = Int(words[6]), (1970...9999).contains(year)
        else { return nil }
        // Days since 1970 by the rule for leap years, with years that begin in March.
        let shifted = month < 2 ? year - 1 : year
        let dayOfYear = (153 * ((month + 10) % 12) + 2) / 5 + day - 1
        let days = 365 * shifted + shifted / 4 - shifted / 100 + shifted / 400 + dayOfYear - 719_468
        return ((days * 24 + hour) * 60 + minute) * 60 + second
    }
}
