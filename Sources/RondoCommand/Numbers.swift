// Numbers and columns as people read them. (Foundation's formatters would do it too, at the price of Foundation.)

extension BinaryInteger {
    /// With a comma between thousands: `12,345`.
    var grouped: String {
        var text = ""
        for (index, digit) in String(magnitude).reversed().enumerated() {
            if index > 0, index % 3 == 0 { text.append(",") }
            text.append(digit)
        }
        return (self < 0 ? "-" : "") + String(text.reversed())
    }
}

extension Double {
    /// With a fixed number of decimals, rounded, and a comma between thousands: `1,234.5`.
    func fixed(_ decimals: Int) -> String {
        guard isFinite, magnitude < 1e15 else { return description }
        var scale = 1
        for _ in 0..<decimals { scale *= 10 }
        let scaled = Int((magnitude * Double(scale)).rounded())
        let sign = self < 0 && scaled > 0 ? "-" : ""
        if decimals == 0 { return sign + scaled.grouped }
        let fraction = String(scaled % scale)
        return sign + (scaled / scale).grouped + "." + String(repeating: "0", count: decimals - fraction.count)
            + fraction
    }
}

extension String {
    /// Filled up on the left to `width` columns.
    func right(_ width: Int) -> String { String(repeating: " ", count: Swift.max(0, width - count)) + self }

    /// Filled up on the right to `width` columns.
    func left(_ width: Int) -> String { self + String(repeating: " ", count: Swift.max(0, width - count)) }

    /// The lines of the text, broken between words so that none is longer than `width`, unless a word is.
    func wrapped(_ width: Int) -> [String] {
        var lines: [String] = []
        var line = ""
        for word in split(separator: " ") {
            if !line.isEmpty, line.count + 1 + word.count > width {
                lines.append(line)
                line = ""
            }
            line += line.isEmpty ? String(word) : " " + word
        }
        if !line.isEmpty { lines.append(line) }
        return lines
    }
}
