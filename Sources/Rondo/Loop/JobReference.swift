// The words inside each job that the loop uses, and how to find them without a generic call.
//
// Two are the executor's own: `ExecutorJob.withUnsafeExecutorPrivateData` is the public way to them, but costs a
// generic call into another module at each step of a queue. They stand at a fixed place in every job; `LoopExecutor`
// asks the runtime once, with the first job, whether they still do. The runtime clears both when it enqueues a task, so
// what must outlive a wait (the note of a sleeping task's timer) stands in a word that it reserves and never uses.

import CRondo

/// A job by its address. The loop links ready jobs through the first of the executor's words, which is the loop's from
/// `enqueue` until the job runs, and notes a sleeping task's timer in the reserved word.
@safe
package struct JobReference {
    private let address: UnsafeMutableRawPointer

    @inline(__always)
    init(_ job: UnownedJob) {
        // SAFETY: an UnownedJob is one pointer to the job.
        unsafe address = unsafeBitCast(job, to: UnsafeMutableRawPointer.self)
    }

    @inline(__always)
    init?(bits: UInt) {
        guard let address = unsafe UnsafeMutableRawPointer(bitPattern: bits) else { return nil }
        unsafe self.address = address
    }

    @inline(__always)
    var bits: UInt { unsafe UInt(bitPattern: address) }

    @inline(__always)
    var job: UnownedJob {
        // SAFETY: the reverse of init.
        unsafe unsafeBitCast(address, to: UnownedJob.self)
    }

    /// Starts to load what running this job will touch: its own first cache lines.
    @inline(__always)
    func prefetch() {
        rondo_prefetch(bits)
        rondo_prefetch(bits &+ 64)
    }

    /// One job ahead of `prefetch`, whose lines have arrived by now: what this job points to.
    @inline(__always)
    func prefetchDeeper() {
        // SAFETY: a job is at least as long as a task's header; whatever the words hold is only used as a hint.
        rondo_prefetch(unsafe address.load(fromByteOffset: Self.resumeContext, as: UInt.self))
    }

    /// Where a task keeps the frame that it will resume in; a job of another kind keeps something else there.
    private static let resumeContext = 64

    /// Where the private words begin.
    static let privateWords = 16
    /// Where the word is that the runtime reserves (`Job::Reserved`): zero in a new job, and left alone.
    private static let reservedWord = 48

    /// The next job of the queue that this job is in.
    @inline(__always)
    var next: UInt {
        // SAFETY: LoopExecutor has verified that the executor's words are here.
        get { unsafe address.load(fromByteOffset: Self.privateWords, as: UInt.self) }
        nonmutating set { unsafe address.storeBytes(of: newValue, toByteOffset: Self.privateWords, as: UInt.self) }
    }

    /// The timer that the job's task sleeps on. It may be a left-over of anything: the timer must confirm that it is
    /// this task's, and any value of the note does no harm.
    @inline(__always)
    var timerNote: TimerNote {
        get { TimerNote(rawValue: reserved & ~Self.seenBit) }
        nonmutating set { reserved = newValue.rawValue | reserved & Self.seenBit }
    }

    /// Whether the event ring has noted the task: the reserved word's highest bit, which no timer's note uses.
    @inline(__always)
    var isSeen: Bool { reserved & Self.seenBit != 0 }

    func setSeen() { reserved |= Self.seenBit }

    static let seenBit: UInt64 = 1 << 63

    @inline(__always)
    private var reserved: UInt64 {
        // SAFETY: every job is 64 bytes at least.
        get { unsafe address.load(fromByteOffset: Self.reservedWord, as: UInt64.self) }
        nonmutating set {
            unsafe address.storeBytes(of: newValue, toByteOffset: Self.reservedWord, as: UInt64.self)
        }
    }

    /// Whose a job is. Each enqueue says it: in a job that is no task's the word may hold anything before.
    enum Owner: UInt {
        /// That of any loop of the group.
        case anyLoop = 0
        /// That of this loop, and of no other of its group.
        case loop = 1
        /// That of an actor of this loop.
        case actor = 2
    }

    @inline(__always)
    var owner: Owner {
        // SAFETY: the second of the executor's words, which is the loop's from `enqueue` until the job runs.
        get { Owner(rawValue: unsafe address.load(fromByteOffset: Self.privateWords + 8, as: UInt.self)) ?? .anyLoop }
        nonmutating set {
            unsafe address.storeBytes(of: newValue.rawValue, toByteOffset: Self.privateWords + 8, as: UInt.self)
        }
    }

    /// Whether the job belongs to this loop, and to no other of its group.
    @inline(__always)
    var isPinned: Bool { owner != .anyLoop }

    /// Whether another loop may run it: a task that waits in its outermost function, or has not begun. Then it waits in
    /// no function of Rondo's, all of which count on their loop's thread.
    ///
    /// That function's frame stands in the task's own block of memory, all others stand elsewhere. An `async let` has
    /// no block of its own, so it can't be told and stays.
    var isMovable: Bool {
        // SAFETY: a loop with jobs to move has verified the layout of tasks; every job has these words. A task that is
        // no `async let` was allocated as a block.
        guard isTask, !isAsyncLet else { return false }
        let context = unsafe address.load(fromByteOffset: Self.resumeContext, as: UInt.self)
        return unsafe context > bits && context &- bits < UInt(rondo_allocation_size(address))
    }

    /// Names the job's task in events: the low half of the task's id. A job of another kind (an actor's queue) is named
    /// by its address, with the highest bit set.
    @inline(__always)
    var taskNumber: UInt32 {
        // SAFETY: whoever has an event ring has verified the layout of tasks; every job has these words.
        let flagsAndID = unsafe address.load(fromByteOffset: Self.flagsWord, as: UInt64.self)
        if UInt32(truncatingIfNeeded: flagsAndID) & Self.kindMask == 0 { return UInt32(flagsAndID >> 32) }
        return UInt32(truncatingIfNeeded: bits >> 4) | Self.isNoTask
    }

    /// Set in the numbers of jobs that are not tasks'.
    package static let isNoTask: UInt32 = 1 << 31

    /// Whether it is a task's job, and not, say, an actor's.
    @inline(__always)
    var isTask: Bool { flags & Self.kindMask == 0 }

    /// Whether the task is an `async let`.
    var isAsyncLet: Bool { flags & Self.asyncLet != 0 }

    @inline(__always)
    private var flags: UInt32 {
        // SAFETY: every job has this word.
        unsafe address.load(fromByteOffset: Self.flagsWord, as: UInt32.self)
    }

    static let flagsWord = 32
    /// The kind of job; 0 is a task.
    static let kindMask: UInt32 = 0xff
    private static let asyncLet: UInt32 = 1 << 28
}

/// Who a task is, to be asked of a task that has not run yet: only then nobody else writes into its records.
@unsafe
struct TaskIdentity {
    var priority: UInt8
    /// The number of the task that waits for this one to end, if it is a child.
    var parent: UInt32?
    /// What it was named, as a C string that lives as long as the task.
    var name: UnsafePointer<CChar>?
}

extension JobReference {
    /// Who the job's task is; nil for a job of another kind.
    var identity: TaskIdentity? {
        // SAFETY: whoever has an event ring has verified the layout of tasks; a child's parent outlives it; the records
        // of a task that has not run are complete and change no more.
        let flags = word(Self.flagsWord, as: UInt32.self)
        guard flags & Self.kindMask == 0 else { return nil }
        var identity = unsafe TaskIdentity(priority: UInt8(truncatingIfNeeded: flags >> 8), parent: nil, name: nil)
        if flags & Self.isChild != 0, let parent = JobReference(bits: word(Self.parentWord, as: UInt.self)) {
            unsafe identity.parent = parent.taskNumber
        }
        guard flags & Self.hasName != 0 else { return unsafe identity }
        var record = unsafe UnsafeRawPointer(bitPattern: word(Self.recordsWord, as: UInt.self))
        for _ in 0..<8 {
            guard let current = unsafe record else { break }
            if unsafe current.load(as: UInt8.self) == Self.nameRecord {
                unsafe identity.name = current.load(fromByteOffset: 16, as: UnsafePointer<CChar>?.self)
                break
            }
            unsafe record = current.load(fromByteOffset: 8, as: UnsafeRawPointer?.self)
        }
        return unsafe identity
    }

    private func word<Word: BitwiseCopyable>(_ offset: Int, as: Word.Type) -> Word {
        // SAFETY: the caller knows that the job is a task, and what stands there.
        unsafe UnsafeRawPointer(bitPattern: bits)!.load(fromByteOffset: offset, as: Word.self)
    }

    private static let isChild: UInt32 = 1 << 24
    private static let hasName: UInt32 = 1 << 30
    private static let recordsWord = 104
    private static let parentWord = 208
    private static let nameRecord: UInt8 = 6
}

// What those who look at tasks keep in them: see LiveTasks.
extension JobReference {
    /// The first word of a heap object: what it is.
    @inline(__always)
    var firstWord: UInt {
        // SAFETY: a job is a heap object.
        get { unsafe address.load(as: UInt.self) }
        nonmutating set { unsafe address.storeBytes(of: newValue, as: UInt.self) }
    }

    /// Where the task is noted. Of a task only; the runtime leaves the word alone, and does not clear it.
    var liveNote: UInt32 {
        // SAFETY: within a task's header.
        get { unsafe address.load(fromByteOffset: Self.liveWord, as: UInt32.self) }
        nonmutating set { unsafe address.storeBytes(of: newValue, toByteOffset: Self.liveWord, as: UInt32.self) }
    }

    /// When the task last became ready or ran, in units of 2^20 ns of the loop's clock (about a millisecond). Of a task
    /// only.
    @inline(__always)
    var lastSeen: UInt32 {
        get { unsafe address.load(fromByteOffset: Self.liveWord + 4, as: UInt32.self) }
        nonmutating set { unsafe address.storeBytes(of: newValue, toByteOffset: Self.liveWord + 4, as: UInt32.self) }
    }

    /// The task's id, which no other task of the process ever had.
    var taskID: UInt64 {
        // SAFETY: within a task's header.
        let low = unsafe address.load(fromByteOffset: 36, as: UInt32.self)
        let high = unsafe address.load(fromByteOffset: 144, as: UInt32.self)
        return UInt64(high) << 32 | UInt64(low)
    }

    private static let liveWord = 72
}

/// Names a timer in a word of a task: its index, its generation, and the loop that it is set on. All bits zero is none.
struct TimerNote: RawRepresentable, Equatable, Sendable {
    let rawValue: UInt64

    static let none = TimerNote(rawValue: 0)

    @inline(__always)
    init(rawValue: UInt64) { self.rawValue = rawValue }

    @inline(__always)
    init(timer: UInt32, generation: UInt16, loop: Int) {
        rawValue =
            UInt64(timer &+ 1) | UInt64(generation) << 32 | UInt64(UInt16(truncatingIfNeeded: loop) & 0x7fff) << 48
    }

    @inline(__always)
    var timer: UInt32 { UInt32(truncatingIfNeeded: rawValue) &- 1 }
    @inline(__always)
    var generation: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 32) }
    @inline(__always)
    var loop: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 48) }
}

/// The task that runs on this thread now, as a job; nil outside of tasks.
@inline(__always)
func currentTaskReference() -> JobReference? {
    // A task begins with its job. (`withUnsafeCurrentTask` is generic and not inlined: a hundred times as dear.)
    JobReference(bits: rondo_current_task())
}

/// Starts to load what resuming a continuation will touch of its task.
@inline(__always)
func prefetchTask<Value>(of continuation: UnsafeContinuation<Value, Never>) {
    // SAFETY: a continuation is one pointer, to the task; it is only a hint.
    let address = unsafe unsafeBitCast(continuation, to: UInt.self)
    rondo_prefetch(address)
    rondo_prefetch(address &+ 64)
    rondo_prefetch(address &+ 128)
}
