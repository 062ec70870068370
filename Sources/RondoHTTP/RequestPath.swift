// The path of a request as names of files. What could mean two things means nothing. It works on bytes: a slash with
// an accent would be no slash among characters.

/// A request's path.
enum RequestPath {
    /// The names between the slashes of a path, decoded; nil if one of them is none.
    static func names(in path: Substring) -> [String]? {
        guard path.utf8.first == slash else { return nil }
        var names: [String] = []
        for part in path.utf8.split(separator: slash) {
            guard let name = decoded(part), !name.isEmpty else { return nil }
            names.append(name)
        }
        return names
    }

    /// Whether nobody shall see a file of this name.
    static func isHidden(_ name: String) -> Bool { name.utf8.first == UInt8(ascii: ".") }

    /// A name as it stands in a link: everything that could mean something else is a number.
    static func encoded(_ name: String) -> String {
        name.utf8.map { byte in
            let isPlain = byte.isDigit || byte | 0x20 >= 0x61 && byte | 0x20 <= 0x7A || "-._~/".utf8.contains(byte)
            if isPlain { return String(UnicodeScalar(byte)) }
            return (byte < 16 ? "%0" : "%") + String(byte, radix: 16, uppercase: true)
        }.joined()
    }

    private static let slash = UInt8(ascii: "/")

    /// - Returns: nil if it can't be the name of a file, or is none that can be written.
    private static func decoded(_ part: Substring.UTF8View.SubSequence) -> String? {
        var bytes: [UInt8] = []
        var rest = part[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let high = rest.popFirst().flatMap(value), let low = rest.popFirst().flatMap(value) else {
                return nil
            }
            bytes.append(high << 4 | low)
        }
        if bytes.contains(where: { $0 == slash || $0 == 0 }) { return nil }
        return String(validating: bytes, as: UTF8.self)
    }

    private static func value(ofHexadecimal digit: UInt8) -> UInt8? {
        if digit.isDigit { return digit - UInt8(ascii: "0") }
        let letter = digit | 0x20
        return letter >= UInt8(ascii: "a") && letter <= UInt8(ascii: "f") ? letter - UInt8(ascii: "a") + 10 : nil
    }
}
