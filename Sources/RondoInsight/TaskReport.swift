// The answer to "what is every task doing, and why does it wait?"

import CRondo
import Glibc
package import Rondo

/// One task of a program, as it was when its loop was asked.
package struct TaskReport: Sendable {
    package enum Kind: String, Sendable { case task, groupChild = "group child", asyncLet = "async let" }
    package enum State: String, Sendable { case running, ready, waiting }

    /// What a task waits for.
    package enum Wait: Sendable {
        /// An operation of the loop's, and what it is on, in words for people.
        case operation(Operation.Kind, descriptor: Int32?, subject: String?)
        case sleep(nanosecondsLeft: UInt64)
        case task(id: UInt64?)
        case group, continuation, executor
    }

    package var id: UInt64
    package var name: String?
    /// The task that it is a child of; of a task that is nobody's child, the one that made it.
    package var parent: UInt64?
    package var kind: Kind
    package var state: State
    package var priority: UInt8
    package var isCancelled: Bool
    /// How long it has been in this state: nanoseconds, exact to about a millisecond.
    package var age: UInt64
    package var wait: Wait?
    /// The loop that saw it first.
    package var loop: Int
    /// Where it goes on, and who called that, innermost first, as addresses. A task that has not run yet has the code
    /// that it will begin with.
    package var stack: [UInt]

    /// The task's address, and those of the task that it is a child of and of the one whose end it waits for.
    var address: UInt
    var parentAddress: UInt?
    var awaitedAddress: UInt?
    /// The note of the timer that it sleeps on, of any loop.
    var timerNote: UInt64
}

/// Reads a loop's tasks, a part at a time, so that the loop is never held up for long.
final class TaskCollector: @unchecked Sendable {
    // SAFETY: used by the loop's thread until it signals `done`, and then by the thread that waits for that.

    private let loop: EventLoop
    private let tasks: LiveTasks
    private let limit: Int
    private let done = ThreadSemaphore()
    private var next: Int? = 0
    private var found: [TaskReport] = []
    private var waitsOfOthers: [UInt: TaskReport.Wait] = [:]
    private var nanoseconds: UInt64 = 0
    private var read = 0
    private var notShown = 0
    private var statistics = LoopStatistics()

    /// What a loop has answered.
    struct Outcome: Sendable {
        var tasks: [TaskReport]
        /// What tasks that another loop tells of wait for on this one, by their addresses.
        var waitsOfOthers: [UInt: TaskReport.Wait]
        /// Tasks that are not among them: beyond the limit, or such as the loop had no room to note.
        var notShown: Int
        /// How long the loop took for it.
        var nanoseconds: UInt64
        var statistics: LoopStatistics
    }

    /// Tasks that are read between two turns: at 3 to 10 µs each.
    private static let perTurn = 128

    /// - Returns: nil if the loop's tasks are not tracked.
    init?(_ loop: EventLoop, limit: Int) {
        guard let tasks = loop.liveTasks else { return nil }
        self.loop = loop
        self.tasks = tasks
        self.limit = limit
    }

    /// Asks the loop, and waits for its answer. What it lacks is filled in by `join`.
    ///
    /// - Parameter deadline: monotonic nanoseconds.
    /// - Returns: nil if it has not answered until then.
    func collect(until deadline: UInt64) -> Outcome? {
        guard loop.whenFree({ [self] in step() }), done.wait(until: deadline) else { return nil }
        return Outcome(
            tasks: found, waitsOfOthers: waitsOfOthers, notShown: notShown, nanoseconds: nanoseconds,
            statistics: statistics)
    }

    private func step() {
        guard let start = next else { return }
        let began = monotonicNanoseconds()
        defer { nanoseconds += monotonicNanoseconds() - began }
        let (notes, end) = tasks.notes(from: start, limit: Self.perTurn)
        let waits = loop.waits
        for note in notes { add(note.task, note, waits) }
        read += notes.count
        next = read < limit ? end : nil
        if next != nil, loop.whenFree({ [self] in step() }) { return }
        notShown = (end == nil ? 0 : tasks.count - read) + tasks.missed
        statistics = loop.currentStatistics
        let known = Set(found.map(\.address))
        for (address, wait) in waits where !known.contains(address) { waitsOfOthers[address] = report(wait) }
        done.signal()
    }

    private func add(_ address: UInt, _ note: LiveTasks.Note?, _ waits: [UInt: Rondo.Wait]) {
        guard let task = TaskMemory(at: address), !task.isComplete else { return }
        var awaited: UInt?
        if case .task(let other)? = task.dependency { awaited = other }
        let hasEntry = task.isReady && note.map { $0.entry != 0 } == true && task.stack.count <= 1
        found.append(
            TaskReport(
                id: task.id, name: task.name, parent: note.flatMap { $0.creator == 0 ? nil : $0.creator },
                kind: task.isAsyncLet ? .asyncLet : task.isGroupChild ? .groupChild : .task,
                state: task.isRunning ? .running : task.isReady ? .ready : .waiting, priority: task.priority,
                isCancelled: task.isCancelled, age: loop.nanoseconds(since: task.lastSeen), wait: wait(task, waits),
                loop: loop.number, stack: hasEntry ? [note!.entry] : task.stack, address: address,
                parentAddress: task.parent, awaitedAddress: awaited, timerNote: task.timerNote))
        for child in task.asyncLets { add(child, nil, waits) }
    }

    private func wait(_ task: TaskMemory, _ waits: [UInt: Rondo.Wait]) -> TaskReport.Wait? {
        if task.isRunning || task.isReady { return nil }
        if let wait = waits[task.address] { return report(wait) }
        if let left = loop.sleepLeft(of: task.address, note: task.timerNote) { return .sleep(nanosecondsLeft: left) }
        switch task.dependency {
        case .task: return .task(id: nil)
        case .group: return .group
        case .executor: return .executor
        case .continuation, nil: return .continuation
        }
    }

    private func report(_ wait: Rondo.Wait) -> TaskReport.Wait {
        .operation(
            wait.kind, descriptor: wait.descriptor?.rawValue,
            subject: wait.descriptor.flatMap { loop.subject(of: $0) })
    }
}

extension EventLoop {
    /// What a descriptor is, in words for people: a peer's address, a socket's own, or a path.
    func subject(of descriptor: Descriptor) -> String? {
        for name in [try? driver.peerName(of: descriptor), try? driver.localName(of: descriptor)] {
            guard let name else { continue }
            if let address = SocketAddress(name) { return "\(address)" }
            if name.family == AF_UNIX, case let address = UnixAddress(name), !address.isUnnamed { return "\(address)" }
        }
        return unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: Int(PATH_MAX)) { buffer in
            // SAFETY: readlink fills at most the buffer, and answers how much.
            let count = unsafe readlink("/proc/self/fd/\(descriptor.rawValue)", buffer.baseAddress!, buffer.count)
            return count > 0 ? unsafe String(decoding: UnsafeRawBufferPointer(buffer)[..<count], as: UTF8.self) : nil
        }
    }
}
