// What a client wants of an answer's coding: `Accept-Encoding` (RFC 9110, 12.5.3).

/// A client's wishes.
struct ContentCoding: Equatable {
    /// How much it wants gzip, and its content as it is, in thousandths; nil if it says nothing.
    private(set) var gzip: Int?
    private(set) var identity: Int?

    /// Of what the field says; nil without one.
    init(_ field: String?) {
        guard let field else { return }
        var others: Int?
        for element in field.utf8.split(separator: UInt8(ascii: ",")) {
            var parts = element.split(separator: UInt8(ascii: ";"), maxSplits: 1)[...]
            guard let name = parts.popFirst().map(Self.word) else { continue }
            let weight = parts.first.map { Self.weight(Self.word($0)) } ?? 1000
            switch name {
            case "gzip", "x-gzip": gzip = max(gzip ?? 0, weight)
            case "identity": identity = weight
            case "*": others = weight
            default: break
            }
        }
        gzip = gzip ?? others
        identity = identity ?? others.flatMap { $0 == 0 ? 0 : nil }
    }

    /// Whether it likes gzip at least as much as its content as it is.
    var prefersGzip: Bool { gzip ?? 0 > 0 && gzip ?? 0 >= identity ?? 0 }

    /// In lower case, without the white space around it.
    private static func word(_ bytes: Substring.UTF8View.SubSequence) -> String {
        let isSpace = { (byte: UInt8) in byte == .space || byte == .tab }
        var trimmed = bytes.drop(while: isSpace)
        while let last = trimmed.last, isSpace(last) { trimmed.removeLast() }
        return Substring(trimmed).lowercased()
    }

    /// `q=0.5` in thousandths; 0 for what is no weight.
    private static func weight(_ text: String) -> Int {
        guard text.hasPrefix("q=") else { return 0 }
        let number = Array(text.utf8.dropFirst(2))
        guard let first = number.first, first == UInt8(ascii: "0") || first == UInt8(ascii: "1") else { return 0 }
        let whole = Int(first - UInt8(ascii: "0")) * 1000
        if number.count == 1 { return whole }
        guard number[1] == UInt8(ascii: "."), number.count <= 5, number[2...].allSatisfy(\.isDigit) else { return 0 }
        var (part, unit) = (0, 100)
        for digit in number[2...] {
            part += Int(digit - UInt8(ascii: "0")) * unit
            unit /= 10
        }
        return min(whole + part, 1000)
    }
}
