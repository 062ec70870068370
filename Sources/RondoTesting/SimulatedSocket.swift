// One end of a connection. What it sends goes through a pipe that its peer receives from; errors and resets follow
// Linux (net/ipv4/tcp.c, tcp_input.c): received bytes are delivered before an error; an error is told once, and then
// the stream is over.

import CRondo
import Glibc
import Rondo

@safe
final class SimulatedSocket: SimulatedObject {
    // SAFETY: bytes of a send are copied while its operation is not over, which is how long they are valid.

    enum State {
        case fresh, connecting, connected
        case listening(SimulatedListener)
    }

    private unowned let world: SimulatedWorld
    private unowned let network: SimulatedNetwork
    var state = State.fresh
    /// What was set.
    var options: [SocketOption: [UInt8]] = [.noDelay: [1, 0, 0, 0]]
    var sharesPort: Bool { options[.reusePort]?.first ?? 0 != 0 }
    /// Its own address, once it has one.
    var local: SocketAddress?
    /// Its peer's address, once it connects.
    var remote: SocketAddress?
    /// Whether it came out of a listener.
    var isServer = false
    private(set) var isClosed = false
    /// The other end, until it is closed.
    private(set) weak var peerSocket: SimulatedSocket?
    /// What the peer sends here.
    private var incoming: SimulatedPipe?
    /// What is sent from here.
    private var outgoing: SimulatedPipe?
    /// The error that the next call answers; 0 for none.
    private var error: Int32 = 0
    /// Whether the connection was broken.
    private var isReset = false
    /// Polls that wait.
    private var polls: [SimulatedOperation] = []

    init(world: SimulatedWorld, network: SimulatedNetwork) {
        self.world = world
        self.network = network
    }

    override var description: String {
        switch state {
        case .fresh: "a socket"
        case .listening: "the listener at \(local!)"
        case .connecting, .connected: "the connection \(local!) → \(remote!)"
        }
    }

    /// Makes `self` and `other` the ends of a connection.
    func join(with other: SimulatedSocket) {
        let (there, back) = (SimulatedPipe(), SimulatedPipe())
        (outgoing, incoming, peerSocket) = (there, back, other)
        (other.outgoing, other.incoming, other.peerSocket) = (back, there, self)
    }

    /// A connect has failed: the socket may try again.
    func forgetConnection() {
        state = .fresh
        local = nil
        remote = nil
    }

    /// The error that was not told yet.
    func takeError() -> Int32? {
        if error == 0 { return nil }
        defer { error = 0 }
        return error
    }

    // MARK: Receiving

    func receive(_ operation: SimulatedOperation) {
        guard case .connected = state, let incoming else { return world.complete(operation, -ENOTCONN) }
        incoming.receivers.append(operation)
        operation.leaveQueue = { [unowned incoming, unowned operation] in
            incoming.receivers.removeAll { $0 === operation }
        }
        deliver()
    }

    /// Gives what has arrived to who receives.
    private func deliver() {
        guard let incoming else { return }
        while let receiver = incoming.receivers.first {
            if incoming.arrivedCount > 0 {
                guard let space = unsafe world.receiveBuffers.writableSpace() else {
                    world.complete(receiver, -ENOBUFS)
                    continue
                }
                let count = unsafe incoming.take(into: space)
                world.answer(receiver, Int32(count), slice: world.receiveBuffers.commit(count))
            } else if incoming.hasEnded {
                world.complete(receiver, 0)
            } else if let error = takeError() {
                world.complete(receiver, -error)
            } else if incoming.isReaderDone || isReset {
                world.complete(receiver, 0)
            } else {
                break
            }
        }
        answerPolls()
        peerSocket?.pump()
    }

    // MARK: Sending

    func send(_ operation: SimulatedOperation) {
        guard case .connected = state, let outgoing else { return world.complete(operation, -EPIPE) }
        if let error = takeError() { return world.complete(operation, -error) }
        if outgoing.isWriterDone || isReset { return world.complete(operation, -EPIPE) }
        guard case .send(_, _, let count) = unsafe operation.request, count > 0 else {
            return world.complete(operation, 0)
        }
        outgoing.senders.append(operation)
        operation.leaveQueue = { [unowned outgoing, unowned operation] in
            outgoing.senders.removeAll { $0 === operation }
        }
        pump()
    }

    /// Sends as much as there is room for.
    private func pump() {
        guard let outgoing else { return }
        defer { answerPolls() }
        while let sender = outgoing.senders.first,
            case .send(_, let bytes, let count) = unsafe sender.request
        {
            let room = world.options.connectionCapacity - outgoing.arrivedCount - outgoing.travellingCount
            if room <= 0 { return }
            let size = min(count - sender.progress, room, network.segmentSize())
            // SAFETY: the operation is not over, and the range is within its bytes.
            let segment = unsafe [UInt8](UnsafeRawBufferPointer(start: bytes + sender.progress, count: size))
            sender.progress += size
            outgoing.travellingCount += size
            dispatch { [unowned self] in arrivedAtPeer(segment) }
            if sender.progress == count || network.cutsSend() { world.complete(sender, Int32(sender.progress)) }
        }
    }

    /// Lets something happen at the peer, after all that was sent before.
    private func dispatch(_ action: @escaping () -> Void) {
        guard let outgoing else { return }
        outgoing.lastArrival = max(outgoing.lastArrival, world.now + network.latency())
        // The event holds the socket: bytes travel on when their sender has closed.
        _ = world.events.add(at: outgoing.lastArrival) { [self] in withExtendedLifetime(self) { action() } }
    }

    private func arrivedAtPeer(_ segment: [UInt8]) {
        guard let outgoing else { return }
        outgoing.travellingCount -= segment.count
        guard !outgoing.isReaderClosed, let peer = peerSocket else {
            // Nobody will ever read this.
            _ = world.after(network.latency()) { [self] in reset() }
            return
        }
        if peer.isReset { return }
        outgoing.arrive(segment)
        peer.deliver()
    }

    // MARK: Polling

    func poll(_ operation: SimulatedOperation) {
        polls.append(operation)
        operation.leaveQueue = { [unowned self, unowned operation] in polls.removeAll { $0 === operation } }
        answerPolls()
    }

    /// Ends the polls that have something to tell.
    func answerPolls() {
        for operation in polls {
            guard case .poll(_, let events) = unsafe operation.request else { continue }
            let ready = Int32(readiness & (events | Int16(POLLERR | POLLHUP)))
            if ready != 0 { world.complete(operation, ready) }
        }
    }

    /// What poll(2) says of it (net/ipv4/tcp.c, `tcp_poll`).
    private var readiness: Int16 {
        var events: Int32 = 0
        switch state {
        case .fresh: events = Int32(POLLOUT | POLLHUP)
        case .connecting: break
        case .listening(let listener): events = listener.hasConnection ? Int32(POLLIN) : 0
        case .connected:
            guard let incoming, let outgoing else { break }
            let hasEnded = incoming.hasEnded || incoming.isReaderDone || isReset
            let sendsNoMore = outgoing.isWriterDone || isReset
            let room = world.options.connectionCapacity - outgoing.arrivedCount - outgoing.travellingCount
            if hasEnded || incoming.arrivedCount > 0 { events |= Int32(POLLIN) }
            if hasEnded { events |= pollReadHangup }
            if sendsNoMore || room > 0 { events |= Int32(POLLOUT) }
            if hasEnded, sendsNoMore { events |= Int32(POLLHUP) }
        }
        if error != 0 { events |= Int32(POLLERR | POLLIN | POLLOUT) }
        return Int16(events)
    }

    // MARK: Ending

    /// Ends one or both directions; answers 0 or a negated errno.
    func shutdown(_ how: Int32) -> Int32 {
        guard case .connected = state, let incoming else { return -ENOTCONN }
        if isReset { return -ENOTCONN }
        if how != Int32(SHUT_WR) {
            incoming.isReaderDone = true
            deliver()
        }
        if how != Int32(SHUT_RD) { endSending() }
        return 0
    }

    private func endSending() {
        guard let outgoing, !outgoing.isWriterDone else { return }
        outgoing.isWriterDone = true
        answerPolls()
        for sender in outgoing.senders { world.complete(sender, sender.progress > 0 ? Int32(sender.progress) : -EPIPE) }
        if isReset { return }
        dispatch { [unowned self] in
            outgoing.hasEnded = true
            peerSocket?.deliver()
        }
    }

    override func close() {
        isClosed = true
        if case .listening(let listener) = state { return listener.close() }
        let hasUnread = incoming.map { $0.arrivedCount > 0 } ?? false
        incoming?.isReaderClosed = true
        let resets = options[.linger] == [1, 0, 0, 0, 0, 0, 0, 0]
        if hasUnread || resets, !isReset { abort() } else { endSending() }
        network.didClose(self)
    }

    /// Tells the peer that the connection is broken.
    func abort() {
        isClosed = true
        incoming?.isReaderClosed = true
        outgoing?.isWriterDone = true
        dispatch { [unowned self] in peerSocket?.reset() }
        network.didClose(self)
    }

    /// Breaks the connection from this end. What was sent before the reset arrives before it.
    func breakOff() {
        guard case .connected = state, !isReset else { return }
        dispatch { [unowned self] in peerSocket?.reset() }
        reset()
    }

    /// The connection is broken.
    func reset() {
        if isReset { return }
        isReset = true
        // A peer that has said that it will send no more makes a broken pipe, another one a reset connection.
        error = incoming?.hasEnded == true ? EPIPE : ECONNRESET
        if isClosed { return }
        if let outgoing, !outgoing.senders.isEmpty {
            let senders = outgoing.senders
            for sender in senders {
                world.complete(sender, sender.progress > 0 ? Int32(sender.progress) : takeError().map { -$0 } ?? -EPIPE)
            }
        }
        deliver()
    }
}

/// `POLLRDHUP`, which Glibc shows to GNU sources only.
let pollReadHangup: Int32 = 0x2000

/// One direction of a connection.
@safe
final class SimulatedPipe {
    // SAFETY: copies stay within the array and the space.

    /// Bytes that have arrived and were not received; those before `readIndex` were.
    private var arrived: [UInt8] = []
    private var readIndex = 0
    /// Bytes that were sent and have not arrived.
    var travellingCount = 0
    /// When the last thing that was sent arrives: nothing overtakes it.
    var lastArrival: UInt64 = 0
    /// Receives that wait for bytes: the first gets them.
    var receivers: [SimulatedOperation] = []
    /// Sends that wait for room.
    var senders: [SimulatedOperation] = []
    /// Whether the sending end sends no more.
    var isWriterDone = false
    /// Whether the receiving end has learned so.
    var hasEnded = false
    /// Whether the receiving end receives no more.
    var isReaderDone = false
    /// Whether the receiving end is closed: what arrives is answered with a reset.
    var isReaderClosed = false

    var arrivedCount: Int { arrived.count - readIndex }

    func arrive(_ segment: [UInt8]) { arrived += segment }

    /// Moves bytes into `space`; answers how many.
    func take(into space: UnsafeMutableRawBufferPointer) -> Int {
        let count = min(space.count, arrivedCount)
        unsafe arrived.withUnsafeBytes { bytes in
            unsafe space.copyMemory(from: UnsafeRawBufferPointer(rebasing: bytes[readIndex..<readIndex + count]))
        }
        readIndex += count
        if readIndex == arrived.count {
            arrived.removeAll(keepingCapacity: true)
            readIndex = 0
        }
        return count
    }
}
