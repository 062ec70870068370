import Glibc
import Rondo
import RondoInsight

/// What the command shows: running downloads on a terminal, a line for each that has ended elsewhere, or JSON.
@MainActor
final class FetchDisplay {
    private static let period: Duration = .milliseconds(100)

    private unowned let run: FetchRun
    private let isJSON: Bool
    private let terminal = Terminal.errors
    private var screen = FetchScreen()
    /// Lines for people that go above the picture with the next one.
    private var news: [String] = []

    init(_ run: FetchRun, isJSON: Bool) {
        self.run = run
        self.isJSON = isJSON
    }

    func begin() { if terminal.isTerminal { Interrupt.hideCursor() } }

    /// Draws until the task is cancelled.
    func draw() async {
        guard terminal.isTerminal else { return }
        while !Task.isCancelled {
            drawOnce()
            try? await Task.sleep(for: Self.period)
        }
    }

    private func drawOnce() {
        let size = terminal.size
        let now = ContinuousClock.now
        for download in run.running { download.speed.note(download.received, at: now) }
        screen.speed.note(run.received, at: now)
        let rows = run.running.map { FetchScreen.Row($0, now: now) }
        let sum = FetchScreen.Sum(
            counts: run.counts, total: run.total, received: run.received,
            seconds: run.start.duration(to: now) / .seconds(1))
        terminal.write(screen.picture(rows: rows, sum: sum, above: news, size: size, on: terminal))
        news.removeAll()
    }

    /// A download has ended.
    func note(_ request: FetchRequest, _ name: String, _ download: Download?, _ outcome: FetchOutcome) {
        if isJSON {
            Terminal.output.say(Self.json(request, name, download, outcome))
        } else if case .failed(let words) = outcome {
            let line = "\(terminal.paint("failed", .red))  \(name)  \(Terminal.printable(words))"
            if terminal.isTerminal { news.append(line) } else { Terminal.errors.say(line) }
        } else if !terminal.isTerminal {
            Terminal.output.say(Self.plain(name, download, outcome))
        } else if case .done = outcome, run.total <= 20, let download {
            let bytes = Bytes.text(download.count).right(9)
            news.append(
                "\(terminal.paint("done", .green))    \(name)  \(terminal.paint(bytes.drop { $0 == " " } + "", .faint))"
            )
        }
    }

    func end() {
        guard terminal.isTerminal else { return }
        drawOnce()
        terminal.write(screen.erase(columns: terminal.size.columns))
        Interrupt.showCursor()
    }

    /// How it all ended.
    func report(_ counts: FetchRun.Counts, isInterrupted: Bool) {
        let seconds = run.start.duration(to: .now) / .seconds(1)
        if isJSON {
            Terminal.output.say(
                """
                {"downloaded":\(counts.done),"alreadyThere":\(counts.alreadyThere),"failed":\(counts.failed),\
                "interrupted":\(run.total - counts.done - counts.alreadyThere - counts.failed),\
                "bytes":\(run.received),"seconds":\(JSON.number(seconds))}
                """)
            return
        }
        var parts = ["\(counts.done.grouped) downloaded"]
        if counts.alreadyThere > 0 { parts.append("\(counts.alreadyThere.grouped) already there") }
        if counts.failed > 0 { parts.append("\(counts.failed.grouped) failed") }
        let speed = Bytes.text(Int64(Double(run.received) / max(seconds, 0.001)))
        let line =
            "\(parts.joined(separator: ", ")): \(Bytes.text(run.received)) in \(seconds.fixed(1)) s, \(speed)/s"
        (terminal.isTerminal ? Terminal.errors : Terminal.output).say(line)
        guard isInterrupted else { return }
        let left = run.total - counts.done - counts.alreadyThere - counts.failed
        let kept = counts.parts == 1 ? "1 is kept as .part" : "\(counts.parts.grouped) are kept as .part"
        Terminal.errors.say("interrupted: \(left.grouped) left, \(kept): the same command goes on with them")
    }

    // MARK: Lines

    private static func plain(_ name: String, _ download: Download?, _ outcome: FetchOutcome) -> String {
        switch outcome {
        case .done:
            "done     \(name)  \((download?.count ?? 0).grouped) bytes"
                + ((download?.resumedFrom ?? 0) > 0 ? ", from \(download!.resumedFrom.grouped) on" : "")
        case .alreadyThere: "there    \(name)"
        case .failed(let words): "failed   \(name)  \(Terminal.printable(words))"
        case .interrupted(let leavesPart): "stopped  \(name)\(leavesPart ? FetchNames.partSuffix + " is kept" : "")"
        }
    }

    private static func json(
        _ request: FetchRequest, _ name: String, _ download: Download?, _ outcome: FetchOutcome
    ) -> String {
        let (status, error): (String, String?) =
            switch outcome {
            case .done: ("done", nil)
            case .alreadyThere: ("alreadyThere", nil)
            case .failed(let words): ("failed", words)
            case .interrupted: ("interrupted", nil)
            }
        var fields = [
            "\"url\":\(JSON.string(request.url))", "\"file\":\(JSON.string(name))", "\"status\":\"\(status)\"",
        ]
        if let download {
            fields += ["\"bytes\":\(download.count)", "\"attempts\":\(download.attempts)"]
            fields.append("\"resumedFrom\":\(download.resumedFrom)")
            if case .done = outcome, let sum = download.sha256 {
                fields.append("\"sha256\":\"\(FetchList.hexadecimal(sum))\"")
            }
        }
        if let error { fields.append("\"error\":\(JSON.string(error))") }
        return "{\(fields.joined(separator: ","))}"
    }
}
