// A trace for Perfetto and chrome://tracing, in the Trace Event Format: the loops are threads of the program, and each
// task is a thread of a second process, so that both can be looked at.

import Rondo

/// Writes the Trace Event Format, as JSON.
package struct TraceJSON {
    private let model: TraceModel
    private var text = ""

    /// The tasks' process: no process of the system has such a number.
    private var tasksProcess: Int { 1_000_000_000 + Int(model.process) }

    package static func string(_ model: TraceModel) -> String {
        var writer = TraceJSON(model: model)
        writer.write()
        return writer.text
    }

    private init(model: TraceModel) { self.model = model }

    private mutating func write() {
        text = "{\"displayTimeUnit\":\"ns\",\"otherData\":{\"program\":\(quoted(model.program)),"
        text += "\"events\":\"\(model.eventCount)\",\"dropped\":\"\(model.dropped)\"},\"traceEvents\":[\n"
        metadata("process_name", process: Int(model.process), thread: 0, model.program)
        metadata("process_name", process: tasksProcess, thread: 0, "tasks of \(model.program)")
        for ring in model.loops {
            metadata("thread_name", process: Int(model.process), thread: ring.loop + 1, "loop \(ring.loop)")
        }
        for (index, task) in model.tasks.enumerated() {
            metadata("thread_name", process: tasksProcess, thread: index + 1, task.title)
        }
        for stretch in model.stretches { write(stretch) }
        for call in model.offloads { write(call) }
        for (number, span) in model.spans.enumerated() { write(span, number: number) }
        for turn in model.turns {
            event(
                "\"ph\":\"C\",\"name\":\"ready jobs\",\"pid\":\(model.process),\"ts\":\(time(turn.waits))",
                arguments: "\"loop \(turn.loop)\":\(turn.readyJobs)")
        }
        // The format wants no comma behind the last.
        text.removeLast(2)
        text += "\n]}\n"
    }

    private mutating func write(_ stretch: TraceStretch) {
        let task = model.tasks[stretch.task]
        let span = "\"ts\":\(time(stretch.start)),\"dur\":\(duration(stretch.duration))"
        let name: String
        var arguments = "\"task\":\(task.number)"
        switch stretch.state {
        case .running:
            name = "running"
            event(
                "\"ph\":\"X\",\"cat\":\"job\",\"name\":\(quoted(task.title)),\"pid\":\(model.process),"
                    + "\"tid\":\(stretch.loop + 1),\(span)", arguments: arguments)
        case .ready: name = "ready"
        case .waiting:
            name = model.words(for: stretch.wait)
            if let result = stretch.result { arguments += ",\"result\":\(result)" }
        }
        event(
            "\"ph\":\"X\",\"cat\":\"\(stretch.state)\",\"name\":\(quoted(name)),\"pid\":\(tasksProcess),"
                + "\"tid\":\(stretch.task + 1),\(span)", arguments: arguments)
    }

    private mutating func write(_ call: TraceOffload) {
        let name = call.task.map { model.tasks[$0].title } ?? call.kind.words
        let id = "\(call.start)-\(call.end)"
        for (phase, moment) in [("b", call.start), ("e", call.end)] {
            event(
                "\"ph\":\"\(phase)\",\"cat\":\"offload pool\",\"name\":\(quoted(name)),\"id\":\"\(id)\","
                    + "\"pid\":\(model.process),\"tid\":0,\"ts\":\(time(moment))",
                arguments: "\"operation\":\(quoted(call.kind.words))")
        }
    }

    /// Spans may cross the stretches of their task, so they are asynchronous events beside it.
    private mutating func write(_ span: TraceSpanRecord, number: Int) {
        let ends = [("b", span.start)] + (span.isOpen ? [] : [("e", max(span.start, span.end))])
        for (phase, moment) in ends {
            event(
                "\"ph\":\"\(phase)\",\"cat\":\"span\",\"name\":\(quoted(span.name)),\"id\":\"span \(number)\","
                    + "\"pid\":\(tasksProcess),\"tid\":\(span.task + 1),\"ts\":\(time(moment))",
                arguments: "\"task\":\(quoted(model.tasks[span.task].title))")
        }
    }

    private mutating func metadata(_ name: String, process: Int, thread: Int, _ value: String) {
        event(
            "\"ph\":\"M\",\"name\":\"\(name)\",\"pid\":\(process),\"tid\":\(thread),\"ts\":0",
            arguments: "\"name\":\(quoted(value))")
    }

    private mutating func event(_ fields: String, arguments: String) {
        text += "{"
        text += fields
        text += ",\"args\":{"
        text += arguments
        text += "}},\n"
    }

    /// Microseconds since the trace began.
    private func time(_ nanoseconds: UInt64) -> String { duration(nanoseconds - min(model.start, nanoseconds)) }

    private func duration(_ nanoseconds: UInt64) -> String {
        let fraction = "\(nanoseconds % 1000)"
        return "\(nanoseconds / 1000)." + String(repeating: "0", count: 3 - fraction.utf8.count) + fraction
    }
}
