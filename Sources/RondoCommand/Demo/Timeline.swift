// The timeline of text: a lane for each of some orders, a character for each slice of time. It can be pasted anywhere:
// colour only underlines what the characters say.

/// Draws lanes.
struct Timeline {
    let lanes: [Lane]
    let start: UInt64
    let end: UInt64
    /// Columns in all.
    let width: Int
    let terminal: Terminal

    private static let labelWidth = 7
    private var slices: Int { max(10, width - Self.labelWidth - 1) }
    private var sliceNanoseconds: Double { max(1, Double(end - start) / Double(slices)) }

    /// The axis and the lanes.
    var lines: [String] {
        [terminal.paint("order".right(Self.labelWidth - 1), .faint) + " " + terminal.paint(axis, .faint)]
            + lanes.map { "\("\($0.order)".right(Self.labelWidth - 1)) \(draw($0))" }
    }

    /// What the characters mean.
    static func legend(_ terminal: Terminal, width: Int) -> [String] {
        let entries: [(Lane.State, String)] = [
            (.running, "running"), (.ready, "ready"), (.waiting(.database), "waits for database"),
            (.waiting(.origin), "for origin"), (.waiting(.customer), "for customer"),
        ]
        let words = entries.map { "\(character(of: $0.0)) \($0.1)" }
        // Painted after the lines are broken, as colours have no width.
        if words.joined(separator: "   ").count <= width {
            return [
                entries.map { terminal.paint("\(character(of: $0.0))", colour(of: $0.0)) + " \($0.1)" }.joined(
                    separator: "   ")
            ]
        }
        return entries.map { terminal.paint("\(character(of: $0.0))", colour(of: $0.0)) + " \($0.1)" }
    }

    private static func character(of state: Lane.State) -> Character {
        switch state {
        case .running: "█"
        case .ready: "▒"
        case .waiting(.database): "d"
        case .waiting(.origin): "·"
        case .waiting(.customer): "c"
        }
    }

    private static func colour(of state: Lane.State) -> Colour {
        switch state {
        case .running: .brightGreen
        case .ready: .yellow
        case .waiting(.database): .magenta
        case .waiting(.origin): .blue
        case .waiting(.customer): .cyan
        }
    }

    // MARK: Lanes

    /// In each slice what the task did for most of it; but running, if it ran at all, as that is so short.
    private func draw(_ lane: Lane) -> String {
        var shares = [[Lane.State: Double]](repeating: [:], count: slices)
        var hasRun = [Bool](repeating: false, count: slices)
        for stretch in lane.stretches where stretch.end > start && stretch.start < end {
            let from = position(of: stretch.start)
            let to = position(of: stretch.end)
            let first = min(Int(from), slices - 1)
            for slice in first...max(first, min(Int(to), slices - 1)) {
                let part = min(to, Double(slice + 1)) - max(from, Double(slice))
                // A run that reaches a hair into the next slice belongs to the one where it began.
                if stretch.state == .running, slice == first || part > 0.5 { hasRun[slice] = true }
                shares[slice][stretch.state, default: 0] += part
            }
        }
        var line = ""
        var pending = ""
        var pendingState: Lane.State?
        func flush() {
            if let state = pendingState {
                line += terminal.paint(pending, Self.colour(of: state))
            } else {
                line += pending
            }
            pending = ""
        }
        for slice in 0..<slices {
            let state: Lane.State? =
                hasRun[slice] ? .running : shares[slice].filter { $0.key != .running }.max { $0.value < $1.value }?.key
            if state != pendingState { flush() }
            pendingState = state
            pending.append(state.map(Self.character) ?? " ")
        }
        if pendingState == nil { return line }
        flush()
        return line
    }

    private func position(of time: UInt64) -> Double {
        time <= start ? 0 : min(Double(slices), Double(time - start) / sliceNanoseconds)
    }

    // MARK: The axis

    /// Times at round numbers: `0         5 ms      10 ms`.
    private var axis: String {
        let unit: (nanoseconds: Double, name: String) =
            end - start >= 5_000_000 ? (1e6, "ms") : (1e3, "µs")
        let total = Double(end - start) / unit.nanoseconds
        var step = 1.0
        while total / step > Double(slices) / 11 { step *= step.isPowerOfTenTimesTwo ? 2.5 : 2 }
        var line = ""
        var time = 0.0
        while time < total {
            let label = time == 0 ? "0" : "\(time.fixed(0)) \(unit.name)"
            let column = Int(time / total * Double(slices))
            if column + label.count + 2 > slices { break }
            line = line.left(column) + label
            time += step
        }
        return line
    }
}

extension Double {
    /// Whether it is 2, 20, 200…: then the next round number is 2.5 times as much, else twice.
    fileprivate var isPowerOfTenTimesTwo: Bool {
        var value = self
        while value >= 10 { value /= 10 }
        return value == 2
    }
}

// MARK: - What to show

extension Recording {
    /// `count` orders, evenly chosen.
    func evenLanes(_ count: Int) -> [Lane] {
        if lanes.count <= count { return lanes }
        return (0..<count).map { lanes[$0 * (lanes.count - 1) / (count - 1)] }
    }

    /// The time from the first order's first step to the last one's last.
    var span: (start: UInt64, end: UInt64)? {
        guard let start = lanes.map(\.start).min(), let end = lanes.map(\.end).max(), end > start else { return nil }
        return (start, end)
    }

    /// A short stretch of time in which the thread is in as many orders as it ever is, and `count` of those orders, in
    /// the order of their turns.
    func busiestMoment(lanes count: Int) -> (start: UInt64, length: UInt64, runs: Int, lanes: [Lane])? {
        guard let span else { return nil }
        let runs = lanes.enumerated().flatMap { index, lane in
            lane.stretches.filter { $0.state == .running }.map { (start: $0.start, lane: index) }
        }.sorted { $0.start < $1.start }
        var length: UInt64 = 125_000
        while true {
            let window = Self.fullest(runs.map(\.start), length)
            if window.count < 3 * count / 2, length < (span.end - span.start) / 8 {
                length *= 2
                continue
            }
            var visited: [Int] = []
            for run in runs[window] where !visited.contains(run.lane) { visited.append(run.lane) }
            guard visited.count > 1 else { return nil }
            let shown = min(count, visited.count)
            let chosen = (0..<shown).map { lanes[visited[$0 * (visited.count - 1) / max(1, shown - 1)]] }
            let start = runs[window.lowerBound].start
            return (start, length, window.count, chosen)
        }
    }

    /// The most values that lie within `length` of each other. `values` are sorted.
    private static func fullest(_ values: [UInt64], _ length: UInt64) -> Range<Int> {
        var best = 0..<0
        var first = 0
        for last in values.indices {
            while values[last] - values[first] >= length { first += 1 }
            if last + 1 - first > best.count { best = first..<(last + 1) }
        }
        return best
    }
}
