// The two words that the Swift runtime gives an executor inside each job, and how to find them without a generic call.
//
// `ExecutorJob.withUnsafeExecutorPrivateData` is the public way; it costs a generic call into another module at each
// step of a queue. The words stand at a fixed place in every job; `LoopExecutor` asks the runtime once, with the first
// job, whether they still do.

import CRondo

/// A job by its address. The loop links ready jobs through the first word and notes a sleeping task's timer in the
/// second; both belong to the loop from `enqueue` until the job has run, and again while its task waits.
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

    /// Starts to load what running this job will touch: its own first cache lines, and through `timerNote` those of the
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
        let woken = timerNote
        rondo_prefetch(woken)
        rondo_prefetch(woken &+ 64)
    }

    /// Where a task keeps the frame that it will resume in; a job of another kind keeps something else there.
    private static let resumeContext = 64

    /// Where the private words begin.
    static let privateWords = 16

    /// The next job of the queue that this job is in.
    @inline(__always)
    var next: UInt {
        // SAFETY: LoopExecutor has verified that the executor's words are here.
        get { unsafe address.load(fromByteOffset: Self.privateWords, as: UInt.self) }
        nonmutating set { unsafe address.storeBytes(of: newValue, toByteOffset: Self.privateWords, as: UInt.self) }
    }

    /// The slot of the timer that the job's task sleeps on. It may be a left-over of anything: the timer must confirm
    /// that it is this task's.
    @inline(__always)
    var timerNote: UInt {
        // SAFETY: as `next`.
        get { unsafe address.load(fromByteOffset: Self.privateWords + 8, as: UInt.self) }
        nonmutating set {
            unsafe address.storeBytes(of: newValue, toByteOffset: Self.privateWords + 8, as: UInt.self)
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
