// What the inspector answers.

import Glibc
import Rondo

/// Asks the loops, and writes down what they say. It belongs to the inspector's thread.
final class InspectorAnswers {
    private let loops: [EventLoop]
    private let watchdog: Watchdog
    private let symbols: Lock<Symbols>
    /// When the loops may be asked for their tasks again: so that whoever asks all the time gets a tenth of it at most.
    private var nextCollection: UInt64 = 0

    private static let patience: UInt64 = 2_000_000_000
    /// Of a loop: an answer has about 2 KB for each.
    private static let taskLimit = 20_000

    init(_ loops: [EventLoop], _ watchdog: Watchdog, _ symbols: Lock<Symbols>) {
        self.loops = loops
        self.watchdog = watchdog
        self.symbols = symbols
    }

    func answer(to question: String) -> String {
        let body: String
        switch question.split(separator: " ") {
        case ["RONDO/1", "tasks"]: body = tasks(withStacks: true)
        case ["RONDO/1", "tasks", "nostacks"]: body = tasks(withStacks: false)
        case let words where words.first == "RONDO/1":
            return "RONDO/1 error no such question: ask for tasks\n"
        default: return "RONDO/1 error this is the inspector of a Rondo program: ask it with `rondo ps \(getpid())`\n"
        }
        return "RONDO/1 ok \(body.utf8.count)\n" + body
    }

    private func tasks(withStacks: Bool) -> String {
        let now = monotonicNanoseconds()
        if now < nextCollection {
            var rest = timespec(
                tv_sec: Int((nextCollection - now) / 1_000_000_000),
                tv_nsec: Int((nextCollection - now) % 1_000_000_000))
            // SAFETY: the time lives across the call.
            unsafe nanosleep(&rest, nil)
        }
        var collected: [(loop: EventLoop, outcome: TaskCollector.Outcome?)] = []
        let deadline = monotonicNanoseconds() + Self.patience
        var spent: UInt64 = 0
        for loop in loops {
            let outcome = TaskCollector(loop, limit: Self.taskLimit)?.collect(until: deadline)
            spent = max(spent, outcome?.nanoseconds ?? 0)
            collected.append((loop, outcome))
        }
        TaskCollector.join(&collected, until: deadline)
        nextCollection = monotonicNanoseconds() + min(10 * spent, 1_000_000_000)
        if withStacks {
            symbols.withLock { $0.look(up: collected.flatMap { $0.1?.tasks ?? [] }.flatMap(\.stack)) }
        }
        let (findings, droppedFindings) = watchdog.findings
        var json = JSONWriter()
        json.object { json in
            json.key("version")
            json.number(1)
            json.key("pid")
            json.number(getpid())
            json.key("program")
            json.string(CommandLine.arguments.first.map { String($0.split(separator: "/").last ?? "") })
            json.key("loops")
            json.array { json in
                for (loop, outcome) in collected { write(loop, outcome, to: &json) }
            }
            json.key("tasks")
            json.array { json in
                for (_, outcome) in collected {
                    for task in outcome?.tasks ?? [] { write(task, withStacks, to: &json) }
                }
            }
            json.key("findings")
            json.array { json in
                for finding in findings { write(finding, to: &json) }
            }
            json.key("droppedFindings")
            json.number(droppedFindings)
        }
        return json.text + "\n"
    }

    private func write(_ loop: EventLoop, _ outcome: TaskCollector.Outcome?, to json: inout JSONWriter) {
        json.object { json in
            json.key("number")
            json.number(loop.number)
            json.key("driver")
            json.string(loop.driverName)
            json.key("driverReason")
            json.string(loop.driverReason)
            // A loop that runs one long job does not answer.
            json.key("answers")
            json.boolean(outcome != nil)
            guard let outcome else { return }
            let statistics = outcome.statistics
            let numbers: [(String, UInt64)] = [
                ("turns", statistics.turns), ("jobs", statistics.jobs), ("operations", statistics.operations),
                ("systemCalls", statistics.systemCalls), ("readyJobs", UInt64(statistics.readyJobs)),
                ("timers", UInt64(statistics.timers)), ("pendingOperations", UInt64(statistics.pendingOperations)),
                ("offloaded", UInt64(statistics.offloadDepth)),
                ("offloadThreads", UInt64(loop.configuration.offloadThreads)),
                ("tasksNotShown", UInt64(max(0, outcome.notShown))),
            ]
            for (name, value) in numbers {
                json.key(name)
                json.number(value)
            }
            let times: [(String, UInt64)] = [
                ("cpu", Self.processorTime(ofThread: loop.threadID)),
                ("busy", statistics.busyNanoseconds), ("lagMedian", statistics.lag.nanoseconds(at: 0.5)),
                ("lagP99", statistics.lag.nanoseconds(at: 0.99)), ("lagMax", statistics.lag.maxNanoseconds),
                ("timerLatenessP99", statistics.timerLateness.nanoseconds(at: 0.99)),
                ("timerLatenessMax", statistics.timerLateness.maxNanoseconds),
            ]
            for (name, value) in times {
                json.key(name)
                json.milliseconds(value)
            }
            json.key("running")
            json.object { json in
                for (name, value) in statistics.runningNanosecondsByName.sorted(by: { $0.key < $1.key }) {
                    json.key(name)
                    json.milliseconds(value)
                }
            }
        }
    }

    /// The CPU time of a thread of this process: with the kernel's work for it, which `busy` leaves out.
    private static func processorTime(ofThread thread: Int32) -> UInt64 {
        // The kernel's name for that clock (linux/posix-timers_types.h: per thread, scheduler's time).
        let clock = ~thread << 3 | 6
        var time = timespec()
        // SAFETY: the kernel fills in the time.
        guard unsafe clock_gettime(clockid_t(clock), &time) == 0 else { return 0 }
        return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }

    private func write(_ task: TaskReport, _ withStack: Bool, to json: inout JSONWriter) {
        json.object { json in
            json.key("id")
            json.number(task.id)
            json.key("name")
            json.string(task.name)
            json.key("parent")
            if let parent = task.parent { json.number(parent) } else { json.string(nil) }
            json.key("kind")
            json.string(task.kind.rawValue)
            json.key("state")
            json.string(task.state.rawValue)
            json.key("waitingOn")
            if let wait = task.wait { write(wait, to: &json) } else { json.string(nil) }
            json.key("since")
            json.milliseconds(task.age)
            json.key("priority")
            json.number(task.priority)
            json.key("cancelled")
            json.boolean(task.isCancelled)
            json.key("loop")
            json.number(task.loop)
            if !withStack { return }
            json.key("stack")
            json.array { json in
                for place in symbols.withLock({ task.stack.flatMap($0.places) }) { write(place, to: &json) }
            }
        }
    }

    private func write(_ finding: Finding, to json: inout JSONWriter) {
        json.object { json in
            json.key("kind")
            json.string(finding.kind.rawValue)
            json.key("text")
            json.string(finding.text)
            json.key("loop")
            json.number(finding.loop)
            json.key("task")
            json.number(finding.taskID)
            json.key("duration")
            json.milliseconds(finding.duration)
            json.key("goesOn")
            json.boolean(finding.goesOn)
            json.key("stack")
            json.array { json in
                for place in finding.stack { write(place, to: &json) }
            }
        }
    }

    private func write(_ wait: TaskReport.Wait, to json: inout JSONWriter) {
        json.object { json in
            json.key("kind")
            switch wait {
            case .operation(let kind, let descriptor, let subject):
                json.string("\(kind)")
                guard let descriptor else { return }
                json.key("descriptor")
                json.number(descriptor)
                json.key("subject")
                json.string(subject)
            case .sleep(let left):
                json.string("sleep")
                json.key("left")
                json.milliseconds(left)
            case .task(let id):
                json.string("task")
                json.key("task")
                if let id { json.number(id) } else { json.string(nil) }
            case .group: json.string("group")
            case .continuation: json.string("continuation")
            case .executor: json.string("executor")
            }
        }
    }

    private func write(_ place: CodePlace, to json: inout JSONWriter) {
        json.object { json in
            json.key("function")
            json.string(place.function)
            json.key("file")
            json.string(place.file)
            json.key("line")
            if let line = place.line, line > 0 { json.number(line) } else { json.string(nil) }
        }
    }
}
