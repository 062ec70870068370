// The two queues that an io_uring shares with the kernel: submissions out, completions in. No policy here: this file
// knows memory layout and ordering, the driver knows operations.
//
// Facts it builds on (man io_uring_setup, io_uring_enter): with SINGLE_ISSUER and DEFER_TASKRUN (Linux 6.1) only the
// loop's thread enters the ring, and the kernel does its completion work inside our own enter call instead of
// interrupting us; with TASKRUN_FLAG it says in the ring when there is such work. SUBMIT_ALL goes on after a
// submission that fails at once. Completions never get lost (NODROP): the kernel keeps those that do not fit.

import CRondo
import Glibc
import SystemPackage

/// An io_uring instance of the calling thread.
@safe
final class UringRing {
    // A class, not a struct: a struct's mutating calls would be checked for exclusive access at run time.

    /// −1 when closed.
    private(set) var fd: Int32
    /// Whether waits may be given an absolute time (Linux 6.12).
    let waitsUntilAbsoluteTime: Bool

    private let ringMemory: UnsafeMutableRawPointer
    private let ringLength: Int
    private let submissions: UnsafeMutablePointer<rondo_sqe>
    private let submissionsLength: Int
    private let submissionHead: UnsafeMutablePointer<UInt32>
    private let submissionTail: UnsafeMutablePointer<UInt32>
    private let submissionFlags: UnsafeMutablePointer<UInt32>
    private let submissionMask: UInt32
    private let submissionCapacity: UInt32
    private let completions: UnsafeMutablePointer<rondo_cqe>
    private let completionHead: UnsafeMutablePointer<UInt32>
    private let completionTail: UnsafeMutablePointer<UInt32>
    private let completionMask: UInt32

    /// Our own end of the submission queue; the kernel sees it at the next enter.
    private var localTail: UInt32 = 0
    /// How far the kernel has been told to look.
    private var submittedTail: UInt32 = 0
    /// Our own end of the completion queue; the kernel sees it when the queue is used up.
    private var localHead: UInt32 = 0
    /// The end of the completion queue that we know of.
    private var knownTail: UInt32 = 0

    /// Times that the ring was entered.
    private(set) var enters: UInt64 = 0

    /// The flags that Rondo's ring needs.
    static let setupFlags =
        RONDO_SETUP_SINGLE_ISSUER | RONDO_SETUP_DEFER_TASKRUN | RONDO_SETUP_TASKRUN_FLAG | RONDO_SETUP_SUBMIT_ALL
        | RONDO_SETUP_CLAMP | RONDO_SETUP_CQSIZE

    /// Makes a ring with room for `entries` submissions, and four times as many completions.
    init(entries: UInt32, waitsUntilAbsoluteTime: Bool) throws(Errno) {
        let memory = try RingMemory(entries: entries)
        let parameters = memory.parameters
        fd = memory.fd
        self.waitsUntilAbsoluteTime = waitsUntilAbsoluteTime
        unsafe ringMemory = memory.rings
        ringLength = memory.ringsLength
        unsafe submissions = memory.entries.assumingMemoryBound(to: rondo_sqe.self)
        submissionsLength = memory.entriesLength
        // SAFETY: the offsets are the kernel's own.
        let rings = unsafe memory.rings
        func word(_ offset: UInt32) -> UnsafeMutablePointer<UInt32> {
            unsafe (rings + Int(offset)).assumingMemoryBound(to: UInt32.self)
        }
        unsafe submissionHead = word(parameters.sq_off.head)
        unsafe submissionTail = word(parameters.sq_off.tail)
        unsafe submissionFlags = word(parameters.sq_off.flags)
        submissionMask = unsafe word(parameters.sq_off.ring_mask).pointee
        submissionCapacity = parameters.sq_entries
        unsafe completionHead = word(parameters.cq_off.head)
        unsafe completionTail = word(parameters.cq_off.tail)
        completionMask = unsafe word(parameters.cq_off.ring_mask).pointee
        unsafe completions =
            (rings + Int(parameters.cq_off.cqes)).assumingMemoryBound(to: rondo_cqe.self)
        // The queue holds indices into the entries; ours are always in order.
        let array = unsafe word(parameters.sq_off.array)
        for index in 0..<parameters.sq_entries { unsafe array[Int(index)] = index }
    }

    deinit { unmap() }

    /// Gives the ring back to the kernel; nothing but `deinit` may follow.
    func close() {
        unmap()
        fd = -1
    }

    private func unmap() {
        if fd < 0 { return }
        // SAFETY: the two mappings of init, once.
        unsafe munmap(ringMemory, ringLength)
        unsafe munmap(submissions, submissionsLength)
        Glibc.close(fd)
    }

    /// The next free submission, zeroed; the caller fills it in before anything else happens. Enters the ring first
    /// if the queue is full.
    @inline(__always)
    func nextSubmission() -> UnsafeMutablePointer<rondo_sqe> {
        // SAFETY: the mask keeps the index within the queue, and the capacity check keeps us off entries that the
        // kernel has not read yet.
        while unsafe localTail &- rondo_load_acquire(submissionHead) >= submissionCapacity {
            enter(waitingFor: 0, until: 0)
        }
        let entry = unsafe submissions + Int(localTail & submissionMask)
        unsafe entry.pointee = rondo_sqe()
        localTail &+= 1
        return unsafe entry
    }

    /// Whether an enter would do anything but wait: there are submissions, or completion work in the kernel.
    @inline(__always)
    var hasWork: Bool {
        // SAFETY: a word of the mapping.
        unsafe localTail != submittedTail
            || rondo_load_relaxed(submissionFlags) & (RONDO_SQ_TASKRUN | RONDO_SQ_CQ_OVERFLOW) != 0
    }

    /// Hands over all submissions, and waits for `count` completions or until `deadline` (monotonic nanoseconds;
    /// `UInt64.max`: no limit).
    func enter(waitingFor count: UInt32, until deadline: UInt64) {
        // SAFETY: words of the mapping; the argument and the time live across the call.
        unsafe rondo_store_release(submissionTail, localTail)
        let pending = localTail &- submittedTail
        let answer: Int32
        if count == 0 || deadline == .max {
            answer = rondo_uring_enter(fd, pending, count, RONDO_ENTER_GETEVENTS, nil)
        } else {
            var flags = RONDO_ENTER_GETEVENTS | RONDO_ENTER_EXT_ARG
            var nanoseconds = deadline
            if waitsUntilAbsoluteTime {
                flags |= RONDO_ENTER_ABS_TIMER
            } else {
                let now = monotonicNanoseconds()
                nanoseconds = deadline > now ? deadline - now : 0
            }
            var time = rondo_uring_timespec(
                seconds: Int64(nanoseconds / 1_000_000_000), nanoseconds: Int64(nanoseconds % 1_000_000_000))
            answer = unsafe withUnsafePointer(to: &time) { time in
                var argument = rondo_uring_wait_argument(
                    sigmask: 0, sigmask_size: 0, min_wait_microseconds: 0,
                    timespec_address: UInt64(UInt(bitPattern: time)))
                return unsafe rondo_uring_enter(fd, pending, count, flags, &argument)
            }
        }
        enters &+= 1
        if answer >= 0 {
            submittedTail &+= UInt32(answer)
        } else {
            noteRefusal(answer)
        }
        knownTail = unsafe rondo_load_acquire(completionTail)
    }

    /// An enter that failed. The kernel reports a failed wait only when it took nothing, so nothing is lost.
    private func noteRefusal(_ answer: Int32) {
        switch -answer {
        case ETIME, EINTR:
            // The wait ended; submissions, if there were any, were taken before it began.
            // SAFETY: a word of the mapping.
            submittedTail = unsafe rondo_load_acquire(submissionHead)
        case EBUSY, EAGAIN:
            break  // completions must be taken first, or memory is short: the next turn tries again
        default:
            crash("io_uring_enter: \(Errno(rawValue: -answer)), which the driver can't have caused")
        }
    }

    /// The next completion, if one has arrived.
    @inline(__always)
    func nextCompletion() -> rondo_cqe? {
        // SAFETY: the kernel has written all completions before its tail, which was read with acquire ordering.
        if localHead == knownTail {
            unsafe rondo_store_release(completionHead, localHead)
            knownTail = unsafe rondo_load_acquire(completionTail)
            if localHead == knownTail { return nil }
        }
        let completion = unsafe completions[Int(localHead & completionMask)]
        localHead &+= 1
        return completion
    }

    /// Whether a completion has arrived that was not taken yet.
    @inline(__always)
    var hasCompletion: Bool {
        // SAFETY: a word of the mapping.
        unsafe rondo_load_acquire(completionTail) != localHead
    }
}

/// The descriptor of a new ring, and the memory that it shares with the kernel.
@safe
private struct RingMemory {
    let fd: Int32
    let parameters: rondo_uring_params
    /// Both queues' counters and the completions.
    let rings: UnsafeMutableRawPointer
    let ringsLength: Int
    /// The submissions.
    let entries: UnsafeMutableRawPointer
    let entriesLength: Int

    init(entries count: UInt32) throws(Errno) {
        var parameters = rondo_uring_params()
        parameters.flags = UringRing.setupFlags
        parameters.cq_entries = count * 4
        let fd = try checked(unsafe rondo_uring_setup(count, &parameters))
        let arrayEnd = Int(parameters.sq_off.array) + Int(parameters.sq_entries) * 4
        let completionsEnd =
            Int(parameters.cq_off.cqes) + Int(parameters.cq_entries) * MemoryLayout<rondo_cqe>.stride
        self.fd = fd
        self.parameters = parameters
        ringsLength = max(arrayEnd, completionsEnd)
        entriesLength = Int(parameters.sq_entries) * MemoryLayout<rondo_sqe>.stride
        // SAFETY: the lengths come from what the kernel filled in; the ring unmaps both.
        let rings = unsafe Self.map(fd, length: ringsLength, offset: off_t(RONDO_OFFSET_SQ_RING))
        let entries = unsafe Self.map(fd, length: entriesLength, offset: off_t(RONDO_OFFSET_SQES))
        guard let rings = unsafe rings, let entries = unsafe entries else {
            Glibc.close(fd)
            throw .noMemory
        }
        unsafe self.rings = rings
        unsafe self.entries = entries
    }

    private static func map(_ fd: Int32, length: Int, offset: off_t) -> UnsafeMutableRawPointer? {
        // SAFETY: a new mapping, wherever the kernel likes.
        let memory = unsafe mmap(nil, length, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, offset)
        return unsafe memory == MAP_FAILED ? nil : memory
    }
}
