import RondoInsight

/// What the command needs to write JSON.
enum JSON {
    /// A string in quotes.
    static func string(_ text: String) -> String { quoted(text) }

    /// A number with two decimals.
    static func number(_ value: Double) -> String { value.fixed(2).filter { $0 != "," } }
}
