// epoll as a driver: the kernel says when a call may succeed; the driver makes the call and completes the operation.
// Most containers have nothing else: Docker's and containerd's default seccomp profiles deny io_uring.
//
// Facts it builds on (man epoll, epoll_ctl, epoll_wait; net/ipv4/tcp.c and fs/eventpoll.c where the pages are silent):
// - Edge-triggered, a socket is registered once, and an event comes when something arrives or room appears, not while
//   it is there. So the driver keeps the readiness: it is true from an event until a call answers EAGAIN. What is
//   ready at EPOLL_CTL_ADD counts as an edge, so the first call may come before the registration or after it.
// - A receive that fills less than its memory has emptied the socket: whatever comes later is a new edge. That proves
//   nothing if the end or an error is already known (EPOLLRDHUP, EPOLLHUP, EPOLLERR: their edge is past, and the
//   bytes before them are read first) or urgent data is about (EPOLLPRI: TCP ends a receive at its mark). It
//   proves nothing on a Unix socket either: a receive ends behind bytes that came with descriptors, whether or not the
//   receiver takes these, and a peer may send them whenever it likes.
// - A message says nothing of what waits behind it: they are received until EAGAIN.
// - A Unix datagram socket that is not connected is always writable; that the receiver's queue is full shows in EAGAIN,
//   and no event ever tells of room there. So such a send must not wait here: it asks with MSG_DONTWAIT.
// - After EAGAIN a send is told by an EPOLLOUT edge when there is room. A send that was cut short is tried again until
//   EAGAIN, as nothing documents that it proves the buffer full.
// - A stream socket that was never connected is EPOLLHUP. So a connecting socket is registered after connect(), which
//   answers EINPROGRESS; EPOLLOUT, EPOLLERR or EPOLLHUP then says that SO_ERROR has the outcome.
// - accept(2) hands over errors of the new connection (ECONNABORTED, EPROTO…): they say nothing of the listener.
//   EMFILE leaves the connection in the queue, without a new edge.
// - Closing a descriptor ends its registration, unless a forked child still has it: such events carry an older
//   generation and are dropped.
// - Every write to an eventfd is an edge, whether or not it was read in between; its counter never gets full.
// - epoll_wait counts milliseconds, epoll_pwait2 (Linux 5.11) nanoseconds; neither returns before the time without an
//   event, but for a signal. Old seccomp profiles answer EPERM to calls that they do not know.
// - Files are always "ready" and block all the same: their calls go to the offload pool, and come back through the
//   loop's inbox like every offloaded call.

import CRondo
import Glibc
import SystemPackage

@safe
final class EpollDriver: KernelDriver {
    let name = "epoll"
    let reason: String
    let receiveBuffers: ReceiveBuffers
    let socketFlags = Int32(SOCK_NONBLOCK.rawValue)
    var systemCalls: UInt64 = 0

    private let offload: OffloadPool
    private let epoll: Int32
    /// Written by other threads to end a wait. Never read.
    private let wakeDescriptor: Int32
    /// Whether the kernel has epoll_pwait2.
    private let waitsInNanoseconds: Bool
    /// What one poll can bring; more wait for the next one.
    private let events: UnsafeMutablePointer<rondo_epoll_event>
    /// State by descriptor.
    var sockets = EpollSockets()
    /// The descriptor of a socket operation, by the slot of its id; may be out of date, so the id is compared too.
    private var descriptors: [Int32] = []
    /// Polls that wait.
    private let polls = EpollPolls()
    /// File operations.
    private var fileCalls = OffloadedCalls()
    /// Completions that were not taken yet, from `firstCompletion` on.
    var completions: [Completion] = []
    private var firstCompletion = 0
    /// Socket operations that have not ended: without one, only a blocking wait need ask the kernel.
    private var pendingCount = 0
    /// Whether the last wait asked the kernel nothing, because there were completions without that.
    private var skippedPoll = false

    /// The event data of `wakeDescriptor`; no descriptor has this number.
    private static let wakeData = UInt64.max
    private static let eventCapacity = 256
    /// What one socket may do per attempt before the others have their turn.
    static let receivesPerAttempt = 4
    static let sendsPerAttempt = 4
    static let acceptsPerAttempt = 32

    private static let readEvents = RONDO_EPOLL_IN | RONDO_EPOLL_URGENT
    private static let endEvents = RONDO_EPOLL_READ_HANGUP | RONDO_EPOLL_HANGUP | RONDO_EPOLL_ERROR
    private static let watchedEvents = readEvents | RONDO_EPOLL_OUT | RONDO_EPOLL_READ_HANGUP | RONDO_EPOLL_EDGE

    /// - Parameter allowsNanosecondWaits: false to do as on a kernel without `epoll_pwait2`.
    init(
        choice: DriverChoice, receiveBuffers: ReceiveBuffers, offload: OffloadPool, allowsNanosecondWaits: Bool = true
    ) throws(Errno) {
        reason = choice.reason
        self.receiveBuffers = receiveBuffers
        self.offload = offload
        epoll = try checked(rondo_epoll_create())
        do throws(Errno) {
            wakeDescriptor = try checked(rondo_eventfd())
        } catch {
            Glibc.close(epoll)
            throw error
        }
        // SAFETY: fresh memory, which the kernel fills and deinit frees.
        unsafe events = .allocate(capacity: Self.eventCapacity)
        waitsInNanoseconds =
            unsafe allowsNanosecondWaits && rondo_epoll_wait_nanoseconds(epoll, events, 1, 0) >= 0
        do throws(Errno) {
            _ = try checked(rondo_epoll_add(epoll, wakeDescriptor, RONDO_EPOLL_IN | RONDO_EPOLL_EDGE, Self.wakeData))
        } catch {
            close()
            throw error
        }
    }

    /// A thread that is about to wake the loop holds it, and so the driver, but may come after `close()`: by then the
    /// descriptor's number must not be a stranger's.
    deinit {
        unsafe events.deallocate()
        Glibc.close(wakeDescriptor)
    }

    func close() { Glibc.close(epoll) }

    func wake() {
        // Only a counter at its limit of 2^64 − 2 could refuse.
        _ = rondo_eventfd_signal(wakeDescriptor)
    }

    // MARK: Operations begin

    func submit(_ operation: Operation, as id: OperationID) {
        // SAFETY: pointers in an operation live until its last completion; an entry stays put within each case.
        switch unsafe operation {
        case .receive(let descriptor):
            unsafe beginReading(descriptor, .receive, as: id)
        case .accept(let descriptor):
            unsafe beginReading(descriptor, .accept, as: id)
        case .send(let descriptor, let bytes, let count):
            unsafe beginWriting(descriptor, .send, bytes, count: min(count, Operation.transferLimit), as: id)
        case .connect(let descriptor, let address):
            let length = unsafe Int(address.pointee.length)
            unsafe beginWriting(descriptor, .connect, UnsafeRawPointer(address), count: length, as: id)
        case .connectNamed(let descriptor, let address, let length):
            unsafe beginWriting(descriptor, .connect, UnsafeRawPointer(address), count: Int(length), as: id)
        case .receiveMessage(let descriptor, let message, let flags):
            unsafe beginReading(descriptor, .message, message, flags, as: id)
        case .sendMessage(let descriptor, let message, let flags):
            unsafe beginWriting(descriptor, .message, UnsafeRawPointer(message), count: 0, flags, as: id)
        case .shutdown(let descriptor, let how):
            complete(id, shutDown(descriptor, how: how))
        case .poll(let descriptor, let events):
            beginPoll(descriptor, events, as: id)
        case .close(let descriptor):
            complete(id, closeDescriptor(descriptor))
        case .nothing:
            complete(id, 0)
        case .offload(let work):
            // SAFETY: the waiting task owns the work until its completion.
            unsafe work._withUnsafeGuaranteedRef { work in
                work.operation = id
                offload.submit(work)
            }
        case .open, .read, .write, .synchronize, .status, .list, .file:
            unsafe fileCalls.submit(operation, as: id, to: offload)
        }
    }

    private func beginReading(
        _ descriptor: Descriptor, _ reading: EpollSocket.Reading, _ message: UnsafeMutablePointer<msghdr>? = nil,
        _ flags: Int32 = 0, as id: OperationID
    ) {
        guard let socket = unsafe begin(on: descriptor, as: id) else { return }
        // SAFETY: an entry of the table, as in all functions with a socket.
        unsafe require(socket.pointee.reading == .nothing, "two operations read from \(descriptor)")
        unsafe socket.pointee.reading = reading
        unsafe socket.pointee.reader = id
        unsafe socket.pointee.incoming = message
        unsafe socket.pointee.incomingFlags = flags
        if flags & Int32(MSG_DONTWAIT) != 0 { unsafe socket.pointee.mayRead = true }
        if unsafe socket.pointee.mayRead { sockets.list(descriptor.rawValue) }
    }

    private func beginWriting(
        _ descriptor: Descriptor, _ writing: EpollSocket.Writing, _ bytes: UnsafeRawPointer, count: Int,
        _ flags: Int32 = 0, as id: OperationID
    ) {
        guard let socket = unsafe begin(on: descriptor, as: id) else { return }
        // SAFETY: an entry of the table.
        unsafe require(socket.pointee.writing == .nothing, "two operations write to \(descriptor)")
        unsafe socket.pointee.writing = writing
        unsafe socket.pointee.writer = id
        unsafe socket.pointee.bytes = bytes
        unsafe socket.pointee.bytesLeft = count
        unsafe socket.pointee.bytesSent = 0
        unsafe socket.pointee.outgoingFlags = flags
        if writing == .connect || flags & Int32(MSG_DONTWAIT) != 0 { unsafe socket.pointee.mayWrite = true }
        if unsafe socket.pointee.mayWrite { sockets.list(descriptor.rawValue) }
    }

    /// Notes which descriptor an operation works on.
    ///
    /// - Returns: the socket's state; nil if the descriptor is none, and the operation has ended.
    private func begin(on descriptor: Descriptor, as id: OperationID) -> UnsafeMutablePointer<EpollSocket>? {
        // The table grows for what exists only.
        // SAFETY: entries never move; no other is asked for.
        if unsafe sockets.existingEntry(of: descriptor.rawValue) == nil, fcntl(descriptor.rawValue, F_GETFD) < 0 {
            complete(id, -EBADF)
            return nil
        }
        let slot = Int(id.slot)
        if slot >= descriptors.count {
            descriptors.append(contentsOf: repeatElement(-1, count: max(slot + 1, 256) - descriptors.count))
        }
        descriptors[slot] = descriptor.rawValue
        pendingCount += 1
        // SAFETY: as above; the table has just been asked whether the descriptor is one.
        return unsafe sockets.entry(of: descriptor.rawValue)
    }

    private func shutDown(_ descriptor: Descriptor, how: Int32) -> Int32 {
        // What was to be sent before goes first.
        if let socket = unsafe sockets.existingEntry(of: descriptor.rawValue) {
            unsafe attempt(socket, descriptor.rawValue)
        }
        systemCalls &+= 1
        return Glibc.shutdown(descriptor.rawValue, how) == 0 ? 0 : -errno
    }

    func closeNow(_ descriptor: Descriptor) { _ = closeDescriptor(descriptor) }

    private func closeDescriptor(_ descriptor: Descriptor) -> Int32 {
        // SAFETY: an entry of the table, looked at once.
        if let socket = unsafe sockets.existingEntry(of: descriptor.rawValue), unsafe socket.pointee.isWatched,
            unsafe socket.pointee.mayBeDuplicated
        {
            systemCalls &+= 1
            // Else the next duplicate of that number could not be registered (EEXIST).
            _ = rondo_epoll_delete(epoll, descriptor.rawValue)
        }
        sockets.forget(descriptor.rawValue)
        systemCalls &+= 1
        // After EINTR the descriptor is gone as well.
        return Glibc.close(descriptor.rawValue) == 0 || errno == EINTR ? 0 : -errno
    }

    // MARK: Operations end

    @inline(__always)
    func complete(_ id: OperationID, _ result: Int32) {
        completions.append(Completion(operation: id, result: result))
    }

    func endReading(_ socket: UnsafeMutablePointer<EpollSocket>, _ result: Int32) {
        // SAFETY: an entry of the table.
        unsafe socket.pointee.reading = .nothing
        pendingCount -= 1
        unsafe complete(socket.pointee.reader, result)
    }

    func endWriting(_ socket: UnsafeMutablePointer<EpollSocket>, _ result: Int32) {
        // SAFETY: an entry of the table. Bytes that were sent can't be taken back, whatever came after them.
        unsafe socket.pointee.writing = .nothing
        unsafe socket.pointee.bytes = nil
        pendingCount -= 1
        let sent = unsafe socket.pointee.bytesSent
        unsafe complete(socket.pointee.writer, sent > 0 ? Int32(sent) : result)
    }

    func cancel(_ id: OperationID) {
        let slot = Int(id.slot)
        if slot < descriptors.count, let socket = unsafe sockets.existingEntry(of: descriptors[slot]) {
            // SAFETY: an entry of the table.
            if unsafe socket.pointee.reading != .nothing && socket.pointee.reader == id {
                return unsafe endReading(socket, -ECANCELED)
            }
            if unsafe socket.pointee.writing != .nothing && socket.pointee.writer == id {
                return unsafe endWriting(socket, -ECANCELED)
            }
        }
        if fileCalls.cancelLockWait(id) { return }
        let isPoll = slot < descriptors.count && polls.contains(id, on: descriptors[slot])
        if isPoll { return endPoll(id, on: descriptors[slot], -ECANCELED) }
        if let work = fileCalls.call(of: id), work.cancelIfQueued() { complete(id, -ECANCELED) }
    }

    @inline(__always)
    func nextCompletion() -> Completion? {
        guard firstCompletion < completions.count else {
            completions.removeAll(keepingCapacity: true)
            firstCompletion = 0
            return nil
        }
        defer { firstCompletion += 1 }
        return completions[firstCompletion]
    }

    private var hasCompletion: Bool { firstCompletion < completions.count }

    // MARK: Waiting

    func wait(until deadline: UInt64) {
        attemptListed()
        // What has completed so far keeps the loop busy until the next wait; but two busy sockets must not keep
        // events and wake-ups away for ever.
        if hasCompletion, !skippedPoll {
            skippedPoll = true
            return
        }
        skippedPoll = false
        if deadline != 0, !hasCompletion, sockets.listIsEmpty {
            poll(until: deadline)
        } else if pendingCount > 0 {
            poll(until: 0)
        }
        attemptListed()
    }

    /// Asks the kernel for events, and lists the sockets that they are for.
    private func poll(until deadline: UInt64) {
        var nanoseconds = deadline
        if deadline != 0, deadline != .max {
            let now = monotonicNanoseconds()
            nanoseconds = deadline > now ? deadline - now : 0
        }
        systemCalls &+= 1
        let capacity = Int32(Self.eventCapacity)
        // SAFETY: `events` has that capacity.
        let count =
            unsafe waitsInNanoseconds
            ? rondo_epoll_wait_nanoseconds(epoll, events, capacity, nanoseconds)
            : rondo_epoll_wait_milliseconds(epoll, events, capacity, nanoseconds)
        guard count >= 0 else {
            require(count == -EINTR, "epoll_wait: \(Errno(rawValue: -count)), which the driver can't have caused")
            return
        }
        for index in 0..<Int(count) {
            // SAFETY: the kernel has filled in `count` events.
            let event = unsafe events[index]
            note(event.events, of: event.data)
        }
    }

    @inline(__always)
    private func note(_ happened: UInt32, of data: UInt64) {
        if data == Self.wakeData { return }
        let descriptor = Int32(truncatingIfNeeded: data)
        guard let socket = unsafe sockets.existingEntry(of: descriptor) else { return }
        // SAFETY: an entry of the table.
        guard unsafe socket.pointee.generation == UInt32(truncatingIfNeeded: data >> 32) else { return }
        if happened & (Self.readEvents | Self.endEvents) != 0 { unsafe socket.pointee.mayRead = true }
        if happened & (RONDO_EPOLL_OUT | Self.endEvents) != 0 { unsafe socket.pointee.mayWrite = true }
        if happened & (RONDO_EPOLL_URGENT | Self.endEvents) != 0 { unsafe socket.pointee.mustReadUntilEmpty = true }
        if unsafe socket.pointee.polling == .waiting { unsafe socket.pointee.polling = .due }
        if unsafe socket.pointee.isWorthAnAttempt { sockets.list(descriptor) }
    }

    // MARK: Attempts

    private func attemptListed() {
        var descriptor = sockets.takeList()
        while descriptor >= 0 {
            let next = sockets.unlist(descriptor)
            if let socket = unsafe sockets.existingEntry(of: descriptor) { unsafe attempt(socket, descriptor) }
            descriptor = next
        }
    }

    /// Does for a socket's operations what can be done now; lists it again if there is more than its share.
    private func attempt(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        // SAFETY: an entry of the table, which does not grow here.
        if unsafe socket.pointee.writing == .connect { unsafe connect(socket, descriptor) }
        if unsafe socket.pointee.polling == .due { unsafe answerPolls(socket, descriptor) }
        if unsafe socket.pointee.isPending && !socket.pointee.isWatched { unsafe watch(socket, descriptor) }
        if unsafe socket.pointee.mayRead {
            switch unsafe socket.pointee.reading {
            case .nothing: break
            case .receive: unsafe receive(socket, descriptor)
            case .accept: unsafe accept(socket, descriptor)
            case .message: unsafe receiveMessage(socket, descriptor)
            }
        }
        if unsafe socket.pointee.mayWrite {
            switch unsafe socket.pointee.writing {
            case .nothing, .connect: break
            case .connecting: unsafe finishConnect(socket, descriptor)
            case .send: unsafe send(socket, descriptor)
            case .message: unsafe sendMessage(socket, descriptor)
            }
        }
        if unsafe socket.pointee.isWorthAnAttempt { sockets.list(descriptor) }
    }

    private func watch(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        // SAFETY: an entry of the table.
        let data = unsafe UInt64(socket.pointee.generation) << 32 | UInt64(descriptor)
        systemCalls &+= 1
        let answer = rondo_epoll_add(epoll, descriptor, Self.watchedEvents, data)
        if answer >= 0 {
            unsafe socket.pointee.isWatched = true
        } else {
            // What epoll can't watch (EPERM) is a file, and a socket call would say so in clearer words.
            let result = answer == -EPERM ? -ENOTSOCK : answer
            if unsafe socket.pointee.reading != .nothing { unsafe endReading(socket, result) }
            if unsafe socket.pointee.writing != .nothing { unsafe endWriting(socket, result) }
            for poll in polls.waiting(on: descriptor) { endPoll(poll.id, on: descriptor, answer) }
        }
    }

    private func beginPoll(_ descriptor: Descriptor, _ events: Int16, as id: OperationID) {
        guard let socket = unsafe begin(on: descriptor, as: id) else { return }
        polls.add(EpollPolls.Poll(id: id, events: events), to: descriptor.rawValue)
        // SAFETY: an entry of the table.
        unsafe socket.pointee.polling = .due
        unsafe socket.pointee.mayBeDuplicated = true
        sockets.list(descriptor.rawValue)
    }

    private func endPoll(_ id: OperationID, on descriptor: Int32, _ result: Int32) {
        polls.remove(id, from: descriptor)
        // SAFETY: an entry of the table: only what has one is polled.
        if let socket = unsafe sockets.existingEntry(of: descriptor), polls.waiting(on: descriptor).isEmpty {
            unsafe socket.pointee.polling = .nothing
        }
        pendingCount -= 1
        complete(id, result)
    }

    private func answerPolls(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        // SAFETY: an entry of the table, which does not grow here. The polls that stay wait for the next event.
        unsafe socket.pointee.polling = .waiting
        for poll in polls.waiting(on: descriptor) {
            systemCalls &+= 1
            if let result = poll.look(at: descriptor) { endPoll(poll.id, on: descriptor, result) }
        }
    }
}
