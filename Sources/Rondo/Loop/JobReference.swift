// The words of a job that are the loop's: those that the Swift runtime gives an executor, found without a generic
// call, and one that it does not use.
//
// `ExecutorJob.withUnsafeExecutorPrivateData` is the public way; it costs a generic call into another module at each
// step of a queue. The words stand at a fixed place in every job; `LoopExecutor` asks the runtime once, with the first
// job, whether they still do.

import CRondo

/// A job by its address. The loop links ready jobs through the first of the executor's words. The runtime clears those
/// when it enqueues a job (and the voucher's word when a task stops); so what must last while a task sleeps, its timer,
/// is noted in the word that the runtime reserves and does not use: it stands in every job, zero at first.
@safe
struct JobReference {
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

    /// Starts to load what running this job will touch: its own first cache lines, and through `wokenTask` those of the
    /// task that it will wake.
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
        let sleeper = wokenTask
        rondo_prefetch(sleeper)
        rondo_prefetch(sleeper &+ 64)
    }

    /// Where a task keeps the frame that it will resume in; a job of another kind keeps something else there.
    private static let resumeContext = 64

    /// Where the private words begin.
    static let privateWords = 16
    /// Where the reserved word is. Its first half holds the timer note, its second whether the job is a wake-up.
    private static let reservedWord = 48

    /// The next job of the queue that this job is in.
    @inline(__always)
    var next: UInt {
        // SAFETY: LoopExecutor has verified that the executor's words are here.
        get { unsafe address.load(fromByteOffset: Self.privateWords, as: UInt.self) }
        nonmutating set { unsafe address.storeBytes(of: newValue, toByteOffset: Self.privateWords, as: UInt.self) }
    }

    /// The address of the task that a wake-up job in the ready queue will wake; in other jobs anything. Only a hint.
    @inline(__always)
    var wokenTask: UInt {
        // SAFETY: as `next`.
        get { unsafe address.load(fromByteOffset: Self.privateWords + 8, as: UInt.self) }
        nonmutating set {
            unsafe address.storeBytes(of: newValue, toByteOffset: Self.privateWords + 8, as: UInt.self)
        }
    }

    /// The slot of the timer that the job's task sleeps on. It may be a left-over of anything: the timer must confirm
    /// that it is this task's.
    @inline(__always)
    var timerNote: UInt32 {
        // SAFETY: every job is 64 bytes at least, and any value of the note does no harm.
        get { unsafe address.load(fromByteOffset: Self.reservedWord, as: UInt32.self) }
        nonmutating set { unsafe address.storeBytes(of: newValue, toByteOffset: Self.reservedWord, as: UInt32.self) }
    }

    /// Whether the job only wakes a sleeping task: see `LoopExecutor.runWakeUp`.
    @inline(__always)
    var isWakeUp: Bool {
        // SAFETY: as `timerNote`; nobody but the loop writes here.
        get { unsafe address.load(fromByteOffset: Self.reservedWord + 4, as: UInt32.self) != 0 }
        nonmutating set {
            unsafe address.storeBytes(of: newValue ? 1 : 0, toByteOffset: Self.reservedWord + 4, as: UInt32.self)
        }
    }
}

/// The task that runs on this thread now, as a job; nil outside of tasks.
@inline(__always)
func currentTaskReference() -> JobReference? {
    unsafe withUnsafeCurrentTask { task in
        guard let task = unsafe task else { return nil }
        // SAFETY: an UnsafeCurrentTask is one pointer to the task, and a task begins with its job.
        return unsafe JobReference(bits: unsafeBitCast(task, to: UInt.self))
    }
}
