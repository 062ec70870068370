// What the front's tasks do, told twice: the loop notes when each task is ready, starts and stops; the task itself
// notes what it is about to wait for. Both go into the loop's ring of events, so their order is what happened.

import Rondo

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

    /// Reads the events of a run. A task is known by its address, which another one may have after it has ended; so an
    /// order begins with its first mark and ends with its last.
    init(_ events: [LoopEvent], dropped: Int) {
        self.dropped = dropped
        var open: [UInt: Open] = [:]
        /// Since when a task that is not an order's (or not yet) is ready.
        var ready: [UInt: UInt64] = [:]
        var started: UInt64 = 0
        var waiting = 0

        for event in events {
            switch event.kind {
            case .ready:
                if open[event.job] == nil { ready[event.job] = event.time }
                if case .waiting? = open[event.job]?.state { waiting -= 1 }
                open[event.job]?.enter(.ready, at: event.time)
            case .started:
                started = event.time
                open[event.job]?.enter(.running, at: event.time)
            case .stopped:
                busy.append((started, event.time))
                guard let what = open[event.job]?.waitsFor else { continue }
                open[event.job]?.enter(.waiting(what), at: event.time)
                waiting += 1
                mostWaiting = max(mostWaiting, waiting)
            case .mark:
                switch Mark(detail: event.detail) {
                case .waits(let what, let order):
                    if open[event.job] == nil {
                        var task = Open(
                            lane: Lane(order: 0, stretches: []), state: .ready,
                            since: ready[event.job] ?? started, waitsFor: what)
                        task.enter(.running, at: started)
                        open[event.job] = task
                    }
                    open[event.job]?.waitsFor = what
                    if order > 0 { open[event.job]?.lane.order = order }
                case .ends:
                    guard var task = open.removeValue(forKey: event.job) else { continue }
                    task.enter(.running, at: event.time)
                    if task.lane.order > 0 { lanes.append(task.lane) }
                }
            case .operationBegan: break
            }
        }
        lanes.sort { $0.order < $1.order }
    }
}
