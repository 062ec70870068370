import Rondo
import RondoInsight

/// What the demo has found out.
struct DemoResult: Sendable {
    var folder: String
    var files: [IndexedFile]
    var orders: Int
    var latencyMilliseconds = 0.0
    /// What was left out of the folder, in words.
    var notes: [String] = []
    var driver: String
    var driverReason: String

    var sequential = RunOutcome()
    var concurrent = RunOutcome()
    /// How many orders could be open together.
    var ordersAtOnce = 0
    var recording = Recording()
    /// All that happened on the loop during the concurrent run.
    var trace: TraceFile?
    var loopThreads = 0
    /// Of the concurrent run.
    var turns = 0
    var systemCalls = 0

    init(loop: EventLoop, folder: String, files: [IndexedFile], orders: Int) {
        driver = loop.driverName
        driverReason = loop.driverReason
        self.folder = folder
        self.files = files
        self.orders = orders
    }

    /// How many times as many orders a second.
    var ratio: Double {
        sequential.ordersPerSecond > 0 ? concurrent.ordersPerSecond / sequential.ordersPerSecond : 0
    }

    /// Every order that failed in either run, once, by number.
    var failures: [OrderOutcome] {
        var failed: [Int: OrderOutcome] = [:]
        for outcome in concurrent.outcomes + sequential.outcomes where outcome.failure != nil {
            if failed[outcome.order.number] == nil { failed[outcome.order.number] = outcome }
        }
        return failed.values.sorted { $0.order.number < $1.order.number }
    }

    /// Whether every customer got the right file, all on one thread.
    var isGood: Bool { failures.isEmpty && loopThreads == 1 }

    /// The failed orders in words, the first ten by name, or "" if there are none.
    var complaints: String {
        let failures = failures
        if failures.isEmpty {
            return loopThreads == 1 ? "" : "error: the orders ran on \(loopThreads) threads, not on one\n"
        }
        var lines = failures.prefix(10).map { outcome in
            "error: order \(outcome.order.number) (\(outcome.order.file.path)): \(outcome.failure ?? "")"
        }
        if failures.count > 10 { lines.append("and \((failures.count - 10).grouped) more") }
        lines.append("\(failures.count.grouped) of \(orders.grouped) orders failed")
        return lines.joined(separator: "\n") + "\n"
    }

    /// One object for machines.
    var json: String {
        let fields = [
            ("orders", "\(orders)"),
            ("failed", "\(failures.count)"),
            ("bytesVerified", "\(concurrent.bytesVerified)"),
            ("sequentialOrdersPerSecond", JSON.number(sequential.ordersPerSecond)),
            ("concurrentOrdersPerSecond", JSON.number(concurrent.ordersPerSecond)),
            ("ratio", JSON.number(ratio)),
            ("mostWaiting", "\(recording.mostWaiting)"),
            ("loopThreads", "\(loopThreads)"),
            ("driver", JSON.string(driver)),
            ("driverReason", JSON.string(driverReason)),
        ]
        return "{" + fields.map { "\"\($0)\": \($1)" }.joined(separator: ", ") + "}\n"
    }
}
