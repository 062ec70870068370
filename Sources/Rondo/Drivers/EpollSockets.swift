// What the epoll driver knows of each socket, and which sockets it must try again. Plain state without a system call:
// the driver acts on it.

import Glibc
import SystemPackage

/// One socket, as the epoll driver sees it. At most one operation is pending in each direction.
@unsafe
struct EpollSocket {
    enum Reading: UInt8 { case nothing, receive, accept, message }
    /// `connect` is still to be begun; `connecting` waits for its outcome.
    enum Writing: UInt8 { case nothing, send, connect, connecting, message }
    /// Polls `wait` for an event; after one they are `due` for another look (see `EpollPolls`).
    enum Polling: UInt8 { case nothing, waiting, due }
    /// Unix sockets are read in another way; it is not asked for before it matters.
    enum Domain: UInt8 { case unknown, unix, internet }

    /// How many descriptors with this number have been closed: an event for an older one is none of ours.
    var generation: UInt32 = 0
    /// The next socket of the list, if this one is listed.
    fileprivate var nextListed: Int32 = -1
    fileprivate var isListed = false
    /// Whether the epoll instance watches it.
    var isWatched = false
    /// Whether another descriptor may stand for the same file: then closing this one does not end the watching.
    var mayBeDuplicated = false
    /// Whether reading may succeed: from an event until EAGAIN, or until a short receive has proved it empty.
    var mayRead = true
    /// Whether writing may succeed: from an event until EAGAIN.
    var mayWrite = true
    /// Whether a short receive proves nothing: the end, an error or urgent data may wait behind the bytes.
    var mustReadUntilEmpty = false
    var domain = Domain.unknown
    var reading = Reading.nothing
    var writing = Writing.nothing
    var polling = Polling.nothing
    /// The operation in the direction in, unless `reading` is nothing.
    var reader = OperationID(rawValue: .max)
    /// The operation in the direction out, unless `writing` is nothing.
    var writer = OperationID(rawValue: .max)
    /// The message to receive, and how messages are received and sent. The operation's owner keeps it alive.
    var incoming: UnsafeMutablePointer<msghdr>?
    var incomingFlags: Int32 = 0
    var outgoingFlags: Int32 = 0
    /// What is left to be sent, the message to send, or the address to connect to. The operation's owner keeps it.
    var bytes: UnsafeRawPointer?
    var bytesLeft = 0
    var bytesSent = 0

    // SAFETY: both look at the cases only, not at what the pointers point to.

    /// Whether an operation has not ended.
    var isPending: Bool { unsafe reading != .nothing || writing != .nothing || polling != .nothing }

    /// Whether an attempt could get an operation further.
    var isWorthAnAttempt: Bool {
        unsafe (mayRead && reading != .nothing) || (mayWrite && writing != .nothing) || polling == .due
    }
}

/// The sockets of an epoll driver, by descriptor number, and the list of those that are worth an attempt.
@safe
struct EpollSockets: ~Copyable {
    /// Entries below `capacity`; the kernel hands out the lowest free numbers, so the table stays small.
    private var entries: UnsafeMutablePointer<EpollSocket>
    private var capacity: Int
    /// The list, first in, first out. A socket whose descriptor was closed may still be in it.
    private var firstListed: Int32 = -1
    private var lastListed: Int32 = -1

    init() {
        capacity = 64
        // SAFETY: fresh memory; grow() replaces it, deinit frees it.
        unsafe entries = .allocate(capacity: capacity)
        unsafe entries.initialize(repeating: EpollSocket(), count: capacity)
    }

    deinit { unsafe entries.deallocate() }

    /// The entry of a descriptor. It stays where it is until `entry(of:)` is called for a higher number.
    @inline(__always)
    mutating func entry(of descriptor: Int32) -> UnsafeMutablePointer<EpollSocket> {
        let index = Int(descriptor)
        if index >= capacity { grow(toHold: index) }
        // SAFETY: within the table; only numbers of open descriptors come here.
        return unsafe entries + index
    }

    /// The entry of a descriptor, if it ever had an operation.
    @inline(__always)
    func existingEntry(of descriptor: Int32) -> UnsafeMutablePointer<EpollSocket>? {
        // SAFETY: within the table.
        unsafe descriptor >= 0 && Int(descriptor) < capacity ? entries + Int(descriptor) : nil
    }

    /// Forgets all about a descriptor that is being closed.
    func forget(_ descriptor: Int32) {
        guard let entry = unsafe existingEntry(of: descriptor) else { return }
        // SAFETY: an entry of the table.
        unsafe require(!entry.pointee.isPending, "descriptor \(descriptor) is closed under a pending operation")
        var fresh = unsafe EpollSocket()
        unsafe fresh.generation = entry.pointee.generation &+ 1
        unsafe fresh.nextListed = entry.pointee.nextListed
        unsafe fresh.isListed = entry.pointee.isListed
        unsafe entry.pointee = fresh
    }

    private mutating func grow(toHold index: Int) {
        let larger = max(capacity * 2, index + 1)
        // SAFETY: the entries are plain words; the old memory is given up after they were copied.
        let memory = UnsafeMutablePointer<EpollSocket>.allocate(capacity: larger)
        unsafe memory.moveInitialize(from: entries, count: capacity)
        unsafe (memory + capacity).initialize(repeating: EpollSocket(), count: larger - capacity)
        unsafe entries.deallocate()
        unsafe entries = memory
        capacity = larger
    }

    /// Whether no socket is worth an attempt.
    @inline(__always)
    var listIsEmpty: Bool { firstListed < 0 }

    /// Notes that a socket is worth an attempt.
    @inline(__always)
    mutating func list(_ descriptor: Int32) {
        // SAFETY: only descriptors that have an entry are listed.
        let entry = unsafe entries + Int(descriptor)
        if unsafe entry.pointee.isListed { return }
        unsafe entry.pointee.isListed = true
        unsafe entry.pointee.nextListed = -1
        if lastListed < 0 {
            firstListed = descriptor
        } else {
            unsafe entries[Int(lastListed)].nextListed = descriptor
        }
        lastListed = descriptor
    }

    /// Takes the whole list; `unlist` walks it. What is listed from now on is another list.
    @inline(__always)
    mutating func takeList() -> Int32 {
        let first = firstListed
        firstListed = -1
        lastListed = -1
        return first
    }

    /// Takes the first socket off a list that was taken.
    ///
    /// - Returns: the next one, or −1.
    @inline(__always)
    mutating func unlist(_ descriptor: Int32) -> Int32 {
        // SAFETY: listed descriptors have an entry.
        let entry = unsafe entries + Int(descriptor)
        unsafe entry.pointee.isListed = false
        return unsafe entry.pointee.nextListed
    }
}
