// What the front's tasks do, told twice: the loop notes when each task is ready, starts and stops; the task itself
// notes what it is about to wait for. Both go into the loop's ring of events, so their order is what happened.

import Rondo
import RondoInsight

/// What an order may wait for.
enum Waiting: UInt32, CaseIterable, Sendable { case database, origin, customer }

/// What the task of an order notes about itself. Costs nothing while nobody looks.
final class OrderTrace {
    private let loop: EventLoop
    /// The order's number, once it is known.
    var order = 0

    init(loop: EventLoop) { self.loop = loop }

    /// Notes what the task is about to wait for.
    func wait(for what: Waiting) { loop.mark(Mark.waits(for: what, order: order).detail) }

    /// Notes that the task is through with the order.
    func end() { loop.mark(Mark.ends(order: order).detail) }
}

/// What a mark among the loop's events means.
enum Mark {
    case waits(for: Waiting, order: Int)
    case ends(order: Int)

    /// The order's number above two bits for the rest.
    var detail: UInt32 {
        switch self {
        case .waits(let what, let order): UInt32(order) << 2 | what.rawValue
        case .ends(let order): UInt32(order) << 2 | 3
        }
    }

    init(detail: UInt32) {
        let order = Int(detail >> 2)
        self = Waiting(rawValue: detail & 3).map { .waits(for: $0, order: order) } ?? .ends(order: order)
    }
}

/// What an order's task did, one stretch after another.
struct Lane: Sendable {
    enum State: Hashable, Sendable {
        case running, ready
        case waiting(Waiting)
    }
    struct Stretch: Sendable {
        var state: State
        var start: UInt64
        var end: UInt64
    }

    var order: Int
    var stretches: [Stretch]

    var start: UInt64 { stretches.first?.start ?? 0 }
    var end: UInt64 { stretches.last?.end ?? 0 }

    func nanoseconds(in state: State) -> UInt64 {
        stretches.reduce(0) { $1.state == state ? $0 + $1.end - $1.start : $0 }
    }
}

/// What happened on the loop during a run.
struct Recording: Sendable {
    /// The orders' tasks in the front, by number.
    var lanes: [Lane] = []
    /// When any task ran: the front's, the origin's, the customers'.
    var busy: [(start: UInt64, end: UInt64)] = []
    /// The most orders that waited at one moment.
    var mostWaiting = 0
    /// Events that the ring could not keep.
    var dropped = 0
}

extension Recording {
    /// An order's task while the events are read.
    private struct Open {
        var lane: Lane
        var state: Lane.State
        var since: UInt64
        var waitsFor: Waiting

        mutating func enter(_ new: Lane.State, at time: UInt64) {
            if time > since { lane.stretches.append(Lane.Stretch(state: state, start: since, end: time)) }
            state = new
            since = time
        }
    }

    /// Reads the events of a run. An order begins with the first mark of its task and ends with the last.
    init(_ ring: TraceRing?) {
        guard let ring else { return }
        dropped = ring.dropped
        var reader = Reader(recording: self)
        for event in ring.events { reader.add(event) }
        self = reader.recording
        lanes.sort { $0.order < $1.order }
    }

    private struct Reader {
        var recording: Recording
        private var open: [UInt32: Open] = [:]
        /// Since when a task that is not an order's (or not yet) is ready.
        private var ready: [UInt32: UInt64] = [:]
        private var running: UInt32?
        private var hasYielded = false
        private var started: UInt64 = 0
        private var waiting = 0

        init(recording: Recording) { self.recording = recording }

        mutating func add(_ event: TraceEvent) {
            switch event.kind {
            case .started:
                stop(at: event.time)
                running = event.task
                started = event.time
                open[event.task]?.enter(.running, at: event.time)
            case .turnWaits: stop(at: event.time)
            case .readyByYield: hasYielded = true
            case .ready, .readyByCompletion, .readyByPart, .readyByTimer, .readyFromOutside:
                if open[event.task] == nil { ready[event.task] = event.time }
                if case .waiting? = open[event.task]?.state { waiting -= 1 }
                open[event.task]?.enter(.ready, at: event.time)
            case .mark: read(Mark(detail: event.operation), of: event.task, at: event.time)
            default: break
            }
        }

        /// What ran has stopped.
        private mutating func stop(at time: UInt64) {
            guard let task = running else { return }
            recording.busy.append((started, time))
            running = nil
            defer { hasYielded = false }
            guard let order = open[task], order.state == .running else { return }
            if hasYielded { return open[task]!.enter(.ready, at: time) }
            open[task]?.enter(.waiting(order.waitsFor), at: time)
            waiting += 1
            recording.mostWaiting = max(recording.mostWaiting, waiting)
        }

        private mutating func read(_ mark: Mark, of task: UInt32, at time: UInt64) {
            switch mark {
            case .waits(let what, let order):
                if open[task] == nil {
                    var new = Open(
                        lane: Lane(order: 0, stretches: []), state: .ready, since: ready[task] ?? started,
                        waitsFor: what)
                    new.enter(.running, at: started)
                    open[task] = new
                }
                open[task]?.waitsFor = what
                if order > 0 { open[task]?.lane.order = order }
            case .ends:
                guard var ended = open.removeValue(forKey: task) else { return }
                ended.enter(.running, at: time)
                if ended.lane.order > 0 { recording.lanes.append(ended.lane) }
            }
        }
    }
}
