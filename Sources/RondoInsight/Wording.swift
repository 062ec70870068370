// Numbers, times and names as people read them.

import CRondo
import Glibc
import Rondo

/// A time span with three digits that count: `1.23 s`, `45.6 ms`, `789 µs`, `12 ns`.
package func spoken(nanoseconds: UInt64) -> String {
    let value = Double(nanoseconds)
    switch nanoseconds {
    case ..<1000: return "\(nanoseconds) ns"
    case ..<1_000_000: return "\(threeDigits(value / 1e3)) µs"
    case ..<1_000_000_000: return "\(threeDigits(value / 1e6)) ms"
    default: return "\(threeDigits(value / 1e9)) s"
    }
}

private func threeDigits(_ value: Double) -> String {
    if value >= 100 { return grouped(Int(value.rounded())) }
    let scale = value >= 10 ? 10 : 100
    let digits = Int((value * Double(scale)).rounded())
    let fraction = "\(digits % scale)"
    let zeros = String(repeating: "0", count: (scale == 10 ? 1 : 2) - fraction.utf8.count)
    return "\(digits / scale).\(zeros)\(fraction)"
}

/// With a comma between thousands.
package func grouped(_ number: Int) -> String {
    var text = ""
    for (index, digit) in String(number.magnitude).reversed().enumerated() {
        if index > 0, index % 3 == 0 { text.append(",") }
        text.append(digit)
    }
    return (number < 0 ? "-" : "") + String(text.reversed())
}

/// `12.3 %`
package func percent(_ part: UInt64, of whole: UInt64) -> String {
    let tenths = whole == 0 ? 0 : Int((Double(part) / Double(whole) * 1000).rounded())
    return "\(tenths / 10).\(tenths % 10) %"
}

/// A point in time: `2026-11-23 02:04:05 UTC`.
package func spoken(secondsSince1970 seconds: Int) -> String {
    var time = time_t(seconds)
    // SAFETY: fills in the one value.
    var parts = unsafe tm()
    unsafe gmtime_r(&time, &parts)
    func two(_ number: Int32) -> String { number < 10 ? "0\(number)" : "\(number)" }
    let day = unsafe "\(parts.tm_year + 1900)-\(two(parts.tm_mon + 1))-\(two(parts.tm_mday))"
    return unsafe "\(day) \(two(parts.tm_hour)):\(two(parts.tm_min)):\(two(parts.tm_sec)) UTC"
}

extension String {
    /// Filled up on the left to `width` columns.
    func right(_ width: Int) -> String { String(repeating: " ", count: Swift.max(0, width - count)) + self }

    /// Filled up on the right to `width` columns, or cut down to them.
    func left(_ width: Int) -> String {
        if count > width { return String(prefix(width - 1)) + "…" }
        return self + String(repeating: " ", count: width - count)
    }

    /// What a terminal may be given: control characters are shown as a dot.
    var printable: String {
        var clean = ""
        for scalar in unicodeScalars {
            clean.unicodeScalars.append(scalar.properties.generalCategory == .control ? "·" : scalar)
        }
        return clean
    }
}

extension Operation.Kind {
    /// What it is called: `receive message`.
    package var words: String {
        var words = ""
        for character in "\(self)" {
            if character.isUppercase { words += " " }
            words += character.lowercased()
        }
        return words
    }
}

extension TraceModel {
    /// What a task waits for, in words.
    package func words(for wait: TraceWait) -> String {
        switch wait {
        case .operation(let kind, let descriptor): descriptor < 0 ? kind.words : "\(kind.words) on \(descriptor)"
        case .sleep: "sleep"
        case .task(let task): tasks[task].title
        case .thread: "another thread"
        case .unknown: "the loop"
        }
    }

    /// The driver's time as seconds since 1970.
    func seconds(at time: UInt64) -> Int { Int(truncatingIfNeeded: (time &+ epoch) / 1_000_000_000) }
}
