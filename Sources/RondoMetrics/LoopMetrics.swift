// The loops' figures for those who collect figures: as Prometheus reads them, and for swift-metrics.

internal import CoreMetrics
public import Rondo

/// The figures of event loops, for monitoring.
///
/// ```
/// // Prometheus asks the program:
/// Task { try await LoopMetrics.serve(on: .loopback(port: 9464)) }
/// // or the program tells its swift-metrics backend:
/// Task { try await LoopMetrics.report(every: .seconds(10)) }
/// ```
public enum LoopMetrics {
    /// The loops of the calling task's program: all of a ``Runtime``, or the one that the task runs on.
    public static var loops: [EventLoop] { Runtime.current?.loops ?? EventLoop.current.map { [$0] } ?? [] }

    /// The figures of `loops` in Prometheus' text format, version 0.0.4.
    ///
    /// Counters end in `_total`; times are seconds; each figure has the labels `loop` (its number) and `driver`.
    public static func prometheusText(of loops: [EventLoop] = LoopMetrics.loops) async -> String {
        var text = PrometheusText()
        for figure in Figure.allCases { text.describe(figure) }
        for (number, loop) in loops.enumerated() {
            text.add(await loop.statistics, labels: [("loop", "\(number)"), ("driver", loop.driverName)])
        }
        return text.rendered
    }

    /// Hands the figures of `loops` to the backend of swift-metrics (`MetricsSystem.bootstrap`), again and again, until
    /// the task is cancelled.
    ///
    /// Counters are told what was added since the last time; of each histogram the median, the 99th percentile and the
    /// maximum are gauges, as it can't be handed over whole.
    ///
    /// - Throws: `CancellationError`, when the task is cancelled.
    public static func report(
        of loops: [EventLoop] = LoopMetrics.loops, every interval: Duration = .seconds(10)
    ) async throws {
        var reporters: [LoopReporter] = []
        for (number, loop) in loops.enumerated() {
            reporters.append(LoopReporter(labels: [("loop", "\(number)"), ("driver", loop.driverName)]))
        }
        while true {
            for (reporter, loop) in zip(reporters, loops) { reporter.report(await loop.statistics) }
            try await Task.sleep(for: interval)
        }
    }
}

/// What there is to tell of a loop.
enum Figure: String, CaseIterable {
    case turns, jobs, jobsTaken = "jobs_taken", systemCalls = "system_calls", busy = "busy_seconds", operations
    case readyJobs = "ready_jobs", timers, pendingOperations = "pending_operations", offloaded
    case accepted = "connections_accepted", opened = "connections_opened", closed = "connections_closed"
    case bytesMoved = "bytes_moved"
    case eventsRecorded = "events_recorded", eventsDropped = "events_dropped", running = "task_running_seconds"

    var isCounter: Bool {
        switch self {
        case .turns, .jobs, .jobsTaken, .systemCalls, .busy, .operations, .accepted, .opened, .closed, .bytesMoved,
            .eventsRecorded, .eventsDropped, .running:
            true
        case .readyJobs, .timers, .pendingOperations, .offloaded: false
        }
    }

    /// Its name for Prometheus.
    var name: String { "rondo_loop_\(rawValue)" + (isCounter ? "_total" : "") }

    var help: String {
        switch self {
        case .turns: "Passes through the loop's phases."
        case .jobs: "Jobs run: stretches of tasks between two awaits."
        case .jobsTaken: "Jobs taken from other loops that had too many."
        case .systemCalls: "System calls of the driver."
        case .busy: "Seconds at work, waits left out."
        case .operations: "Operations begun, by kind."
        case .readyJobs: "Jobs that are ready to run."
        case .timers: "Timers that are set."
        case .pendingOperations: "Operations that have not finished."
        case .offloaded: "Calls queued or running in the offload pool."
        case .accepted: "Connections that the loop's listeners have accepted."
        case .opened: "Connections that became the loop's: accepted, or made."
        case .closed: "Connections of the loop that were closed."
        case .bytesMoved: "Bytes that the kernel moved from socket to socket for copies and relays."
        case .eventsRecorded: "Events of the flight recorder."
        case .eventsDropped: "Events of the flight recorder that newer ones have overwritten."
        case .running: "Seconds for which tasks were seen running, by their names, from fifty looks a second."
        }
    }

    /// Its values where it has several: what tells them apart, and each.
    func values(in statistics: LoopStatistics) -> (label: String, values: [String: Double])? {
        switch self {
        case .operations: ("kind", statistics.operationsByKind.mapValues { Double($0) })
        case .running: ("task", statistics.runningNanosecondsByName.mapValues { Double($0) / 1e9 })
        default: nil
        }
    }

    /// Its value; nil for what has several.
    func value(in statistics: LoopStatistics) -> Double? {
        switch self {
        case .turns: Double(statistics.turns)
        case .jobs: Double(statistics.jobs)
        case .jobsTaken: Double(statistics.jobsTaken)
        case .systemCalls: Double(statistics.systemCalls)
        case .busy: Double(statistics.busyNanoseconds) / 1e9
        case .operations, .running: nil
        case .readyJobs: Double(statistics.readyJobs)
        case .timers: Double(statistics.timers)
        case .pendingOperations: Double(statistics.pendingOperations)
        case .offloaded: Double(statistics.offloadDepth)
        case .accepted: Double(statistics.connectionsAccepted)
        case .opened: Double(statistics.connectionsOpened)
        case .closed: Double(statistics.connectionsClosed)
        case .bytesMoved: Double(statistics.bytesMoved)
        case .eventsRecorded: Double(statistics.eventsRecorded)
        case .eventsDropped: Double(statistics.eventsDropped)
        }
    }
}

/// What there is to tell of a loop as a histogram of times.
enum TimesFigure: String, CaseIterable {
    case lag, timerLateness = "timer_lateness"

    /// Its name for Prometheus.
    var name: String { "rondo_loop_\(rawValue)_seconds" }

    var help: String {
        switch self {
        case .lag: "How long a turn took, waits left out: so long may a job that became ready have stood in line."
        case .timerLateness: "How long after their deadlines sleeps and time limits have ended."
        }
    }

    func values(in statistics: LoopStatistics) -> LagHistogram {
        switch self {
        case .lag: statistics.lag
        case .timerLateness: statistics.timerLateness
        }
    }
}

/// Tells swift-metrics what one loop has done since the last time.
private final class LoopReporter {
    private let labels: [(String, String)]
    private var last = LoopStatistics()
    private var counters: [String: FloatingPointCounter] = [:]
    private var gauges: [String: Gauge] = [:]

    init(labels: [(String, String)]) { self.labels = labels }

    func report(_ statistics: LoopStatistics) {
        for figure in Figure.allCases {
            if let (label, values) = figure.values(in: statistics) {
                let before = figure.values(in: last)?.values ?? [:]
                for (key, value) in values { count(figure.name, value - (before[key] ?? 0), [(label, key)]) }
            }
            guard let value = figure.value(in: statistics), let before = figure.value(in: last) else { continue }
            if figure.isCounter { count(figure.name, value - before) } else { set(figure.name, value) }
        }
        for times in TimesFigure.allCases {
            for (name, fraction) in [("p50", 0.5), ("p99", 0.99), ("max", 1)] {
                set("\(times.name)_\(name)", Double(times.values(in: statistics).nanoseconds(at: fraction)) / 1e9)
            }
        }
        last = statistics
    }

    private func count(_ name: String, _ value: Double, _ more: [(String, String)] = []) {
        let key = name + more.map(\.1).joined()
        let counter = counters[key] ?? FloatingPointCounter(label: name, dimensions: labels + more)
        counters[key] = counter
        counter.increment(by: value)
    }

    private func set(_ name: String, _ value: Double) {
        let gauge = gauges[name] ?? Gauge(label: name, dimensions: labels)
        gauges[name] = gauge
        gauge.record(value)
    }
}
