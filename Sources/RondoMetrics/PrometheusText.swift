// Prometheus' text format, version 0.0.4 (prometheus.io, "Exposition formats").

import Rondo

/// Collects samples, and writes them family by family as the format wants it.
struct PrometheusText {
    private var families: [(name: String, head: String, samples: [String])] = []

    /// Upper ends of a histogram's buckets in nanoseconds: 2 µs to 17 s, in steps of four.
    private static let bounds: [UInt64] = (0..<12).map { 2048 << (2 * UInt64($0)) }

    mutating func describe(_ figure: Figure) {
        let type = figure.isCounter ? "counter" : "gauge"
        begin(figure.name, "# HELP \(figure.name) \(figure.help)\n# TYPE \(figure.name) \(type)")
    }

    private mutating func begin(_ name: String, _ head: String) {
        if !families.contains(where: { $0.name == name }) { families.append((name, head, [])) }
    }

    mutating func add(_ statistics: LoopStatistics, labels: [(String, String)]) {
        for figure in Figure.allCases {
            if let value = figure.value(in: statistics) { add(figure.name, "", labels, Self.number(value)) }
            guard let (label, values) = figure.values(in: statistics) else { continue }
            for (key, value) in values.sorted(by: { $0.key < $1.key }) {
                add(figure.name, "", labels + [(label, key)], Self.number(value))
            }
        }
        for times in TimesFigure.allCases { add(times, times.values(in: statistics), labels) }
    }

    private mutating func add(_ figure: TimesFigure, _ times: LagHistogram, _ labels: [(String, String)]) {
        begin(figure.name, "# HELP \(figure.name) \(figure.help)\n# TYPE \(figure.name) histogram")
        for bound in Self.bounds {
            let end = Self.number(Double(bound) / 1e9)
            add(figure.name, "_bucket", labels + [("le", end)], "\(times.count(upTo: bound - 1))")
        }
        add(figure.name, "_bucket", labels + [("le", "+Inf")], "\(times.count)")
        add(figure.name, "_sum", labels, Self.number(Double(times.approximateSum) / 1e9))
        add(figure.name, "_count", labels, "\(times.count)")
    }

    private mutating func add(_ family: String, _ suffix: String, _ labels: [(String, String)], _ value: String) {
        let list = labels.map { "\($0.0)=\"\(Self.escaped($0.1))\"" }.joined(separator: ",")
        guard let index = families.firstIndex(where: { $0.name == family }) else { return }
        families[index].samples.append("\(family)\(suffix){\(list)} \(value)")
    }

    var rendered: String {
        families.filter { !$0.samples.isEmpty }
            .map { ([$0.head] + $0.samples).joined(separator: "\n") + "\n" }.joined()
    }

    private static func escaped(_ value: String) -> String {
        var escaped = ""
        for character in value {
            switch character {
            case "\\": escaped += "\\\\"
            case "\"": escaped += "\\\""
            case "\n": escaped += "\\n"
            default: escaped.append(character)
            }
        }
        return escaped
    }

    /// Whole numbers without a point.
    private static func number(_ value: Double) -> String {
        value == value.rounded() && value.magnitude < 1e15 ? "\(Int64(value))" : "\(value)"
    }
}
