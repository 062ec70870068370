// The picture of running downloads: lines that are written over each other, a total below. What to write is computed
// here, from values, so that it can be tested.

import Rondo

/// Draws pictures one over the other.
struct FetchScreen {
    /// A running download.
    struct Row: Equatable {
        var name: String
        var count: Int64
        var total: Int64?
        var speed: Double
        /// What it waits for, instead of numbers.
        var words: String?
    }

    /// All of them.
    struct Sum: Equatable {
        var counts = FetchRun.Counts()
        var total: Int
        var received: Int64
        var seconds: Double
    }

    /// The speed of all together.
    var speed = Speed()
    /// How long the lines of the last picture were, and where they stood.
    private var widths: [Int] = []

    /// What takes the last picture away.
    mutating func erase(columns: Int) -> String {
        defer { widths = [] }
        return widths.isEmpty ? "" : back(columns: columns)
    }

    /// What replaces the last picture by this one.
    ///
    /// - Parameter above: lines that stay, above it.
    mutating func picture(
        rows: [Row], sum: Sum, above: [String], size: (columns: Int, rows: Int), on terminal: Terminal
    ) -> String {
        // A column and a line stay free: a full line would wrap, a full screen scroll.
        let width = max(10, size.columns - 1)
        let room = max(1, size.rows - 3)
        var lines = rows.prefix(rows.count > room ? room - 1 : room).map { Self.line($0, width, terminal) }
        if rows.count > lines.count {
            lines.append((text: terminal.paint("… and \((rows.count - lines.count).grouped) more", .faint), width: 16))
        }
        lines.append(Self.line(sum, speed.bytesPerSecond, width, terminal))
        var text = "\u{1B}[?2026h" + back(columns: size.columns)
        for line in above { text += line + "\u{1B}[K\n" }
        text += lines.map { $0.text + "\u{1B}[K" }.joined(separator: "\n") + "\u{1B}[J\u{1B}[?2026l"
        widths = lines.map(\.width)
        return text
    }

    /// To the start of the last picture, which may stand on more lines if the terminal has become narrower.
    private func back(columns: Int) -> String {
        let lines = widths.reduce(0) { $0 + max(1, ($1 + columns - 1) / columns) }
        return lines > 1 ? "\r\u{1B}[\(lines - 1)A\u{1B}[J" : "\r\u{1B}[J"
    }

    // MARK: Lines

    static func line(_ row: Row, _ width: Int, _ terminal: Terminal) -> (text: String, width: Int) {
        let nameWidth = max(8, min(32, width / 3))
        let name = shortened(row.name, nameWidth).left(nameWidth)
        if let words = row.words {
            let rest = String(words.prefix(max(0, width - nameWidth - 2)))
            return (name + "  " + terminal.paint(rest, .yellow), nameWidth + 2 + rest.count)
        }
        let bytes = Bytes.text(row.count).right(9)
        let speed = (row.speed > 0 ? Bytes.text(Int64(row.speed)) + "/s" : "").right(11)
        let left = row.total.map { row.speed > 1 ? Double($0 - row.count) / row.speed : -1 } ?? -1
        let time = (left >= 0 ? Bytes.time(left) : "").right(8)
        let numbers = bytes + speed + time
        let fraction = row.total.map { $0 > 0 ? Double(row.count) / Double($0) : 1 }
        return framed(name, fraction, numbers, width, terminal)
    }

    static func line(_ sum: Sum, _ speed: Double, _ width: Int, _ terminal: Terminal) -> (text: String, width: Int) {
        let nameWidth = max(8, min(32, width / 3))
        let ended = sum.counts.ended
        var name = "\(ended.grouped) of \(sum.total.grouped)"
        if sum.counts.failed > 0 { name += ", \(sum.counts.failed.grouped) failed" }
        name = shortened(name, nameWidth).left(nameWidth)
        let bytes = Bytes.text(sum.received).right(9)
        let perSecond = (speed > 0 ? Bytes.text(Int64(speed)) + "/s" : "").right(11)
        let numbers = bytes + perSecond + Bytes.time(sum.seconds).right(8)
        let fraction = sum.total > 0 ? Double(ended) / Double(sum.total) : 1
        let line = framed(name, fraction, numbers, width, terminal, isBold: true)
        return line
    }

    /// Name, bar, per cent, numbers.
    private static func framed(
        _ name: String, _ fraction: Double?, _ numbers: String, _ width: Int, _ terminal: Terminal, isBold: Bool = false
    ) -> (text: String, width: Int) {
        let percent = (fraction.map { "\(Int((min(1, $0) * 100).rounded(.down))) %" } ?? "").right(6)
        let room = width - name.count - 2 - percent.count - numbers.count
        let title = isBold ? terminal.paint(name, .bold) : name
        guard room >= 4 else {
            let line = String((name + " " + percent + numbers).prefix(width))
            return (line, line.count)
        }
        let bar: String
        if let fraction {
            let full = Int((max(0, min(1, fraction)) * Double(room)).rounded(.down))
            bar =
                terminal.paint(String(repeating: "━", count: full), isBold ? .cyan : .green)
                + terminal.paint(String(repeating: "─", count: room - full), .faint)
        } else {
            bar = terminal.paint(String(repeating: "╌", count: room), .faint)
        }
        return (title + "  " + bar + percent + numbers, width)
    }

    /// The start and the end of a name that is too long.
    private static func shortened(_ name: String, _ width: Int) -> String {
        if name.count <= width { return name }
        let tail = min(8, width / 3)
        return name.prefix(width - tail - 1) + "…" + name.suffix(tail)
    }
}

extension FetchScreen.Row {
    /// What a download looks like now.
    @MainActor
    init(_ download: Download, now: ContinuousClock.Instant) {
        name = download.name
        count = download.count
        total = download.total
        speed = download.speed.bytesPerSecond
        switch download.state {
        case .connecting: words = download.attempts <= 1 ? "connecting" : "connecting, try \(download.attempts)"
        case .receiving: words = nil
        case .checking: words = "writing to the disk"
        case .waiting(let until, let why):
            let seconds = max(0, now.duration(to: until) / .seconds(1))
            words = "again in \(seconds.fixed(1)) s: \(Terminal.printable(why))"
        }
    }
}

/// Bytes and times for columns.
enum Bytes {
    /// `512 B`, `1.5 kB`, `12.3 MB`.
    static func text(_ count: Int64) -> String {
        if count < 1000 { return "\(count) B" }
        var value = Double(count) / 1000
        var unit = 0
        let units = ["kB", "MB", "GB", "TB", "PB", "EB"]
        while value >= 999.95, unit < units.count - 1 {
            value /= 1000
            unit += 1
        }
        return "\(value.fixed(1)) \(units[unit])"
    }

    /// `0:07`, `12:34`, `1:02:03`.
    static func time(_ seconds: Double) -> String {
        guard seconds < 360_000 else { return "" }
        let all = Int(seconds.rounded())
        let (hours, minutes, rest) = (all / 3600, all / 60 % 60, all % 60)
        let end = (rest < 10 ? "0" : "") + "\(rest)"
        if hours == 0 { return "\(minutes):\(end)" }
        return "\(hours):\(minutes < 10 ? "0" : "")\(minutes):\(end)"
    }
}

/// Bytes a second, over the last second or so.
struct Speed: Equatable {
    private var lastCount: Int64 = 0
    private var last: ContinuousClock.Instant?
    private(set) var bytesPerSecond = 0.0

    /// So many bytes have come so far.
    mutating func note(_ count: Int64, at now: ContinuousClock.Instant) {
        guard let before = last else {
            (last, lastCount) = (now, count)
            return
        }
        let seconds = before.duration(to: now) / .seconds(1)
        if seconds < 0.05 { return }
        let current = Double(count - lastCount) / seconds
        // What is older than a second or so counts for little.
        let weight = min(1, seconds / 0.8)
        bytesPerSecond = bytesPerSecond == 0 ? current : bytesPerSecond * (1 - weight) + current * weight
        (last, lastCount) = (now, count)
    }
}
