// The demo's report for people.

import Rondo

extension DemoResult {
    /// All of the report, for a terminal of any width; tables are at most 80 columns wide.
    func text(for terminal: Terminal) -> String {
        let width = max(40, min(terminal.width, 160))
        let lines =
            head(width: width) + [""] + runs(terminal) + [""] + times(terminal) + [""] + facts(width: min(width, 100))
            + timeline(terminal, width: width)
        return lines.joined(separator: "\n") + "\n"
    }

    private func head(width: Int) -> [String] {
        let bytes = files.reduce(0) { $0 + $1.size }
        return [
            "\(orders.grouped) orders for \(files.count.grouped) files (\(bytes.grouped) bytes) of \(folder)",
            "origin answers after \(Self.plain(latencyMilliseconds)) ms, give or take a quarter",
        ] + "driver \(driver): \(driverReason)".wrapped(width) + notes
    }

    // MARK: Tables

    private func runs(_ terminal: Terminal) -> [String] {
        func row(_ name: String, _ run: RunOutcome) -> String {
            name.left(18) + run.verified.count.grouped.right(10) + run.seconds.fixed(3).right(12)
                + run.ordersPerSecond.fixed(1).right(14) + run.bytesVerified.grouped.right(18)
        }
        let head =
            "".left(18) + "orders".right(10) + "seconds".right(12) + "orders/s".right(14) + "bytes verified".right(18)
        return [
            terminal.paint(head, .faint),
            row("one after another", sequential),
            row("all at once", concurrent),
            terminal.paint("".left(18) + "ratio".right(22) + ratio.fixed(1).right(14), .bold),
        ]
    }

    private func times(_ terminal: Terminal) -> [String] {
        let states: [(String, Lane.State)] = [
            ("running", .running), ("ready", .ready), ("waiting for database", .waiting(.database)),
            ("waiting for origin", .waiting(.origin)), ("waiting for customer", .waiting(.customer)),
        ]
        let head =
            "an order, all at once".left(28) + "median ms".right(14) + "longest ms".right(15)
            + "all orders ms".right(15)
        return [terminal.paint(head, .faint)]
            + states.map { name, state in
                let times = recording.lanes.map { $0.nanoseconds(in: state) }.sorted()
                let median = times.isEmpty ? 0 : times[times.count / 2]
                return name.left(28) + Self.milliseconds(median, 3).right(14)
                    + Self.milliseconds(times.last ?? 0, 3).right(15)
                    + Self.milliseconds(times.reduce(0, +), 1).right(15)
            }
    }

    private func facts(width: Int) -> [String] {
        let busy = recording.busy.reduce(0) { $0 + $1.end - $1.start }
        let total = concurrent.seconds * 1e9
        let share = total > 0 ? Double(busy) / total * 100 : 0
        var facts = [
            ("most orders waiting at once", "\(recording.mostWaiting.grouped) of \(orders.grouped)"),
            ("threads that ran them all", "\(loopThreads)"),
            (
                "what that thread did",
                "\(recording.busy.count.grouped) steps of tasks and \(systemCalls.grouped) system calls in "
                    + "\(turns.grouped) turns; \(share.fixed(0)) % of the time in tasks"
            ),
        ]
        if sequential.outcomes.count < orders {
            let count = sequential.outcomes.count.grouped
            facts.append(("one after another", "\(count) of \(orders.grouped) orders fitted into --sequential-budget"))
        }
        if ordersAtOnce < orders {
            let words = "no more than \(ordersAtOnce.grouped) together, by the limit of open files: raise it, ulimit -n"
            facts.append(("all at once", words))
        }
        if recording.dropped > 0 {
            facts.append(("not recorded", "the first \(recording.dropped.grouped) events; the times are of the rest"))
        }
        return facts.flatMap { name, value in
            value.wrapped(width - 29).enumerated().map { ($0.offset == 0 ? name : "").left(29) + $0.element }
        }
    }

    // MARK: The timeline

    private func timeline(_ terminal: Terminal, width: Int) -> [String] {
        guard let span = recording.span else { return [] }
        let lanes = recording.evenLanes(12)
        let sentence =
            "Each lane is the task of one order. One thread runs them all, one at a time (█): while a task waits, "
            + "the thread is in another lane."
        var lines = ["", ""]
        lines += sentence.wrapped(width).map { terminal.paint($0, .bold) }
        lines += [""] + Timeline.legend(terminal, width: width) + [""]
        lines += Timeline(lanes: lanes, start: span.start, end: span.end, width: width, terminal: terminal).lines
        if let moment = recording.busiestMoment(lanes: 10) {
            let since = Self.milliseconds(moment.start - min(span.start, moment.start), 1)
            let words =
                "A moment of it, \(since) ms after the start: \(moment.runs.grouped) steps of orders within "
                + "\(Self.plain(Double(moment.length) / 1e3)) µs, one at a time. \(moment.lanes.count) of these orders:"
            lines += [""] + words.wrapped(width).map { terminal.paint($0, .bold) } + [""]
            lines +=
                Timeline(
                    lanes: moment.lanes, start: moment.start, end: moment.start + moment.length, width: width,
                    terminal: terminal
                ).lines
        }
        return lines
    }

    private static func milliseconds(_ nanoseconds: UInt64, _ decimals: Int) -> String {
        (Double(nanoseconds) / 1e6).fixed(decimals)
    }

    /// Without decimals that say nothing.
    private static func plain(_ value: Double) -> String {
        value == value.rounded() ? value.fixed(0) : value.fixed(2)
    }
}
