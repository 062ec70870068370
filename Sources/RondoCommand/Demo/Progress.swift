import Rondo

/// How far a run is: a bar on a terminal, one line at the end elsewhere.
final class Progress {
    private static let barWidth = 26
    private static let redrawAfter: Duration = .milliseconds(40)

    private let title: String
    private let total: Int
    private let terminal = Terminal.errors
    private let start = ContinuousClock.now
    private var lastDrawn: ContinuousClock.Instant?
    private var done = 0

    /// - Parameter total: orders.
    init(_ title: String, total: Int) {
        self.title = title
        self.total = total
        if terminal.isTerminal { Interrupt.hideCursor() }
        draw(fraction: 0)
    }

    /// One more order has ended.
    ///
    /// - Parameter fraction: how far the run is, if not by the number of orders.
    func advance(fraction: Double? = nil) {
        done += 1
        let now = ContinuousClock.now
        if let lastDrawn, lastDrawn.duration(to: now) < Self.redrawAfter { return }
        draw(fraction: fraction ?? Double(done) / Double(total))
    }

    /// The run is over: the last state stays to be seen.
    func finish() {
        draw(fraction: 1)
        if terminal.isTerminal {
            terminal.write("\n")
            Interrupt.showCursor()
        } else {
            terminal.say(line)
        }
    }

    private var line: String {
        let seconds = Double(start.duration(to: .now).nanosecondsRoundedUp) / 1e9
        let orders = "\(done.grouped) of \(total.grouped)"
        return "\(title.left(17))  \(orders.right(14)) orders  \(seconds.fixed(2).right(7)) s"
    }

    private func draw(fraction: Double) {
        guard terminal.isTerminal else { return }
        lastDrawn = .now
        let width = terminal.width
        // Room for the ^C that a terminal shows stays free.
        let room = max(0, min(Self.barWidth, width - line.count - 5))
        let full = Int((max(0, min(1, fraction)) * Double(room)).rounded())
        let bar =
            terminal.paint(String(repeating: "━", count: full), .green)
            + terminal.paint(String(repeating: "─", count: room - full), .faint)
        terminal.write("\r\u{1B}[K" + (room > 3 ? line + "  " + bar : String(line.prefix(width - 1))))
    }
}
