// Scheduled tasks: a heap of deadlines, and one task of the loop that sleeps until the earliest.

public import NIOCore

extension NIOLoop {
    /// Runs `task` on the loop at `deadline`, or as soon as its turn comes after that.
    @discardableResult
    public func scheduleTask<Value>(
        deadline: NIODeadline, _ task: @escaping @Sendable () throws -> Value
    ) -> Scheduled<Value> {
        let promise = makePromise(of: Value.self)
        let timer = ScheduledTimer(deadline) { error in
            if let error { return promise.fail(error) }
            do { promise.assumeIsolated().succeed(try task()) } catch { promise.fail(error) }
        }
        onLoop { self.add(timer) }
        return Scheduled(promise: promise) { [weak self] in
            guard let self else { return }
            onLoop { self.timers.remove(timer) }
        }
    }

    /// Runs `task` on the loop after a while.
    @discardableResult
    public func scheduleTask<Value>(
        in delay: TimeAmount, _ task: @escaping @Sendable () throws -> Value
    ) -> Scheduled<Value> {
        scheduleTask(deadline: now + delay, task)
    }

    /// Now if we are on the loop, else soon.
    func onLoop(_ body: @escaping @Sendable () -> Void) {
        if inEventLoop { body() } else { execute(body) }
    }

    private func add(_ timer: ScheduledTimer) {
        if timer.isOver { return }
        if isShutDown { return timer.complete(EventLoopError.shutdown) }
        timers.add(timer)
        sleepUntilEarliest()
    }

    /// Sees to it that somebody wakes up for the earliest timer. A sleeper that wakes too early does no harm: so
    /// removing timers wakes nobody.
    private func sleepUntilEarliest() {
        guard let earliest = timers.earliest else { return }
        if let sleeper {
            if sleeper.deadline <= earliest { return }
            sleeper.task.cancel()
        }
        let delay = max(0, (earliest - .now()).nanoseconds)
        let task = Task.detached(name: "NIO timers", executorPreference: taskExecutor) { [weak self] in
            do { try await Task.sleep(for: .nanoseconds(delay)) } catch { return }
            guard let self else { return }
            onLoop { self.fireTimers(sleptUntil: earliest) }
        }
        sleeper = (task, earliest)
    }

    /// In a simulation time jumps, and NIO's clock knows nothing of it: what was slept for has passed.
    private func fireTimers(sleptUntil deadline: NIODeadline) {
        if sleeper?.deadline == deadline { sleeper = nil }
        let now = max(deadline, NIODeadline.now())
        // Those that a timer adds are for the next time, even if they are due: the loop has other tasks, too.
        for timer in timers.removeAll(until: now) where !timer.isOver { timer.complete(nil) }
        sleepUntilEarliest()
    }
}

/// One task to be run at a time. It belongs to the loop.
@safe
final class ScheduledTimer: @unchecked Sendable {
    // SAFETY: only the loop's thread touches what changes.

    let deadline: NIODeadline
    /// Tells timers of the same deadline apart: first come, first served.
    fileprivate(set) var order: UInt64 = 0
    /// Where it stands in the heap; nil if it does not.
    fileprivate(set) var index: Int?
    private var body: (((any Error)?) -> Void)?

    /// - Parameter body: runs the task, or fails its promise if there is an error.
    init(_ deadline: NIODeadline, _ body: @escaping ((any Error)?) -> Void) {
        self.deadline = deadline
        self.body = body
    }

    /// Whether it has run or will not run.
    var isOver: Bool { body == nil }

    /// Runs the task, or fails it.
    func complete(_ error: (any Error)?) {
        let body = body
        self.body = nil
        body?(error)
    }

    /// It will not run.
    fileprivate func drop() { body = nil }

    fileprivate func isBefore(_ other: ScheduledTimer) -> Bool {
        deadline == other.deadline ? order < other.order : deadline < other.deadline
    }
}

/// Timers, the earliest at hand.
struct TimerHeap {
    private var timers: [ScheduledTimer] = []
    private var added: UInt64 = 0

    var count: Int { timers.count }
    var earliest: NIODeadline? { timers.first?.deadline }

    mutating func add(_ timer: ScheduledTimer) {
        added += 1
        timer.order = added
        timer.index = timers.count
        timers.append(timer)
        moveUp(timers.count - 1)
    }

    /// Takes a timer out, wherever it stands. It will not run.
    mutating func remove(_ timer: ScheduledTimer) {
        timer.drop()
        guard let index = timer.index else { return }
        timer.index = nil
        let last = timers.removeLast()
        if last === timer { return }
        place(last, at: index)
        moveUp(index)
        moveDown(index)
    }

    /// Takes out what is due, in order. Each stays removable by its owner until it has run.
    mutating func removeAll(until time: NIODeadline = .distantFuture) -> [ScheduledTimer] {
        var due: [ScheduledTimer] = []
        while let first = timers.first, first.deadline <= time {
            due.append(first)
            first.index = nil
            let last = timers.removeLast()
            if last === first { break }
            place(last, at: 0)
            moveDown(0)
        }
        return due
    }

    private mutating func place(_ timer: ScheduledTimer, at index: Int) {
        timers[index] = timer
        timer.index = index
    }

    private mutating func moveUp(_ start: Int) {
        var index = start
        let timer = timers[index]
        while index > 0, timer.isBefore(timers[(index - 1) / 2]) {
            place(timers[(index - 1) / 2], at: index)
            index = (index - 1) / 2
        }
        place(timer, at: index)
    }

    private mutating func moveDown(_ start: Int) {
        var index = start
        let timer = timers[index]
        while true {
            var child = 2 * index + 1
            if child >= timers.count { break }
            if child + 1 < timers.count, timers[child + 1].isBefore(timers[child]) { child += 1 }
            if !timers[child].isBefore(timer) { break }
            place(timers[child], at: index)
            index = child
        }
        place(timer, at: index)
    }
}
