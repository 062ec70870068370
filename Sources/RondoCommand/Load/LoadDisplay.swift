import Rondo
import RondoInsight

/// What `rondo load` shows on a terminal while it runs.
@MainActor
final class LoadDisplay {
    private static let period: Duration = .milliseconds(200)
    private static let blocks: [Character] = ["▁", "▂", "▃", "▄", "▅", "▆", "▇", "█"]

    private unowned let run: LoadRun
    private let terminal = Terminal.errors
    /// Answers a second, of each period so far.
    private var rates: [Double] = []
    private var last: (time: ContinuousClock.Instant, answers: Int)?
    private var linesDrawn = 0

    init(_ run: LoadRun) { self.run = run }

    func begin() { if terminal.isTerminal { Interrupt.hideCursor() } }

    /// Draws until the task is cancelled.
    func draw() async {
        guard terminal.isTerminal else { return }
        while !Task.isCancelled {
            drawOnce()
            try? await Task.sleep(for: Self.period)
        }
    }

    /// The picture goes.
    func end() {
        guard terminal.isTerminal else { return }
        terminal.write(linesDrawn > 1 ? "\r\u{1B}[\(linesDrawn - 1)A\u{1B}[J" : "\r\u{1B}[J")
        Interrupt.showCursor()
    }

    private func drawOnce() {
        let now = ContinuousClock.now
        if let last {
            let seconds = last.time.duration(to: now) / .seconds(1)
            if seconds > 0 { rates.append(Double(run.result.answers - last.answers) / seconds) }
        }
        last = (now, run.result.answers)
        let width = terminal.size.columns - 1
        var lines = [
            terminal.paint(String(run.target.url.prefix(width)), .bold),
            bar(run.start.duration(to: now), of: run.options.duration, width),
            "answers/s  \((rates.last ?? 0).fixed(0).right(9))  " + Self.spark(rates, max(0, width - 22)),
        ]
        if run.result.answers > 0 { lines.append(String(percentiles.prefix(width))) }
        if !run.result.failures.isEmpty {
            let failures = Terminal.printable(run.result.failureList)
            lines.append(terminal.paint(String("failed     \(failures)".prefix(width)), .red))
        }
        let back = linesDrawn > 1 ? "\r\u{1B}[\(linesDrawn - 1)A" : "\r"
        // In one piece (synchronized output): no terminal shows half of it.
        let picture = lines.map { $0 + "\u{1B}[K" }.joined(separator: "\n")
        terminal.write("\u{1B}[?2026h\(back)\(picture)\u{1B}[J\u{1B}[?2026l")
        linesDrawn = lines.count
    }

    private func bar(_ elapsed: Duration, of all: Duration, _ width: Int) -> String {
        let times = "\(Bytes.time(elapsed / .seconds(1))) of \(Bytes.time(all / .seconds(1)))"
        let room = max(0, width - times.count - 2)
        let full = Int(min(1, elapsed / all) * Double(room))
        return times + "  " + terminal.paint(String(repeating: "━", count: full), .cyan)
            + terminal.paint(String(repeating: "─", count: room - full), .faint)
    }

    /// A line of blocks, as high as the last of the numbers.
    static func spark(_ values: [Double], _ width: Int) -> String {
        let shown = values.suffix(width)
        guard let most = shown.max(), most > 0 else { return "" }
        return String(shown.map { blocks[min(7, Int($0 / most * 7.99))] })
    }

    private var percentiles: String {
        let shown = LoadReport.percentiles.filter { ["50 %", "90 %", "99 %", "max"].contains($0.name) }
        let latency = run.result.latency
        return "latency    "
            + shown.map { "\($0.name) \(LoadReport.time(latency.valueAtPercentile($0.percentile)))" }.joined(
                separator: "   ")
    }
}
