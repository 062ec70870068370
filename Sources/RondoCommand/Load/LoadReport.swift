import Rondo
import RondoInsight

/// What `rondo load` says at its end.
struct LoadReport {
    static let percentiles: [(percentile: Double, name: String, key: String)] = [
        (50, "50 %", "p50"), (75, "75 %", "p75"), (90, "90 %", "p90"), (99, "99 %", "p99"), (99.9, "99.9 %", "p99.9"),
        (99.99, "99.99 %", "p99.99"), (100, "max", "max"),
    ]
    private static let barWidth = 40

    let url: String
    let options: LoadOptions
    let result: LoadResult
    let seconds: Double

    /// For people.
    var text: String {
        let way = options.rate.map { "open loop, \($0.fixed(0)) requests/s due" } ?? "closed loop"
        let connections = options.connections == 1 ? "1 connection" : "\(options.connections.grouped) connections"
        let speed = Bytes.text(Int64(Double(result.received) / seconds))
        var lines = [
            url, "\(connections), \(way), \(seconds.fixed(1)) s", "",
            "answers     \(result.answers.grouped), \((Double(result.answers) / seconds).fixed(0)) a second",
            "received    \(Bytes.text(Int64(result.received))), \(speed)/s",
        ]
        if result.answers > 0 { lines.append("statuses    \(statuses)") }
        if !result.failures.isEmpty { lines.append("failed      \(Terminal.printable(result.failureList))") }
        if result.unsent > 0 {
            lines.append("unsent      \(result.unsent.grouped) were due, and no connection was free")
        }
        // One request of each connection has no answer yet when the time is over; worth a line if that one took longer
        // than all others.
        if result.longestWait > result.latency.max {
            let wait = Self.time(result.longestWait)
            lines.append("unanswered  \(result.unanswered.grouped); the oldest was due \(wait) before the end")
        }
        return (lines + latencies).joined(separator: "\n")
    }

    private var statuses: String {
        result.statuses.sorted { $0.key < $1.key }.map { "\($0) × \($1.grouped)" }.joined(separator: ", ")
    }

    private var latencies: [String] {
        guard result.answers > 0 else { return [] }
        let most = Double(result.latency.max)
        let title = options.rate == nil ? "from the request to the answer" : "from when a request was due to its answer"
        // A percentile of fewer answers than it takes to have one beyond it is the maximum, and says nothing more.
        let told = Self.percentiles.filter {
            $0.percentile == 100 || Double(result.answers) * (100 - $0.percentile) >= 100
        }
        return ["", title]
            + told.map { percentile, name, _ in
                let value = result.latency.valueAtPercentile(percentile)
                let bar = String(repeating: "━", count: Int((Double(value) / most * Double(Self.barWidth)).rounded()))
                return name.left(8) + Self.time(value).right(10) + "  " + bar
            }
    }

    /// For programs: one object, times in nanoseconds.
    var json: String {
        let times = Self.percentiles.map { "\"\($0.key)\":\(result.latency.valueAtPercentile($0.percentile))" }
        let statuses = result.statuses.sorted { $0.key < $1.key }.map { "\"\($0)\":\($1)" }
        let failures = result.failures.sorted { $0.key < $1.key }.map { "\(JSON.string($0)):\($1)" }
        let fields = [
            ("url", JSON.string(url)), ("connections", "\(options.connections)"),
            ("rate", options.rate.map { JSON.number($0) } ?? "null"), ("seconds", JSON.number(seconds)),
            ("answers", "\(result.answers)"),
            ("answersPerSecond", JSON.number(Double(result.answers) / seconds)),
            ("receivedBytes", "\(result.received)"), ("statuses", "{\(statuses.joined(separator: ","))}"),
            ("failures", "{\(failures.joined(separator: ","))}"), ("unsent", "\(result.unsent)"),
            ("unanswered", "\(result.unanswered)"), ("longestWait", "\(result.longestWait)"),
            ("latency", result.answers > 0 ? "{\(times.joined(separator: ","))}" : "null"),
        ]
        return "{" + fields.map { "\"\($0)\":\($1)" }.joined(separator: ",") + "}"
    }

    /// Nanoseconds as `812 µs`, `1.23 ms`, `2.50 s`.
    static func time(_ nanoseconds: UInt64) -> String {
        let value = Double(nanoseconds)
        if value < 999_500 { return "\((value / 1000).fixed(0)) µs" }
        if value < 999_950_000 { return "\((value / 1_000_000).fixed(value < 9_995_000 ? 2 : 1)) ms" }
        return "\((value / 1_000_000_000).fixed(2)) s"
    }
}
