/// One thing that the doctor has looked at.
struct Finding: Sendable {
    enum Verdict: String, Sendable {
        /// Good for anything that Rondo does.
        case good = "ok"
        /// Works, and will be in the way some day.
        case low
        /// Does not work.
        case bad = "no"
    }

    var name: String
    var verdict: Verdict
    /// What was found.
    var value: String
    /// What to do about it, if there is something to do.
    var advice: String?
}

extension Finding {
    private static let valueColumn = 28

    /// The finding for people: a line, and the advice below it.
    func lines(for terminal: Terminal, width: Int) -> [String] {
        let colour: Colour =
            switch verdict {
            case .good: .green
            case .low: .yellow
            case .bad: .red
            }
        var lines: [String] = []
        for (index, part) in value.wrapped(max(20, width - Self.valueColumn)).enumerated() {
            let head =
                "  " + terminal.paint(verdict.rawValue.left(4), colour) + "  " + name.left(Self.valueColumn - 9) + " "
            lines.append((index == 0 ? head : "".left(Self.valueColumn)) + part)
        }
        for (index, part) in (advice ?? "").wrapped(max(20, width - Self.valueColumn - 2)).enumerated() {
            lines.append("".left(Self.valueColumn) + terminal.paint((index == 0 ? "→ " : "  ") + part, .bold))
        }
        return lines
    }

    /// The finding for machines.
    var json: String {
        var fields = [("name", name), ("verdict", verdict.rawValue), ("value", value)]
        if let advice { fields.append(("advice", advice)) }
        return "{" + fields.map { "\(JSON.string($0)): \(JSON.string($1))" }.joined(separator: ", ") + "}"
    }
}
