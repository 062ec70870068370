import ArgumentParser
import Glibc
import Rondo
import RondoInsight

/// `rondo ps`: what the tasks of a program are doing.
struct PsCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "ps",
        abstract: "Show every task of a running program: what it does, and what it waits for.",
        discussion: """
            Without PID: the programs of yours that can be looked at. The tasks form a tree: below each task stand \
            those that it has made. FOR is how long a task has been in its state, to about a millisecond. The program \
            goes on meanwhile: its loops are asked between two jobs, 128 tasks at a time.
            """)

    @Argument(help: ArgumentHelp("The process to look at.", valueName: "pid"))
    var processID: Int32?

    @Flag(help: "Print the program's answer as it came: one JSON object.")
    var json = false

    @Option(
        help: ArgumentHelp(
            "Report tasks that wait so long at a continuation of the program's own.", valueName: "seconds"))
    var lostAfter = 10.0

    @Flag(help: "Print each task's stack of async calls, too.")
    var stacks = false

    func run() throws {
        guard let processID else { return list() }
        let (json, stacks, lostAfter) = (json, stacks, lostAfter)
        Command.runOnLoop {
            let answer = try await InspectedProgram.ask(processID)
            if json {
                Terminal.output.write(String(decoding: answer, as: UTF8.self))
            } else {
                let tree = TaskTree(try InspectedProgram(answer), showsStacks: stacks, lostAfter: lostAfter)
                Terminal.output.write(tree.text(for: .output))
            }
            return 0
        }
    }

    private func list() {
        let own = getpid()
        let processes = InspectorPlace.processes().filter { $0 != own }
        if json {
            return Terminal.output.say("[" + processes.map(String.init).joined(separator: ",") + "]")
        }
        if processes.isEmpty {
            Terminal.errors.say("No program of yours that runs on Rondo can be looked at now.")
            return
        }
        Terminal.output.say(Terminal.output.paint("    PID  PROGRAM", .faint))
        for process in processes {
            Terminal.output.say(String(process).right(7) + "  " + Self.commandLine(of: process))
        }
    }

    private static func commandLine(of process: Int32) -> String {
        guard let file = unsafe fopen("/proc/\(process)/cmdline", "r") else { return "" }
        defer { unsafe fclose(file) }
        var bytes = [UInt8](repeating: 0, count: 4096)
        // SAFETY: the array has so many bytes.
        let count = unsafe fread(&bytes, 1, bytes.count, file)
        return bytes[..<count].split(separator: 0).map { String(decoding: $0, as: UTF8.self) }.joined(separator: " ")
    }
}

/// The tasks of a program as a tree, for people.
struct TaskTree {
    private let program: InspectedProgram
    private let showsStacks: Bool
    private let findings: [String]
    private var children: [UInt64: [InspectedProgram.Task]] = [:]
    private var roots: [InspectedProgram.Task] = []

    init(_ program: InspectedProgram, showsStacks: Bool, lostAfter: Double) {
        self.program = program
        self.showsStacks = showsStacks
        findings =
            program.findings.map(\.text) + program.loopFindings + program.lostTasks(after: lostAfter)
        let ids = Set(program.tasks.map(\.id))
        for task in program.tasks.sorted(by: { $0.id < $1.id }) {
            if let parent = task.parent, ids.contains(parent), parent < task.id {
                children[parent, default: []].append(task)
            } else {
                roots.append(task)
            }
        }
    }

    func text(for terminal: Terminal) -> String {
        let width = max(60, min(terminal.width, 200))
        var lines = head(terminal)
        lines.append(terminal.paint("     ID  STATE       FOR  TASK".left(48) + "WAITS FOR", .faint))
        for (index, task) in roots.enumerated() {
            add(task, branch: "", rest: "", isLast: index == roots.count - 1, width, terminal, to: &lines)
        }
        if !findings.isEmpty { lines += ["", terminal.paint("Findings", .bold)] }
        if program.droppedFindings > 0 { lines.append("\(program.droppedFindings.grouped) older ones are not kept") }
        for finding in findings {
            lines += finding.wrapped(width - 2).enumerated().map { ($0.offset == 0 ? "• " : "  ") + $0.element }
        }
        return lines.joined(separator: "\n") + "\n"
    }

    private func head(_ terminal: Terminal) -> [String] {
        func count(_ state: String) -> Int { program.tasks.filter { $0.state == state }.count }
        let drivers = Set(program.loops.map(\.driver)).sorted().joined(separator: ", ")
        let loops = program.loops.count == 1 ? "1 loop" : "\(program.loops.count) loops"
        let tasks = program.tasks.count == 1 ? "1 task" : "\(program.tasks.count.grouped) tasks"
        var lines = [
            terminal.paint("\(program.program ?? "process") (\(program.pid))", .bold) + "  \(loops) on \(drivers)",
            "\(tasks): \(count("running").grouped) running, "
                + "\(count("ready").grouped) ready, \(count("waiting").grouped) waiting",
        ]
        for loop in program.loops where !loop.answers {
            lines.append("loop \(loop.number) does not answer: it has been running one job for over 2 s")
        }
        for loop in program.loops {
            guard let missed = loop.tasksNotShown, missed > 0 else { continue }
            lines.append("\(missed.grouped) more tasks of loop \(loop.number) are not shown")
        }
        return lines + [""]
    }

    private func add(
        _ task: InspectedProgram.Task, branch: String, rest: String, isLast: Bool, _ width: Int, _ terminal: Terminal,
        to lines: inout [String]
    ) {
        let place = task.stack?.first { $0.isUsers } ?? task.stack?.last
        let name = task.name ?? place?.function ?? task.kind
        let left = String(task.id).right(7) + "  " + task.state.left(8) + task.age.right(7) + "  "
        let title = (branch + name).cut(max(20, 48 - left.count)).left(max(20, 48 - left.count))
        let waits = task.waits.cut(max(10, width - left.count - title.count - 1))
        lines.append(left + title + " " + terminal.paint(waits, .faint))
        if showsStacks {
            let indent = String(repeating: " ", count: left.count) + rest
            for place in (task.stack ?? []).filter(\.isWorthShowing) {
                lines.append(terminal.paint(indent + "  " + place.text(width - indent.count - 2), .faint))
            }
        }
        let below = children[task.id] ?? []
        for (index, child) in below.enumerated() {
            let isLast = index == below.count - 1
            add(
                child, branch: rest + (isLast ? "└ " : "├ "), rest: rest + (isLast ? "  " : "│ "), isLast: isLast,
                width,
                terminal, to: &lines)
        }
    }
}

extension InspectedProgram.Task {
    /// What it waits for, in words.
    var waits: String {
        guard let wait = waitingOn else { return "" }
        switch wait.kind {
        case "sleep": return "sleep, \(Self.duration(wait.left ?? 0)) left"
        case "task": return wait.task.map { "task \($0)" } ?? "a task that has ended"
        case "group": return "its child tasks"
        case "continuation": return calledByUser ?? "a continuation"
        case "executor": return "an actor"
        default:
            let subject = wait.subject ?? wait.descriptor.map { "descriptor \($0)" }
            return wait.kind + (subject.map { ": \($0)" } ?? "")
        }
    }

    /// The function that the program's own code has called and waits for; nil if that only made a continuation.
    private var calledByUser: String? {
        let callees = (stack ?? []).prefix { !$0.isUsers }
        return callees.count == stack?.count ? nil : callees.last { !$0.isMachinery }?.function
    }

    /// Whether it waits at a continuation of the program's own: nothing is known that would resume it.
    var isWakerUnknown: Bool {
        waitingOn?.kind == "continuation" && calledByUser == nil && stack?.contains(where: \.isUsers) == true
    }

    /// How long it has been in its state.
    var age: String { Self.duration(since) }

    private static func duration(_ milliseconds: Double) -> String {
        switch milliseconds {
        case ..<1000: "\(Int(milliseconds)) ms"
        case ..<60_000: "\((milliseconds / 1000).fixed(1)) s"
        case ..<3_600_000: "\(Int(milliseconds / 60_000)) min"
        default: "\(Int(milliseconds / 3_600_000)) h"
        }
    }
}

extension InspectedProgram.Place {
    /// Whether it is in the program's own code, as far as that can be told.
    var isUsers: Bool {
        guard let file, line ?? 0 > 0 else { return false }
        return !file.contains("/Sources/Rondo/") && !file.contains("/swift/stdlib/")
    }

    /// Whether it only stands between two functions: the runtime's, the compiler's, and what makes continuations.
    var isMachinery: Bool {
        let noise = [
            "partial apply", "closure #", "thunk for", "completeTask", "task_wait", "_asyncLet_", "with", "merged ",
        ]
        let name = function.hasPrefix("specialized ") ? function.dropFirst(12) : function[...]
        return noise.contains { name.hasPrefix($0) } && !name.hasPrefix("withT") || name.hasPrefix("0x")
    }

    /// Whether it is a function that somebody wrote, and none that the compiler or the runtime put in between.
    var isWorthShowing: Bool { file != nil && line ?? 0 > 0 }

    /// Function and line in at most `width` columns: a long name gives way to its place.
    func text(_ width: Int) -> String {
        guard let file, let line, line > 0 else { return function.cut(width) }
        let place = "  \(file.split(separator: "/").last ?? ""):\(line)"
        return (function.cut(max(12, width - place.count)) + place).cut(width)
    }
}

extension String {
    /// At most so many columns.
    func cut(_ width: Int) -> String { count <= width ? self : prefix(max(0, width - 1)) + "…" }
}
