// The screen of `rondo top`: what it shows, and what a key changes. It neither reads nor writes anything.

/// A program's state over time, on a screen of any size.
struct TopScreen {
    enum Key: Equatable { case character(Character), up, down, pageUp, pageDown, enter, escape, backspace }

    enum Order: String, CaseIterable {
        case longest = "longest in its state", id = "id", name = "name", state = "state"
    }

    private enum Mode: Equatable { case list, stack(task: UInt64), filter, help }

    /// Seconds of some clock.
    typealias Time = Double

    private var program: InspectedProgram?
    private var time: Time = 0
    private var rates: [Int: Rates] = [:]
    private var failure: String?
    private var mode = Mode.list
    private var order = Order.longest
    private var filter = ""
    private(set) var isFrozen = false
    private var selected = 0
    private var offset = 0

    private struct Rates {
        var turns, jobs, operations, cpu: Double
    }

    // MARK: News

    /// A new answer of the program.
    mutating func update(_ new: InspectedProgram, at now: Time) {
        failure = nil
        if isFrozen { return }
        if let program, now > time {
            for (before, after) in zip(program.loops, new.loops) where before.number == after.number {
                func rate(_ value: (InspectedProgram.Loop) -> Int?) -> Double {
                    Double((value(after) ?? 0) - (value(before) ?? 0)) / (now - time)
                }
                guard before.answers, after.answers else { continue }
                rates[after.number] = Rates(
                    turns: rate(\.turns), jobs: rate(\.jobs), operations: rate(\.operations),
                    cpu: ((after.cpu ?? 0) - (before.cpu ?? 0)) / 1000 / (now - time))
            }
        }
        program = new
        time = now
    }

    /// The program can't be asked any more.
    mutating func fail(_ text: String) { failure = text }

    /// - Returns: false if the user wants to leave.
    mutating func handle(_ key: Key) -> Bool {
        switch mode {
        case .filter: handleInFilter(key)
        case .help: mode = .list
        case .stack:
            if key == .character("q") { return false }
            if [.escape, .enter, .backspace].contains(key) { mode = .list }
        case .list: return handleInList(key)
        }
        return true
    }

    private mutating func handleInFilter(_ key: Key) {
        switch key {
        case .character(let character): filter.append(character)
        case .backspace: _ = filter.popLast()
        case .escape:
            filter = ""
            mode = .list
        default: mode = .list
        }
        selected = 0
    }

    private mutating func handleInList(_ key: Key) -> Bool {
        switch key {
        case .character("q"): return false
        case .character("s"):
            let all = Order.allCases
            order = all[(all.firstIndex(of: order)! + 1) % all.count]
        case .character("f"), .character(" "): isFrozen.toggle()
        case .character("/"):
            filter = ""
            mode = .filter
        case .character("?"), .character("h"): mode = .help
        case .up, .character("k"): selected -= 1
        case .down, .character("j"): selected += 1
        case .pageUp: selected -= 10
        case .pageDown: selected += 10
        case .escape: filter = ""
        case .enter: if tasks.indices.contains(selected) { mode = .stack(task: tasks[selected].id) }
        default: break
        }
        selected = max(0, min(selected, tasks.count - 1))
        return true
    }

    /// Those that the filter lets through, in order.
    private var tasks: [InspectedProgram.Task] {
        let all = (program?.tasks ?? []).filter { task in
            filter.isEmpty || task.title.contains(filter) || task.waits.contains(filter) || task.state == filter
        }
        return switch order {
        case .longest: all.sorted { ($0.since, $1.id) > ($1.since, $0.id) }
        case .id: all.sorted { $0.id < $1.id }
        case .name: all.sorted { ($0.title, $0.id) < ($1.title, $1.id) }
        case .state: all.sorted { ($0.state, $0.id) < ($1.state, $1.id) }
        }
    }

    // MARK: The picture

    /// Exactly `height` lines of at most `width` columns.
    mutating func lines(width: Int, height: Int, for terminal: Terminal) -> [String] {
        let width = max(width, 40)
        var lines = head(width, terminal)
        let footer = footer(width, terminal)
        let room = max(1, height - lines.count - footer.count)
        switch mode {
        case .help: lines += Self.help
        case .stack(let id): lines += stack(of: id, width, terminal)
        case .list, .filter: lines += list(room, width, terminal)
        }
        lines = Array(lines.prefix(max(0, height - footer.count)))
        lines += Array(repeating: "", count: max(0, height - footer.count - lines.count))
        return Array((lines + footer).prefix(height))
    }

    private func head(_ width: Int, _ terminal: Terminal) -> [String] {
        guard let program else { return [failure ?? "asking…"] }
        func count(_ state: String) -> String { program.tasks.filter { $0.state == state }.count.grouped }
        let title = "\(program.program ?? "process") (\(program.pid))"
        let counts =
            "\(program.tasks.count.grouped) tasks: \(count("running")) running, \(count("ready")) ready, "
            + "\(count("waiting")) waiting"
        let state = failure.map { "  \($0)" } ?? (isFrozen ? "  FROZEN" : "")
        var lines = [
            terminal.paint(title.cut(width), .bold) + terminal.paint(state.cut(max(0, width - title.count)), .yellow),
            counts.cut(width), "",
            terminal.paint(
                ("LOOP".left(6) + "TURNS/S".right(9) + "JOBS/S".right(10) + "OPS/S".right(10) + "CPU".right(7)
                    + "LAG P50".right(10) + "P99".right(9) + "MAX".right(9) + "READY".right(7)).cut(width), .faint),
        ]
        for loop in program.loops.prefix(8) { lines.append(row(loop, terminal).cut(width)) }
        return lines + [""]
    }

    private func row(_ loop: InspectedProgram.Loop, _ terminal: Terminal) -> String {
        let name = String(loop.number).left(6)
        if !loop.answers { return name + "does not answer: it runs one long job (see below)" }
        func milliseconds(_ value: Double?) -> String { (value ?? 0).fixed(value ?? 0 < 10 ? 2 : 0) + " ms" }
        let rates = rates[loop.number]
        func rate(_ value: Double?) -> String { value.map { $0.fixed(0) } ?? "–" }
        return name + rate(rates?.turns).right(9) + rate(rates?.jobs).right(10) + rate(rates?.operations).right(10)
            + (rates.map { ($0.cpu * 100).fixed(0) + " %" } ?? "–").right(7) + milliseconds(loop.lagMedian).right(10)
            + milliseconds(loop.lagP99).right(9) + milliseconds(loop.lagMax).right(9)
            + (loop.readyJobs ?? 0).grouped.right(7)
    }

    private mutating func list(_ room: Int, _ width: Int, _ terminal: Terminal) -> [String] {
        let tasks = tasks
        selected = max(0, min(selected, tasks.count - 1))
        let rows = max(1, room - 1)
        if selected < offset { offset = selected }
        if selected >= offset + rows { offset = selected - rows + 1 }
        offset = max(0, min(offset, tasks.count - rows))
        let head = "     ID  STATE       FOR  TASK".left(52) + "WAITS FOR"
        var lines = [terminal.paint(head.cut(width), .faint)]
        for (index, task) in tasks.enumerated().dropFirst(offset).prefix(rows) {
            let left = String(task.id).right(7) + "  " + task.state.left(8) + task.age.right(7) + "  "
            let line = (left + task.title.cut(25).left(26) + task.waits).cut(width)
            lines.append(index == selected ? terminal.invert(line.left(width)) : terminal.paint(line, task.colour))
        }
        if tasks.isEmpty { lines.append(filter.isEmpty ? "no tasks" : "no task with \"\(filter)\"") }
        return lines
    }

    private func stack(of id: UInt64, _ width: Int, _ terminal: Terminal) -> [String] {
        guard let task = program?.tasks.first(where: { $0.id == id }) else { return ["task \(id) has ended"] }
        let title = "task \(id)" + (task.name.map { " \"\($0)\"" } ?? "") + ", \(task.kind)"
        var lines = [
            terminal.paint(title.cut(width), .bold),
            "\(task.state) for \(task.age), priority \(task.priority)\(task.cancelled ? ", cancelled" : "")"
                + (task.parent.map { ", made by task \($0)" } ?? ""),
        ]
        if !task.waits.isEmpty { lines.append("waits for \(task.waits)".cut(width)) }
        lines.append("")
        for place in (task.stack ?? []).filter(\.isWorthShowing) {
            lines.append(terminal.paint("  " + place.text(width - 2), place.isUsers ? .bold : .faint))
        }
        return lines
    }

    private func footer(_ width: Int, _ terminal: Terminal) -> [String] {
        var lines: [String] = []
        if let finding = program?.findings.last?.text ?? program?.loopFindings.last {
            lines += finding.wrapped(width).prefix(2).map { terminal.paint($0.cut(width), .yellow) }
        }
        let keys =
            switch mode {
            case .filter: "filter: \(filter)▏  Enter keep it, Esc leave it"
            case .stack: "Esc back  q quit"
            case .help: "any key: back"
            case .list:
                "q quit  s sort: \(order.rawValue)  / filter\(filter.isEmpty ? "" : ": \(filter)")  f "
                    + "\(isFrozen ? "go on" : "freeze")  Enter stack  ? help"
            }
        return lines + [terminal.paint(keys.cut(width), .faint)]
    }

    private static let help = [
        "↑ ↓ j k      choose a task           PgUp PgDn   ten at once",
        "Enter        its stack of async calls, and what it waits for",
        "s            sort by age in its state, id, name, state",
        "/            show tasks whose name, state or wait has the text; Esc shows all",
        "f, space     freeze the picture, and let it go on",
        "q, Ctrl-C    leave; the program goes on", "",
        "TURNS/S      passes of the loop: it looks for news in each",
        "JOBS/S       steps of tasks between two awaits",
        "CPU          of a core, the kernel's work for the loop included",
        "LAG          how long a turn took: so long may a ready task stand in line",
    ]
}

extension InspectedProgram.Task {
    /// Its name, or the function that it is in.
    fileprivate var title: String {
        name ?? stack?.first(where: \.isUsers)?.function ?? stack?.last?.function ?? kind
    }

    fileprivate var colour: Colour {
        switch state {
        case "running": .brightGreen
        case "ready": .green
        default: .plain
        }
    }
}
