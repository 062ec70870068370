// The timeline page: one file that needs nothing else. What it draws comes along as columns of numbers, in base64,
// because a browser reads a hundred thousand of those at once and as many objects not nearly so.

import Rondo

/// Writes the timeline page.
package enum TracePage {
    /// The page, as it is written to a file.
    package static func html(_ model: TraceModel) -> String {
        let parts: [Substring: String] = [
            "TITLE": escaped("\(model.program): \(spoken(nanoseconds: model.end - model.start))"),
            "STYLE": text(PackageResources.page_css), "DATA": data(model),
            "SCRIPT": text(PackageResources.model_js) + text(PackageResources.spans_js)
                + text(PackageResources.view_js),
        ]
        var page = ""
        // The pieces between two signs are words of the page, or the names of its parts.
        for piece in text(PackageResources.page_html).split(separator: "@", omittingEmptySubsequences: false) {
            page += parts[piece] ?? String(piece)
        }
        return page
    }

    private static func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

    private static func escaped(_ text: String) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "<", ">", "&", "\"": escaped += "&#\(scalar.value);"
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }

    // MARK: Data

    private static func data(_ model: TraceModel) -> String {
        let start = model.start
        func since(_ time: UInt64) -> Double { Double(time - min(start, time)) }
        let tasks = model.tasks.map { task in
            "[\(task.number),\(quoted(task.name)),\(task.parent ?? -1),\(task.isChild ? 1 : 0),\(task.priority),"
                + "\(since(task.start)),\(since(task.end)),\(task.hasEnded ? 1 : 0),\(quoted(task.title))]"
        }
        let fields = [
            ("program", quoted(model.program)), ("process", "\(model.process)"), ("span", "\(since(model.end))"),
            ("events", "\(model.eventCount)"), ("dropped", "\(model.dropped)"),
            ("kinds", "[" + Operation.Kind.allCases.map { quoted($0.words) }.joined(separator: ",") + "]"),
            (
                "loops",
                "["
                    + model.loops.map { "{\"number\":\($0.loop),\"driver\":\(quoted($0.driver))}" }
                    .joined(separator: ",") + "]"
            ),
            ("tasks", "[" + tasks.joined(separator: ",\n") + "]"), ("stretches", stretches(model, since)),
            ("turns", turns(model, since)), ("offloads", offloads(model, since)), ("spans", spans(model, since)),
        ]
        return "{" + fields.map { "\"\($0)\":\($1)" }.joined(separator: ",\n") + "}"
    }

    /// What is not there.
    private static let nobody = UInt32.max

    private static func stretches(_ model: TraceModel, _ since: (UInt64) -> Double) -> String {
        let places = Dictionary(uniqueKeysWithValues: model.loops.enumerated().map { ($0.element.loop, $0.offset) })
        var table = Columns()
        table.add(model.stretches.map { since($0.start) })
        table.add(model.stretches.map { since($0.end) })
        table.add(model.stretches.map { UInt32($0.firstEvent) })
        table.add(model.stretches.map { UInt32($0.lastEvent) })
        table.add(model.stretches.map { UInt32($0.task) })
        table.add(model.stretches.map { UInt32(places[$0.loop] ?? 0) })
        table.add(model.stretches.map { UInt32($0.state.rawValue) })
        table.add(model.stretches.map { number(of: $0.wait).kind })
        table.add(model.stretches.map { number(of: $0.wait).subject })
        table.add(model.stretches.map { $0.result ?? 0 })
        table.add(model.stretches.map { ($0.isOpen ? 1 : 0) as UInt32 | ($0.result == nil ? 0 : 2) })
        table.add(model.stretches.map { $0.waker.map { UInt32($0) } ?? nobody })
        return table.base64
    }

    private static func turns(_ model: TraceModel, _ since: (UInt64) -> Double) -> String {
        let places = Dictionary(uniqueKeysWithValues: model.loops.enumerated().map { ($0.element.loop, $0.offset) })
        var table = Columns()
        table.add(model.turns.map { since($0.start) })
        table.add(model.turns.map { since($0.waits) })
        table.add(model.turns.map { since($0.end) })
        table.add(model.turns.map { UInt32($0.firstEvent) })
        table.add(model.turns.map { UInt32($0.waitEvent) })
        table.add(model.turns.map { UInt32(places[$0.loop] ?? 0) })
        table.add(model.turns.map { UInt32($0.jobs) })
        table.add(model.turns.map { UInt32(clamping: $0.readyJobs) })
        return table.base64
    }

    private static func offloads(_ model: TraceModel, _ since: (UInt64) -> Double) -> String {
        var table = Columns()
        table.add(model.offloads.map { since($0.start) })
        table.add(model.offloads.map { since(max($0.end, $0.start)) })
        table.add(model.offloads.map { $0.task.map { UInt32($0) } ?? nobody })
        table.add(model.offloads.map { UInt32($0.kind.rawValue) })
        return table.base64
    }

    /// Few beside the stretches, and with names: so they are plain lists.
    private static func spans(_ model: TraceModel, _ since: (UInt64) -> Double) -> String {
        let lists = model.spans.map { span in
            "[\(span.task),\(quoted(span.name)),\(since(span.start)),\(since(max(span.end, span.start))),"
                + "\(span.isOpen ? 1 : 0)]"
        }
        return "[" + lists.joined(separator: ",\n") + "]"
    }

    /// The script's numbers for what a task waits for.
    private static func number(of wait: TraceWait) -> (kind: UInt32, subject: Int32) {
        switch wait {
        case .operation(let kind, let descriptor): (UInt32(kind.rawValue), descriptor)
        case .sleep: (100, -1)
        case .task(let task): (101, Int32(task))
        case .thread: (102, -1)
        case .unknown: (103, -1)
        }
    }
}

/// Columns of a table, one after another, as the little-endian words that a script's typed arrays take.
private struct Columns {
    private var bytes: [UInt8] = []

    mutating func add<Value: BitwiseCopyable>(_ values: [Value]) {
        // SAFETY: looks at the values' own bytes; every machine that Rondo runs on is little-endian.
        unsafe values.withUnsafeBytes { unsafe bytes.append(contentsOf: $0) }
    }

    /// In quotes.
    var base64: String {
        let letters = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text = [UInt8(ascii: "\"")]
        text.reserveCapacity(bytes.count / 3 * 4 + 6)
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let count = min(3, bytes.count - start)
            var word = 0
            for place in 0..<3 { word = word << 8 | (place < count ? Int(bytes[start + place]) : 0) }
            for place in 0..<4 {
                let letter = letters[word >> (18 - 6 * place) & 63]
                text.append(place <= count ? letter : UInt8(ascii: "="))
            }
        }
        text.append(UInt8(ascii: "\""))
        return String(decoding: text, as: UTF8.self)
    }
}
