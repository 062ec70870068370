// From events to what one wants to see: for each task what it did, one stretch after another, and why it waited; for
// each loop its turns.
//
// A ring begins in the middle, and a task that has ended says so only if somebody noticed. So what is not known stays
// open: a task has no stretch where nothing tells what it did.

package import Rondo

/// What a task waits for.
package enum TraceWait: Equatable, Sendable {
    /// An operation, and its descriptor or -1.
    case operation(Operation.Kind, descriptor: Int32)
    case sleep
    /// Another task, or something that a task does: by its place in `TraceModel.tasks`.
    case task(Int)
    /// Another thread resumed it.
    case thread
    /// The loop itself, or nobody knows.
    case unknown
}

/// A stretch of a task's life.
package struct TraceStretch: Sendable {
    package enum State: UInt8, Sendable { case running, ready, waiting }

    package var task: Int
    package var loop: Int
    package var start: UInt64
    package var end: UInt64
    package var state: State
    /// For `waiting`: what for.
    package var wait: TraceWait = .unknown
    /// For `waiting` for an operation that has completed: what it answered.
    package var result: Int32?
    /// Whether the trace ended before it did.
    package var isOpen = false
    /// Who made it ready: the task that was running, if there was one.
    package var waker: Int?
    /// The places of the events that began and ended it among all events: times alone don't tell what came first.
    package var firstEvent = 0
    package var lastEvent = 0

    package var duration: UInt64 { end - start }
}

/// A call in the offload pool.
package struct TraceOffload: Sendable {
    package var task: Int?
    package var kind: Operation.Kind
    package var start: UInt64
    package var end: UInt64
}

/// What the program calls a stretch of a task's work.
package struct TraceSpanRecord: Sendable {
    package var task: Int
    package var name: String
    package var start: UInt64
    package var end: UInt64
    /// Whether the trace ended before it did.
    package var isOpen: Bool

    package var duration: UInt64 { end - min(start, end) }
}

/// One turn of a loop.
package struct TraceTurn: Sendable {
    package var loop: Int
    /// When the wait before it had ended.
    package var start: UInt64
    /// When it began to wait.
    package var waits: UInt64
    package var end: UInt64
    package var jobs: Int
    /// Jobs that were left ready when it began to wait.
    package var readyJobs: Int
    /// The places of the events that began it and its wait.
    package var firstEvent: Int
    package var waitEvent: Int
}

/// A task, as the lanes show it.
package struct TraceLane: Sendable {
    package var number: UInt32
    package var name: String
    /// The place of its parent in `TraceModel.tasks`, if that is known.
    package var parent: Int?
    package var isChild = false
    package var priority: UInt8 = 0
    /// When it was first seen.
    package var start: UInt64
    package var end: UInt64
    package var hasEnded = false
    package var jobs = 0
    package var running: UInt64 = 0
    package var ready: UInt64 = 0
    package var waiting: UInt64 = 0

    /// Whether it is a task; an actor's queue is none.
    package var isTask: Bool { number & TraceModel.isNoTask == 0 }

    /// What people call it.
    package var title: String {
        if !name.isEmpty { return name }
        return isTask ? "task \(number)" : "actor \(String(number & ~TraceModel.isNoTask, radix: 16))"
    }
}

/// All that a trace tells.
package struct TraceModel: Sendable {
    static let isNoTask: UInt32 = 1 << 31

    package var program: String
    package var process: Int32
    package var loops: [TraceRing]
    package var tasks: [TraceLane] = []
    /// In the order of their ends.
    package var stretches: [TraceStretch] = []
    package var turns: [TraceTurn] = []
    package var offloads: [TraceOffload] = []
    /// In the order of their begins.
    package var spans: [TraceSpanRecord] = []
    /// Operations that completed, by kind.
    package var operations: [Operation.Kind: Int] = [:]
    package var timers = 0
    package var start: UInt64
    package var end: UInt64
    /// Events that the rings could not keep.
    package var dropped: Int
    package var eventCount: Int
    /// Nanoseconds since 1970 of the time 0.
    package var epoch: UInt64

    /// - Parameters:
    ///   - seconds: how much of the trace's end is looked at; nil for all.
    ///   - names: what tasks without a name are called, by their numbers.
    package init(_ trace: TraceFile, lastSeconds seconds: Double? = nil, names: [UInt32: String] = [:]) {
        program = trace.program
        process = trace.process
        loops = trace.rings.map { ring in
            var ring = ring
            ring.events = []
            return ring
        }
        dropped = trace.rings.reduce(0) { $0 + $1.dropped }
        var events = trace.rings.flatMap(\.events).enumerated()
            .sorted { ($0.element.time, $0.offset) < ($1.element.time, $1.offset) }.map(\.element)
        end = events.last?.time ?? 0
        if let seconds {
            let first = end - min(end, UInt64(max(0, seconds) * 1e9))
            events.removeFirst(events.firstIndex { $0.time >= first } ?? 0)
        }
        start = events.first?.time ?? 0
        eventCount = events.count
        epoch = trace.startRealtime &- trace.startMonotonic
        var builder = ModelBuilder(model: self, known: trace.rings.flatMap(\.tasks))
        for event in events { builder.add(event) }
        self = builder.finished()
        for place in tasks.indices where tasks[place].name.isEmpty {
            tasks[place].name = names[tasks[place].number] ?? ""
        }
    }
}

/// Reads events in the order of time.
private struct ModelBuilder {
    private struct Open {
        var state: TraceStretch.State?
        var since: UInt64 = 0
        var sinceEvent = 0
        /// What it seems to wait for.
        var wait = TraceWait.unknown
        /// The operation that it submitted last.
        var operation: UInt64?
        var loop = 0
        var hasYielded = false
        /// Whether it ran within an actor's job when it began to wait.
        var isInActor = false
    }
    private struct Pending {
        var kind: Operation.Kind
        var descriptor: Int32
        var task: Int?
        var offloadStart: UInt64?
    }
    private struct Loop {
        var running: Int?
        var turn: TraceTurn?
    }

    private var model: TraceModel
    private var known: [UInt32: TraceTask] = [:]
    private var index: [UInt32: Int] = [:]
    private var open: [Open] = []
    private var pending: [UInt64: Pending] = [:]
    private var loops: [Int: Loop] = [:]
    /// The places of spans that have not ended, by their numbers.
    private var openSpans: [UInt32: Int] = [:]
    private var labels: [Int: [String]] = [:]
    /// Events so far.
    private var count = 0

    init(model: TraceModel, known: [TraceTask]) {
        self.model = model
        for ring in model.loops { labels[ring.loop] = ring.labels }
        for task in known { self.known[task.number] = task }
    }

    /// The place of a task, from now on if it is new.
    private mutating func place(of number: UInt32, at time: UInt64) -> Int {
        if let place = index[number] { return place }
        let place = model.tasks.count
        index[number] = place
        let task = known[number]
        model.tasks.append(
            TraceLane(
                number: number, name: task?.name ?? "", isChild: task?.isChild ?? false,
                priority: task?.priority ?? 0, start: max(model.start, min(task?.time ?? time, time)), end: time))
        open.append(Open())
        if let parent = task?.parent, parent != 0 { model.tasks[place].parent = self.place(of: parent, at: time) }
        return place
    }

    private func key(_ event: TraceEvent) -> UInt64 { UInt64(event.loop) << 32 | UInt64(event.operation) }

    /// Ends what a task did, and begins what it does now.
    private mutating func enter(_ state: TraceStretch.State?, _ task: Int, at time: UInt64, loop: Int) {
        close(task, at: time)
        open[task].state = state
        open[task].since = time
        open[task].sinceEvent = count
        open[task].loop = loop
        model.tasks[task].end = time
    }

    private mutating func close(
        _ task: Int, at time: UInt64, wait: TraceWait? = nil, result: Int32? = nil, waker: Int? = nil,
        isOpen: Bool = false
    ) {
        let now = open[task]
        guard let state = now.state else { return }
        var stretch = TraceStretch(
            task: task, loop: now.loop, start: now.since, end: max(time, now.since), state: state, isOpen: isOpen,
            firstEvent: now.sinceEvent, lastEvent: count)
        if state == .waiting {
            stretch.wait = wait ?? now.wait
            stretch.result = result
            stretch.waker = waker
        }
        open[task].state = nil
        switch state {
        case .running: model.tasks[task].running += stretch.duration
        case .ready: model.tasks[task].ready += stretch.duration
        case .waiting: model.tasks[task].waiting += stretch.duration
        }
        model.stretches.append(stretch)
    }

    mutating func add(_ event: TraceEvent) {
        let loop = Int(event.loop)
        count += 1
        switch event.kind {
        case .turnBegins: turnBegins(loop, at: event.time)
        case .turnWaits:
            stopRunning(loop, at: event.time)
            loops[loop]?.turn?.waits = event.time
            loops[loop]?.turn?.waitEvent = count
            loops[loop]?.turn?.readyJobs = Int(event.value)
        case .ready: isReady(event, wait: nil)
        case .readyByCompletion, .readyByPart: isReady(event, wait: completion(event))
        case .readyByTimer:
            model.timers += 1
            isReady(event, wait: .sleep)
        case .readyByYield:
            open[place(of: event.task, at: event.time)].hasYielded = true
        case .readyFromOutside: isReady(event, wait: .thread)
        case .started: starts(event)
        case .submitted: isSubmitted(event)
        case .completed, .completedPart: _ = completion(event)
        case .timerFired: model.timers += 1
        case .sleeps:
            let task = place(of: event.task, at: event.time)
            open[task].wait = .sleep
        case .offloadBegan: pending[key(event)]?.offloadStart = event.time
        case .offloadEnded:
            if let call = pending[key(event)], let start = call.offloadStart {
                model.offloads.append(TraceOffload(task: call.task, kind: call.kind, start: start, end: event.time))
            }
        case .taskEnded:
            let task = place(of: event.task, at: event.time)
            // It is freed when nobody holds it any more: what it seemed to wait for since its last job is nothing.
            if open[task].state == .waiting, open[task].wait == .unknown { open[task].state = nil }
            enter(nil, task, at: max(event.time, open[task].since), loop: loop)
            model.tasks[task].hasEnded = true
            index[event.task] = nil
        case .mark: break
        case .spanBegan: spanBegins(event)
        case .spanEnded:
            // Of a span whose begin was overwritten nobody knows the name.
            guard let span = openSpans.removeValue(forKey: event.operation) else { break }
            model.spans[span].end = event.time
            model.spans[span].isOpen = false
        }
    }

    private mutating func spanBegins(_ event: TraceEvent) {
        let names = labels[Int(event.loop)] ?? []
        let name = names.indices.contains(Int(event.value)) ? names[Int(event.value)] : "span"
        openSpans[event.operation] = model.spans.count
        model.spans.append(
            TraceSpanRecord(
                task: place(of: event.task, at: event.time), name: name, start: event.time, end: model.end, isOpen: true
            ))
    }

    private mutating func turnBegins(_ loop: Int, at time: UInt64) {
        if var turn = loops[loop]?.turn {
            turn.end = time
            model.turns.append(turn)
        }
        loops[loop, default: Loop()].turn = TraceTurn(
            loop: loop, start: time, waits: time, end: time, jobs: 0, readyJobs: 0, firstEvent: count, waitEvent: count)
    }

    /// Whatever ran on a loop has stopped.
    private mutating func stopRunning(_ loop: Int, at time: UInt64) {
        guard let task = loops[loop]?.running else { return }
        loops[loop]?.running = nil
        guard open[task].state == .running else { return }
        let hasYielded = open[task].hasYielded
        open[task].hasYielded = false
        enter(hasYielded ? .ready : .waiting, task, at: time, loop: loop)
        if open[task].wait == .unknown, let operation = open[task].operation, let call = pending[operation] {
            open[task].wait = .operation(call.kind, descriptor: call.descriptor)
        }
    }

    private mutating func starts(_ event: TraceEvent) {
        let loop = Int(event.loop)
        stopRunning(loop, at: event.time)
        let task = place(of: event.task, at: event.time)
        enter(.running, task, at: event.time, loop: loop)
        open[task].wait = .unknown
        open[task].hasYielded = false
        open[task].isInActor = false
        model.tasks[task].jobs += 1
        loops[loop, default: Loop()].running = task
        loops[loop]?.turn?.jobs += 1
    }

    private mutating func isReady(_ event: TraceEvent, wait: TraceWait?) {
        let task = place(of: event.task, at: event.time)
        let waker = wait == nil ? loops[Int(event.loop)]?.running : nil
        let wait = wait ?? waker.map { .task($0) } ?? .unknown
        var result: Int32?
        if case .operation = wait { result = event.value }
        if open[task].state == .running {
            // It was made ready before it had stopped: it stops first.
            if loops[Int(event.loop)]?.running == task { loops[Int(event.loop)]?.running = nil }
        }
        if open[task].state == .ready { return }
        close(task, at: event.time, wait: wait, result: result, waker: waker)
        enter(.ready, task, at: event.time, loop: Int(event.loop))
    }

    private mutating func isSubmitted(_ event: TraceEvent) {
        guard let kind = Operation.Kind(rawValue: event.detail) else { return }
        var task: Int?
        if event.task != 0 {
            let place = place(of: event.task, at: event.time)
            task = place
            open[place].operation = key(event)
            // It runs within an actor's job: what it does next nobody tells, but what it waits for is known.
            if open[place].state != .running {
                enter(.waiting, place, at: event.time, loop: Int(event.loop))
                open[place].wait = .operation(kind, descriptor: event.value)
                open[place].isInActor = true
            }
        }
        pending[key(event)] = Pending(kind: kind, descriptor: event.value, task: task)
    }

    /// An operation, or a part of it, has completed.
    private mutating func completion(_ event: TraceEvent) -> TraceWait {
        let isPart = event.kind == .completedPart || event.kind == .readyByPart
        guard let kind = Operation.Kind(rawValue: event.detail) else { return .unknown }
        let call = isPart ? pending[key(event)] : pending.removeValue(forKey: key(event))
        model.operations[kind, default: 0] += 1
        let noted = event.extra == .max ? -1 : Int32(event.extra)
        let wait = TraceWait.operation(kind, descriptor: call?.descriptor ?? noted)
        if let task = call?.task, !isPart, open[task].state == .waiting, open[task].wait == wait,
            model.tasks[task].number != event.task
        {
            if open[task].isInActor {
                // Who waits within an actor becomes ready as the actor does.
                close(task, at: event.time, wait: wait, result: event.value)
            } else {
                // It had submitted this, but waits for something else.
                open[task].wait = .unknown
            }
        }
        return wait
    }

    mutating func finished() -> TraceModel {
        for loop in loops.keys.sorted() {
            if let task = loops[loop]?.running, open[task].state == .running {
                close(task, at: model.end, isOpen: true)
            }
            if var turn = loops[loop]?.turn {
                turn.end = model.end
                if turn.waits == turn.start { turn.waits = model.end }
                model.turns.append(turn)
            }
        }
        for task in open.indices {
            // What waits for nothing known has ended, or waits for a task that has not answered: its lane just stops.
            if open[task].state == .waiting, open[task].wait == .unknown { continue }
            if open[task].state != nil { close(task, at: model.end, isOpen: true) }
        }
        for stretch in model.stretches {
            model.tasks[stretch.task].end = max(model.tasks[stretch.task].end, stretch.end)
        }
        return model
    }
}
