// Which tasks are alive, for those who look: the loop notes a task when it first becomes ready, and the runtime tells
// when it ends.
//
// A noted task has another first word (see rondo_tasks.h), so the question "is it noted?" is one comparison, and a word
// that the runtime leaves alone says where. Nothing of this happens unless the loop is configured to be looked at.

import CRondo
import Synchronization

/// The tasks that one loop was the first to see. Slots are given out by the loop's thread; a task may end on any.
///
/// An `async let` is not noted: nobody tells when it ends. It is found through its parent.
@safe
package final class LiveTasks: @unchecked Sendable {
    // SAFETY: `free` and `top` belong to the thread of the loop that has this list, `slots` never change their place,
    // and slots that other threads give back come through `returned`.

    private struct Slot {
        var task: UInt
        var entry: UInt
        var creator: UInt64
        var nextFree: UInt32
    }

    /// A task, by its address; and what was known when it was first seen.
    package struct Note: Sendable {
        package var task: UInt
        /// The code that it began with; 0 if that is not known.
        package var entry: UInt
        /// The id of the task that made it; 0 if none did.
        package var creator: UInt64
    }

    private static let none = UInt32.max
    private static let chunkBits: UInt32 = 10
    private static let chunkCount = 4096
    private let chunks: UnsafeMutablePointer<UnsafeMutablePointer<Slot>?>
    private var free = LiveTasks.none
    private var top: UInt32 = 0
    private let returned = Atomic<UInt32>(LiveTasks.none)
    /// Its place in the registry.
    private let number: UInt32
    /// Tasks that are alive, as far as their end has been heard of.
    package private(set) var count = 0
    /// Tasks that found no room.
    package private(set) var missed = 0

    private let plain = rondo_plain_task()
    private let watched = rondo_watched_task()

    private init(number: UInt32) {
        self.number = number
        // SAFETY: for the life of the process, as the list itself.
        unsafe chunks = .allocate(capacity: Self.chunkCount)
        unsafe chunks.initialize(repeating: nil, count: Self.chunkCount)
    }

    // MARK: Noting

    /// A job has become ready that is not noted. On the loop's thread.
    @inline(never)
    func note(_ job: JobReference) {
        guard job.firstWord == plain, job.isTask, !job.isAsyncLet, let index = takeSlot() else { return }
        // SAFETY: a slot that was just taken; the task is alive, as it is about to run.
        unsafe slot(index).initialize(
            to: Slot(
                task: job.bits, entry: rondo_task_entry(job.bits), creator: currentTaskReference()?.taskID ?? 0,
                nextFree: Self.none))
        count += 1
        job.liveNote = number << 24 | index
        job.firstWord = watched
    }

    private func takeSlot() -> UInt32? {
        if free == Self.none { collectReturned() }
        if free != Self.none {
            let index = free
            // SAFETY: in the free list.
            free = unsafe slot(index).pointee.nextFree
            return index
        }
        guard top < UInt32(Self.chunkCount) << Self.chunkBits else {
            missed += 1
            return nil
        }
        let chunk = Int(top >> Self.chunkBits)
        if unsafe chunks[chunk] == nil {
            unsafe chunks[chunk] = .allocate(capacity: 1 << Int(Self.chunkBits))
        }
        top += 1
        return top - 1
    }

    private func slot(_ index: UInt32) -> UnsafeMutablePointer<Slot> {
        // SAFETY: an index below `top`, whose chunk is there.
        unsafe chunks[Int(index >> Self.chunkBits)]! + Int(index & (1 << Self.chunkBits - 1))
    }

    // MARK: Ending

    /// From any thread: a noted task is about to be freed.
    private func end(_ index: UInt32, onOwnThread: Bool) {
        // SAFETY: the slot is this task's until here.
        if onOwnThread { return freeSlot(index) }
        let slot = unsafe slot(index)
        var head = returned.load(ordering: .relaxed)
        while true {
            unsafe slot.pointee.nextFree = head
            let (done, found) = returned.weakCompareExchange(
                expected: head, desired: index, successOrdering: .releasing, failureOrdering: .relaxed)
            if done { return }
            head = found
        }
    }

    private func collectReturned() {
        var index = returned.exchange(Self.none, ordering: .acquiring)
        while index != Self.none {
            // SAFETY: slots in the list are nobody's.
            let next = unsafe slot(index).pointee.nextFree
            freeSlot(index)
            index = next
        }
    }

    private func freeSlot(_ index: UInt32) {
        // SAFETY: a slot that is nobody's.
        let slot = unsafe slot(index)
        count -= 1
        unsafe slot.pointee.task = 0
        unsafe slot.pointee.nextFree = free
        free = index
    }

    /// The tasks that are alive, from `start` on; at most `limit`. On the loop's thread.
    ///
    /// One that ends on another thread in this moment may still be in it.
    ///
    /// - Returns: the tasks, and where to go on; nil if that was all.
    package func notes(from start: Int = 0, limit: Int = .max) -> (notes: [Note], next: Int?) {
        collectReturned()
        var notes: [Note] = []
        for index in start..<Int(top) {
            if notes.count == limit { return (notes, index) }
            // SAFETY: below `top`. Of a slot that another thread gives back now, that thread writes `nextFree` only.
            let slot = unsafe slot(UInt32(index))
            let task = unsafe slot.pointee.task
            if task == 0 { continue }
            unsafe notes.append(Note(task: task, entry: slot.pointee.entry, creator: slot.pointee.creator))
        }
        return (notes, nil)
    }

    // MARK: The lists of all loops

    private struct Registry {
        var count: UInt32 = 0
        var unused: [LiveTasks] = []
        var isWatching = false
    }
    private static let limit = 256
    private static let registry = Lock(Registry())
    /// The lists by their numbers. They stay for the life of the process, as tasks may outlive their loop.
    // SAFETY: a place is written before any task can name it.
    nonisolated(unsafe) private static let lists: UnsafeMutablePointer<Unmanaged<LiveTasks>?> = {
        let lists = UnsafeMutablePointer<Unmanaged<LiveTasks>?>.allocate(capacity: limit)
        unsafe lists.initialize(repeating: nil, count: limit)
        return unsafe lists
    }()

    /// A list for a new loop; nil if the runtime's tasks are not known, or too many loops are being looked at.
    static func take() -> LiveTasks? {
        guard rondo_knows_task_layout() != 0 else { return nil }
        return registry.withLock { registry -> LiveTasks? in
            if !registry.isWatching {
                unsafe rondo_watch_tasks { unsafe LiveTasks.taskEnded($0) }
                registry.isWatching = true
            }
            if let list = registry.unused.popLast() { return list }
            guard registry.count < limit else { return nil }
            let list = LiveTasks(number: registry.count)
            unsafe lists[Int(registry.count)] = Unmanaged.passRetained(list)
            registry.count += 1
            return list
        }
    }

    /// The loop has closed. Its list is the next loop's; tasks that live on stay in it.
    static func giveBack(_ list: LiveTasks) {
        registry.withLock { $0.unused.append(list) }
    }

    private static func taskEnded(_ task: UnsafeMutableRawPointer?) {
        guard let job = JobReference(bits: UInt(bitPattern: task)) else { return }
        let note = job.liveNote
        // SAFETY: noted tasks name a list that is there.
        unsafe lists[Int(note >> 24)]!._withUnsafeGuaranteedRef { list in
            let loop = EventLoop.current
            loop?.eventRing?.ends(taskNumber: job.taskNumber)
            list.end(note & 0xff_ffff, onOwnThread: loop?.liveTasks === list)
        }
    }
}
