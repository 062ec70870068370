// A trace in words, for a terminal of 80 columns.

import Rondo

/// Tells what a trace shows.
package struct TraceSummary {
    let model: TraceModel
    let isAlive: Bool

    package init(_ model: TraceModel, isAlive: Bool) {
        self.model = model
        self.isAlive = isAlive
    }

    /// All of it, a line each.
    package var lines: [String] {
        var lines = head
        if model.eventCount == 0 { return lines + ["", "nothing was recorded"] }
        for part in [loops, busiestTasks, longestWaits, spans, kinds] where !part.isEmpty { lines += [""] + part }
        return lines
    }

    private var span: UInt64 { model.end - model.start }

    private var head: [String] {
        let state = isAlive ? "running" : "not running any more"
        let count = model.tasks.count { $0.isTask }
        var facts = "\(grouped(model.eventCount)) events of \(grouped(count)) tasks"
        if model.dropped > 0 { facts += "; \(grouped(model.dropped)) older events were overwritten" }
        return [
            "\(model.program.printable), process \(model.process), \(state)",
            "\(spoken(nanoseconds: span)) until \(spoken(secondsSince1970: model.seconds(at: model.end)))", facts,
        ]
    }

    // MARK: Loops

    private var loops: [String] {
        let head =
            "loop  driver".left(17) + "turns".right(10) + "jobs".right(11) + "running".right(10)
            + "longest turn".right(16) + "most ready".right(13)
        return [head]
            + model.loops.map { ring in
                let turns = model.turns.filter { $0.loop == ring.loop }
                let busy = turns.reduce(0) { $0 + $1.waits - $1.start }
                let longest = turns.map { $0.waits - $0.start }.max() ?? 0
                return "\(ring.loop)".right(4) + "  \(ring.driver.printable)".left(13) + grouped(turns.count).right(10)
                    + grouped(turns.reduce(0) { $0 + $1.jobs }).right(11) + percent(busy, of: span).right(10)
                    + spoken(nanoseconds: longest).right(16)
                    + grouped(turns.map { $0.readyJobs + $0.jobs }.max() ?? 0).right(13)
            }
    }

    // MARK: Tasks

    private static let rows = 10

    private var busiestTasks: [String] {
        let head =
            "busiest tasks".left(26) + "jobs".right(9) + "running".right(11) + "share".right(9) + "  waits mostly for"
        let busiest = model.tasks.indices.sorted { model.tasks[$0].running > model.tasks[$1].running }
            .prefix(Self.rows)
        let waits = waits(of: Set(busiest))
        let rows = busiest.map { index in
            let task = model.tasks[index]
            return task.title.printable.left(26) + grouped(task.jobs).right(9)
                + spoken(nanoseconds: task.running).right(11) + percent(task.running, of: span).right(9)
                + (waits[index].map { "  \($0)" } ?? "").left(25)
        }
        return rows.isEmpty ? [] : [head] + rows.map(trimmed)
    }

    /// What each of some tasks waits for most of its time.
    private func waits(of tasks: Set<Int>) -> [Int: String] {
        var times: [Int: [String: UInt64]] = [:]
        for stretch in model.stretches where stretch.state == .waiting && tasks.contains(stretch.task) {
            times[stretch.task, default: [:]][model.words(for: stretch.wait).printable, default: 0] += stretch.duration
        }
        return times.mapValues { times in times.max { ($0.value, $0.key) < ($1.value, $1.key) }!.key }
    }

    private var longestWaits: [String] {
        let waits = model.stretches.filter { $0.state == .waiting }
            .sorted { $0.duration > $1.duration }
        // One row for each task and reason: ten waits of one task would hide all others.
        var seen: Set<String> = []
        var rows: [String] = []
        for wait in waits where rows.count < Self.rows {
            let what = model.words(for: wait.wait).printable
            guard seen.insert("\(wait.task) \(what)").inserted else { continue }
            let still = wait.isOpen ? ", still" : ""
            rows.append(
                model.tasks[wait.task].title.printable.left(35) + spoken(nanoseconds: wait.duration).right(11)
                    + "  \(what)\(still)".left(34))
        }
        return rows.isEmpty ? [] : ["longest waits".left(35) + "time".right(11) + "  what for"] + rows.map(trimmed)
    }

    // MARK: Spans

    private var spans: [String] {
        let times = Dictionary(grouping: model.spans.filter { !$0.isOpen }, by: \.name)
            .mapValues { $0.map(\.duration).sorted() }
        let busiest = times.sorted { ($0.value.reduce(0, +), $1.key) > ($1.value.reduce(0, +), $0.key) }
        let rows = busiest.prefix(Self.rows).map { name, times in
            name.printable.left(35) + grouped(times.count).right(11)
                + spoken(nanoseconds: times[times.count / 2]).right(11) + spoken(nanoseconds: times.last!).right(11)
        }
        let head = "spans".left(35) + "ended".right(11) + "median".right(11) + "longest".right(11)
        return rows.isEmpty ? [] : [head] + rows
    }

    // MARK: Operations

    private var kinds: [String] {
        var entries = model.operations.sorted { ($0.value, $1.key.rawValue) > ($1.value, $0.key.rawValue) }
            .map { ($0.key.words, $0.value) }
        if model.timers > 0 { entries.append(("timers fired", model.timers)) }
        if entries.isEmpty { return [] }
        var lines = ["operations completed"]
        for start in stride(from: 0, to: entries.count, by: 3) {
            let row = entries[start..<min(start + 3, entries.count)]
            lines.append(trimmed(row.map { $0.0.left(14) + grouped($0.1).right(10) + "   " }.joined()))
        }
        if !model.offloads.isEmpty {
            let times = model.offloads.map { $0.end - min($0.start, $0.end) }.sorted()
            let (median, longest) = (spoken(nanoseconds: times[times.count / 2]), spoken(nanoseconds: times.last!))
            lines.append("\(grouped(times.count)) calls in the offload pool: median \(median), longest \(longest)")
        }
        return lines
    }

    private func trimmed(_ line: String) -> String {
        var line = line
        while line.last == " " { line.removeLast() }
        return line
    }
}
