/// Writes JSON: what is needed of it here, with neither reflection nor Foundation.
package struct JSONWriter: ~Copyable {
    package private(set) var text = ""
    private var needsComma = false

    package init() {}

    package mutating func object(_ body: (inout JSONWriter) -> Void) { nest("{", "}", body) }
    package mutating func array(_ body: (inout JSONWriter) -> Void) { nest("[", "]", body) }

    package mutating func key(_ name: String) {
        string(name)
        text += ":"
        needsComma = false
    }

    package mutating func string(_ value: String?) {
        guard let value else { return raw("null") }
        raw(quoted(value))
    }

    package mutating func number(_ value: some BinaryInteger) { raw(String(value)) }

    /// Nanoseconds, written as milliseconds with three decimals.
    package mutating func milliseconds(_ nanoseconds: UInt64) {
        let microseconds = nanoseconds / 1000
        let decimals = String(microseconds % 1000 + 1000).dropFirst()
        raw("\(microseconds / 1000).\(decimals)")
    }

    package mutating func boolean(_ value: Bool) { raw(value ? "true" : "false") }

    private mutating func raw(_ value: String) {
        if needsComma { text += "," }
        text += value
        needsComma = true
    }

    private mutating func nest(_ open: String, _ close: String, _ body: (inout JSONWriter) -> Void) {
        raw(open)
        needsComma = false
        body(&self)
        text += close
        needsComma = true
    }
}

/// A JSON string in quotes. It may stand in a script of a page, too.
package func quoted(_ text: String) -> String {
    var quoted = "\""
    for scalar in text.unicodeScalars {
        switch scalar {
        case "\"", "\\": quoted += "\\\(scalar)"
        case "\u{0}"..<"\u{20}", "<", ">", "&", "\u{2028}", "\u{2029}", "\u{7f}":
            let digits = String(scalar.value, radix: 16)
            quoted += "\\u" + String(repeating: "0", count: 4 - digits.utf8.count) + digits
        default: quoted.unicodeScalars.append(scalar)
        }
    }
    return quoted + "\""
}
