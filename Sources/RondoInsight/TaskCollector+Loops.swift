// What several loops know together of their tasks. A task goes from loop to loop: the one that has seen it first tells
// of it, but what it waits for may stand in the tables of another one, and so may the task that it waits for.

import Rondo

extension TaskCollector {
    /// Fills in what no loop could tell by itself.
    ///
    /// - Parameter deadline: monotonic nanoseconds, beyond which no loop is waited for.
    static func join(_ collected: inout [(loop: EventLoop, outcome: Outcome?)], until deadline: UInt64) {
        let all = collected.compactMap(\.outcome)
        var ids: [UInt: UInt64] = [:]
        var waits: [UInt: TaskReport.Wait] = [:]
        var sleepers: [TaskReport] = []
        for outcome in all {
            for task in outcome.tasks { ids[task.address] = task.id }
            waits.merge(outcome.waitsOfOthers) { first, _ in first }
            if collected.count > 1 { sleepers += outcome.tasks.filter { $0.waitsElsewhere && $0.timerNote != 0 } }
        }
        if !sleepers.isEmpty {
            for (loop, outcome) in collected where outcome != nil {
                waits.merge(SleepQuestion(sleepers).ask(loop, until: deadline)) { first, _ in first }
            }
        }
        for index in collected.indices { collected[index].outcome?.complete(ids, waits) }
    }
}

extension TaskCollector.Outcome {
    fileprivate mutating func complete(_ ids: [UInt: UInt64], _ waits: [UInt: TaskReport.Wait]) {
        for index in tasks.indices {
            if let parent = tasks[index].parentAddress.flatMap({ ids[$0] }) { tasks[index].parent = parent }
            if let awaited = tasks[index].awaitedAddress { tasks[index].wait = .task(id: ids[awaited]) }
            if tasks[index].waitsElsewhere, let wait = waits[tasks[index].address] { tasks[index].wait = wait }
        }
    }
}

extension TaskReport {
    /// Whether it waits for something that the loop which tells of it does not know.
    fileprivate var waitsElsewhere: Bool { if case .continuation = wait { true } else { false } }
}

/// Which of some tasks sleep on a loop.
private final class SleepQuestion: @unchecked Sendable {
    // SAFETY: used by the loop's thread until it signals `done`, and then by the thread that waits for that.
    private let tasks: [TaskReport]
    private let done = ThreadSemaphore()
    private var found: [UInt: TaskReport.Wait] = [:]

    init(_ tasks: [TaskReport]) { self.tasks = tasks }

    /// Asks a loop, and waits for its answer; not beyond the deadline.
    func ask(_ loop: EventLoop, until deadline: UInt64) -> [UInt: TaskReport.Wait] {
        let isTold = loop.whenFree { [self] in
            for task in tasks {
                guard let left = loop.sleepLeft(of: task.address, note: task.timerNote) else { continue }
                found[task.address] = .sleep(nanosecondsLeft: left)
            }
            done.signal()
        }
        return isTold && done.wait(until: deadline) ? found : [:]
    }
}
