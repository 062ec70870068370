// io_uring as a driver: operations become submissions, completions come back, and one system call per turn does both.
//
// Facts it builds on (man io_uring_enter, io_uring_register):
// - Multishot accept and receive stay armed and complete many times; a completion without CQE_F_MORE was the last.
// - A multishot receive takes its memory from a ring of provided buffers. In an incremental ring (Linux 6.12) several
//   receives share a buffer; CQE_F_BUF_MORE says that the kernel goes on with it. With no buffer left a receive ends
//   with ENOBUFS.
// - A cancel request completes by itself; the operation that it names completes too, once, with ECANCELED or with what
//   it had reached. So nothing is freed before its last completion. While the kernel tries an operation anew (a send
//   that has found some room, say) a cancel request does not find it and answers ENOENT: it must be made again.
// - What the kernel can only do by blocking (connecting to a Unix listener whose queue is full) it gives to a thread of
//   its own; cancelling interrupts that thread, and the answer is EINTR.
// - A multishot poll on an eventfd completes at each write to it, and need not be armed again.

import CRondo
import Glibc
import SystemPackage

@safe
final class UringDriver: KernelDriver {
    let name = "io_uring"
    let reason: String
    let receiveBuffers: ReceiveBuffers
    let socketFlags: Int32 = 0

    private let ring: UringRing
    private let offload: OffloadPool
    /// Written by other threads to end a wait.
    private let wakeDescriptor: Int32
    /// The kernel's ring of free buffers: an anonymous mapping of `bufferRingLength` bytes.
    private let bufferRing: UnsafeMutablePointer<rondo_uring_buffer>
    private let bufferRingLength: Int
    /// Whether receives share buffers (Linux 6.12).
    let sharesBuffers: Bool

    /// User data of the driver's own submissions: no OperationID has the highest bit.
    private static let wakeData = UInt64.max
    private static let cancelBit: UInt64 = 1 << 63
    /// Directory poolCalls, and file calls for which the kernel has no operation.
    private var poolCalls = OffloadedCalls()
    /// Whether the kernel has an operation that truncates files (Linux 6.9).
    private let truncates: Bool
    /// Operations of the kernel that are to end early, and have not ended.
    private let cancelled = EarlyEnds()
    /// A broken connection answers EPIPE instead of a signal, and the kernel goes on after a partial send.
    private let sendFlags = UInt32(MSG_NOSIGNAL) | UInt32(MSG_WAITALL)

    /// Fails where the kernel denies io_uring or lacks a part of it.
    init(choice: DriverChoice, receiveBuffers: ReceiveBuffers, offload: OffloadPool) throws(Errno) {
        let features = choice.features
        reason = choice.reason
        self.receiveBuffers = receiveBuffers
        self.offload = offload
        sharesBuffers = features.sharedBuffers
        truncates = features.truncates
        ring = try UringRing(entries: 1024, waitsUntilAbsoluteTime: features.absoluteWait)
        bufferRingLength = receiveBuffers.capacity * MemoryLayout<rondo_uring_buffer>.stride
        // SAFETY: an anonymous mapping of that length, unmapped in close() after the ring is gone.
        let memory = unsafe mmap(
            nil, bufferRingLength, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0)
        guard let memory = unsafe memory, unsafe memory != MAP_FAILED else { throw Errno(rawValue: errno) }
        unsafe bufferRing = memory.bindMemory(to: rondo_uring_buffer.self, capacity: receiveBuffers.capacity)
        var registration = rondo_uring_buffer_registration(
            ring_addr: UInt64(UInt(bitPattern: memory)), ring_entries: UInt32(receiveBuffers.capacity), bgid: 0,
            flags: features.sharedBuffers ? RONDO_BUFFER_RING_INCREMENTAL : 0, reserved: (0, 0, 0))
        do throws(Errno) {
            wakeDescriptor = try checked(rondo_eventfd())
            _ = try checked(unsafe rondo_uring_register(ring.fd, RONDO_REGISTER_PBUF_RING, &registration, 1))
        } catch {
            unsafe munmap(memory, bufferRingLength)
            throw error
        }
        unsafe receiveBuffers.attach(ring: bufferRing)
        armWake()
    }

    /// A thread that is about to wake the loop holds it, and so the driver, but may come after `close()`: by then the
    /// descriptor's number must not be a stranger's.
    deinit { Glibc.close(wakeDescriptor) }

    var systemCalls: UInt64 { ring.enters }

    private func armWake() {
        // SAFETY: a fresh submission of this ring.
        let entry = unsafe ring.nextSubmission()
        unsafe entry.pointee.opcode = RONDO_OP_POLL_ADD
        unsafe entry.pointee.fd = wakeDescriptor
        unsafe entry.pointee.len = RONDO_POLL_ADD_MULTI
        unsafe entry.pointee.op_flags = UInt32(POLLIN)
        unsafe entry.pointee.user_data = Self.wakeData
    }

    func submit(_ operation: Operation, as id: OperationID) {
        switch unsafe operation {
        case .offload(let work):
            // SAFETY: the waiting task owns the work until its completion.
            unsafe work._withUnsafeGuaranteedRef { work in
                work.operation = id
                offload.submit(work)
            }
        case .list: unsafe poolCalls.submit(operation, as: id, to: offload)
        case .file(let call): unsafe submit(call, as: id)
        default:
            // SAFETY: a fresh submission of this ring; pointers in an operation live until its last completion.
            let entry = unsafe ring.nextSubmission()
            unsafe entry.pointee.user_data = id.rawValue
            unsafe encode(operation, into: &entry.pointee)
        }
    }

    private func submit(_ call: FileOperation, as id: OperationID) {
        // SAFETY: as in submit.
        if unsafe call.isInRing(truncates: truncates) {
            let entry = unsafe ring.nextSubmission()
            unsafe entry.pointee.user_data = id.rawValue
            unsafe call.encode(into: &entry.pointee)
        } else {
            unsafe poolCalls.submit(.file(call), as: id, to: offload)
        }
    }

    /// Writes an operation in the kernel's words.
    @inline(__always)
    private func encode(_ operation: Operation, into entry: inout rondo_sqe) {
        // SAFETY: pointers become addresses; who owns what they point to is said at `Operation`.
        switch unsafe operation {
        case .receive(let descriptor):
            entry.opcode = RONDO_OP_RECV
            entry.fd = descriptor.rawValue
            entry.ioprio = RONDO_RECV_MULTISHOT
            entry.flags = RONDO_SQE_BUFFER_SELECT
        case .send(let descriptor, let bytes, let count):
            entry.opcode = RONDO_OP_SEND
            entry.fd = descriptor.rawValue
            entry.addr = UInt64(UInt(bitPattern: bytes))
            entry.len = UInt32(clamping: count)
            entry.op_flags = sendFlags
        case .accept(let descriptor):
            entry.opcode = RONDO_OP_ACCEPT
            entry.fd = descriptor.rawValue
            entry.ioprio = RONDO_ACCEPT_MULTISHOT
            entry.op_flags = UInt32(SOCK_CLOEXEC.rawValue)
        case .connect(let descriptor, let address):
            entry.opcode = RONDO_OP_CONNECT
            entry.fd = descriptor.rawValue
            entry.addr = UInt64(UInt(bitPattern: address))
            entry.off = UInt64(unsafe address.pointee.length)
        case .connectNamed, .receiveMessage, .sendMessage:
            unsafe encodeMessage(operation, into: &entry)
        case .shutdown(let descriptor, let how):
            entry.opcode = RONDO_OP_SHUTDOWN
            entry.fd = descriptor.rawValue
            entry.len = UInt32(how)
        case .open, .read, .write, .synchronize, .status:
            unsafe encodeFile(operation, into: &entry)
        case .poll(let descriptor, let events):
            entry.opcode = RONDO_OP_POLL_ADD
            entry.fd = descriptor.rawValue
            entry.op_flags = UInt32(UInt16(bitPattern: events))
        case .close(let descriptor):
            entry.opcode = RONDO_OP_CLOSE
            entry.fd = descriptor.rawValue
        case .nothing:
            entry.opcode = RONDO_OP_NOP
        case .offload, .list, .file:
            crash("\(unsafe operation.kind) has no submission")
        }
    }

    /// The commonest operations of files; the others are `FileOperation`'s.
    @inline(__always)
    private func encodeFile(_ operation: Operation, into entry: inout rondo_sqe) {
        // SAFETY: as in `encode`.
        switch unsafe operation {
        case .open(let path, let flags, let mode):
            entry.opcode = RONDO_OP_OPENAT
            entry.fd = AT_FDCWD
            entry.addr = UInt64(UInt(bitPattern: path))
            entry.op_flags = UInt32(bitPattern: flags | O_CLOEXEC)
            entry.len = mode
        case .read(let descriptor, let bytes, let count, let offset):
            entry.opcode = RONDO_OP_READ
            entry.fd = descriptor.rawValue
            entry.addr = UInt64(UInt(bitPattern: bytes))
            entry.len = UInt32(clamping: count)
            entry.off = offset
        case .write(let descriptor, let bytes, let count, let offset):
            entry.opcode = RONDO_OP_WRITE
            entry.fd = descriptor.rawValue
            entry.addr = UInt64(UInt(bitPattern: bytes))
            entry.len = UInt32(clamping: count)
            entry.off = offset
        case .synchronize(let descriptor, let dataOnly):
            entry.opcode = RONDO_OP_FSYNC
            entry.fd = descriptor.rawValue
            entry.op_flags = dataOnly ? RONDO_FSYNC_DATASYNC : 0
        case .status(let descriptor, let path, let status):
            entry.opcode = RONDO_OP_STATX
            entry.fd = descriptor?.rawValue ?? AT_FDCWD
            unsafe entry.addr = UInt64(UInt(bitPattern: path ?? emptyPath))
            entry.op_flags = unsafe path == nil ? RONDO_AT_EMPTY_PATH : 0
            entry.len = RONDO_STATX_BASIC_STATS
            entry.off = UInt64(UInt(bitPattern: status))
        default:
            crash("\(unsafe operation.kind) is no operation of a file")
        }
    }

    /// The operations of sockets that keep messages apart, and of Unix sockets.
    private func encodeMessage(_ operation: Operation, into entry: inout rondo_sqe) {
        // SAFETY: as in `encode`.
        switch unsafe operation {
        case .connectNamed(let descriptor, let address, let length):
            entry.opcode = RONDO_OP_CONNECT
            entry.fd = descriptor.rawValue
            entry.addr = UInt64(UInt(bitPattern: address))
            entry.off = UInt64(length)
        case .receiveMessage(let descriptor, let message, let flags):
            entry.opcode = RONDO_OP_RECVMSG
            entry.fd = descriptor.rawValue
            entry.addr = UInt64(UInt(bitPattern: message))
            entry.len = 1
            entry.op_flags = UInt32(bitPattern: flags)
        case .sendMessage(let descriptor, let message, let flags):
            entry.opcode = RONDO_OP_SENDMSG
            entry.fd = descriptor.rawValue
            entry.addr = UInt64(UInt(bitPattern: message))
            entry.len = 1
            entry.op_flags = UInt32(bitPattern: flags) | UInt32(MSG_NOSIGNAL)
        default: crash("\(unsafe operation.kind) is no message")
        }
    }

    func cancel(_ id: OperationID) {
        if let listing = poolCalls.call(of: id) { return offload.takeBack(listing) }
        if poolCalls.cancelLockWait(id) { return }
        cancelled.insert(id)
        requestCancel(id)
    }

    private func requestCancel(_ id: OperationID) {
        // SAFETY: a fresh submission of this ring.
        let entry = unsafe ring.nextSubmission()
        unsafe entry.pointee.opcode = RONDO_OP_ASYNC_CANCEL
        unsafe entry.pointee.fd = -1
        unsafe entry.pointee.addr = id.rawValue
        unsafe entry.pointee.user_data = id.rawValue | Self.cancelBit
    }

    func wait(until deadline: UInt64) {
        if deadline == 0 {
            if ring.hasWork { ring.enter(waitingFor: 0, until: 0) }
        } else {
            ring.enter(waitingFor: 1, until: deadline)
        }
    }

    func nextCompletion() -> Completion? {
        while let entry = ring.nextCompletion() {
            let more = entry.flags & RONDO_CQE_MORE != 0
            if entry.user_data & Self.cancelBit == 0 {
                var completion = Completion(
                    operation: OperationID(rawValue: entry.user_data), result: entry.res, more: more)
                if entry.flags & RONDO_CQE_BUFFER != 0 {
                    completion.slice = receiveBuffers.book(
                        buffer: entry.flags >> 16, count: UInt32(max(0, entry.res)),
                        more: entry.flags & RONDO_CQE_BUFFER_MORE != 0)
                    if entry.res <= 0 { receiveBuffers.release(completion.slice) }
                }
                if !more, !cancelled.isEmpty, cancelled.remove(completion.operation), entry.res == -EINTR {
                    completion.result = -ECANCELED
                }
                return completion
            }
            noteOwn(entry)
        }
        return nil
    }

    /// The completion of a submission that is the driver's own.
    private func noteOwn(_ entry: rondo_cqe) {
        if entry.user_data == Self.wakeData {
            if entry.flags & RONDO_CQE_MORE == 0 { armWake() }
            return
        }
        let id = OperationID(rawValue: entry.user_data & ~Self.cancelBit)
        if entry.res == -ENOENT, cancelled.contains(id) { requestCancel(id) }
    }

    func wake() {
        // Only a counter at its limit of 2^64 − 2 could refuse.
        _ = rondo_eventfd_signal(wakeDescriptor)
    }

    func close() {
        receiveBuffers.detachRing()
        ring.close()
        // SAFETY: nothing is pending, so the kernel takes no buffer from the ring any more.
        unsafe munmap(bufferRing, bufferRingLength)
    }
}

/// "" for `statx` of an open descriptor, which wants an address.
nonisolated(unsafe) private let emptyPath: UnsafePointer<CChar> = {
    // SAFETY: one byte, zeroed, never freed.
    let path = UnsafeMutablePointer<CChar>.allocate(capacity: 1)
    unsafe path.initialize(to: 0)
    return unsafe UnsafePointer(path)
}()

/// Operations that are to end early. (A class, so that `isEmpty` is one load: see Backlog.)
private final class EarlyEnds {
    private(set) var isEmpty = true
    private var ids: Set<OperationID> = []

    // Not inlined: the check of the access would be moved out of the condition that it is under.
    @inline(never)
    func contains(_ id: OperationID) -> Bool { ids.contains(id) }

    func insert(_ id: OperationID) {
        ids.insert(id)
        isEmpty = false
    }

    /// - Returns: whether it was to end early.
    @inline(never)
    func remove(_ id: OperationID) -> Bool {
        let wasThere = ids.remove(id) != nil
        isEmpty = ids.isEmpty
        return wasThere
    }
}
