// A Unix socket in memory: connecting, receiving, polling and ending. Sending is in SimulatedUnixSocket+Sending.

import CRondo
import Glibc
import Rondo
import SystemPackage

@safe
final class SimulatedUnixSocket: SimulatedObject {
    // SAFETY: pointers of an operation are used while it is not over.

    enum State {
        case fresh, connected
        case listening(backlog: Int)
    }

    let kind: SocketKind
    unowned let world: SimulatedWorld
    unowned let unix: SimulatedUnixSockets
    var isStream: Bool { kind == .unixStream }
    var isDatagram: Bool { kind == .unixDatagram }
    private(set) var state = State.fresh
    /// What was set.
    var options: [SocketOption: [UInt8]] = [:]
    /// The name that it was bound to.
    private(set) var boundName: UnixAddress?
    /// Its own address: that, or its listener's.
    private(set) var local: UnixAddress?
    /// Its peer's address, once it is connected.
    private(set) var remote: UnixAddress?
    /// The other end, while that is open.
    private(set) weak var peer: SimulatedUnixSocket?
    private(set) var isClosed = false
    /// Whether nothing more will be sent from here, for its own or its peer's sake.
    private(set) var sendsNoMore = false
    /// Whether nothing more will come.
    private(set) var receivesNoMore = false
    /// The error that the next call answers; 0 for none.
    private var error: Int32 = 0

    /// What was sent here and not received.
    private(set) var arrived: [SimulatedParcel] = []
    private var receivers: [SimulatedOperation] = []
    /// Sends that wait for their time or for room, in order.
    var senders: [SimulatedOperation] = []
    /// When the next send is tried.
    var sendStep: SimulatedEvent?
    /// Bytes that were sent from here and not received.
    var unreceivedBytes = 0
    /// Who waits for room in `arrived`.
    var blockedSockets: [SimulatedUnixSocket] = []
    private var polls: [SimulatedOperation] = []

    /// Of a listener: connections that nobody has accepted, who accepts, and connects that wait for room.
    private var queue: [SimulatedUnixSocket] = []
    private var acceptors: [SimulatedOperation] = []
    private var connects: [(operation: SimulatedOperation, client: SimulatedUnixSocket)] = []

    init(_ kind: SocketKind, world: SimulatedWorld, unix: SimulatedUnixSockets) {
        self.kind = kind
        self.world = world
        self.unix = unix
    }

    override var description: String {
        let name = isStream ? "Unix stream" : isDatagram ? "Unix datagram socket" : "Unix seqpacket socket"
        let own = local.map { " \($0)" } ?? ""
        switch state {
        case .fresh: return "the \(name)\(own)"
        case .listening: return "the \(name) listening at\(own)"
        case .connected: return "the \(name)\(own) → \(remote ?? .unnamed)"
        }
    }

    var isListening: Bool { if case .listening = state { true } else { false } }
    var isConnected: Bool { if case .connected = state { true } else { false } }

    /// The error that was not told yet.
    func takeError() -> Int32? {
        if error == 0 { return nil }
        defer { error = 0 }
        return error
    }

    // MARK: Names and options

    func didBind(to address: UnixAddress) {
        boundName = address
        local = address
    }

    func listen(backlog: Int) throws(Errno) {
        if isDatagram { throw .notSupportedOnSocket }
        if boundName == nil || isConnected { throw .invalidArgument }
        state = .listening(backlog: max(0, backlog))
        serve()
    }

    func option(_ option: SocketOption) -> [UInt8] {
        if option == SocketOption(SOL_SOCKET, SO_PEERCRED) { return credentials }
        if let value = options[option] { return value }
        let isSize = option == .sendBuffer || option == .receiveBuffer
        // SAFETY: reads the number's bytes within the call.
        return unsafe withUnsafeBytes(of: Int32(isSize ? Self.messageCapacity : 0)) { unsafe Array($0) }
    }

    /// Who is at the other end: everybody in a simulation is this process.
    private var credentials: [UInt8] {
        let isKnown = if case .fresh = state { isDatagram && remote != nil } else { true }
        let numbers = isKnown ? [getpid(), Int32(bitPattern: geteuid()), Int32(bitPattern: getegid())] : [0, -1, -1]
        // SAFETY: reads the numbers' bytes within the call.
        return unsafe numbers.withUnsafeBytes { unsafe Array($0) }
    }

    // MARK: Operations

    func begin(_ operation: SimulatedOperation) {
        switch unsafe operation.request {
        case .accept:
            guard isListening else { return world.complete(operation, -EINVAL) }
            wait(operation, in: \.acceptors)
            serve()
        case .connectNamed(_, let name, let length):
            // SAFETY: the name has that many bytes until the completion, and is copied now.
            let bytes = unsafe SocketName(UnsafeRawBufferPointer(start: name, count: Int(length)))
            operation.step = world.after(unix.latency()) { [self] in connect(operation, to: bytes) }
        case .connect: world.complete(operation, -EINVAL)
        case .receive:
            isStream ? receive(operation) : world.complete(operation, -EOPNOTSUPP)
        case .receiveMessage: receive(operation)
        case .send, .sendMessage:
            wait(operation, in: \.senders)
            sendSoon()
        case .shutdown(_, let how): world.complete(operation, shutdown(how))
        case .poll:
            wait(operation, in: \.polls)
            answerPolls()
        default: crash("\(operation.kind) is no operation of a socket")
        }
    }

    /// Puts an operation at the end of a queue, which it leaves when it is over.
    private func wait(
        _ operation: SimulatedOperation, in queue: ReferenceWritableKeyPath<SimulatedUnixSocket, [SimulatedOperation]>
    ) {
        self[keyPath: queue].append(operation)
        operation.leaveQueue = { [unowned self, unowned operation] in
            self[keyPath: queue].removeAll { $0 === operation }
        }
    }

    // MARK: Connecting

    /// Makes `self` and `other` the ends of a connection.
    func join(with other: SimulatedUnixSocket) {
        (peer, other.peer) = (other, self)
        (remote, other.remote) = (other.local ?? .unnamed, local ?? .unnamed)
        if isDatagram { return }
        (state, other.state) = (.connected, .connected)
        unix.didConnect(self, other)
    }

    private func connect(_ operation: SimulatedOperation, to name: SocketName) {
        guard name.family == AF_UNIX else { return world.complete(operation, -EINVAL) }
        if isConnected { return world.complete(operation, -EISCONN) }
        if isListening { return world.complete(operation, -EINVAL) }
        let address = UnixAddress(name)
        switch unix.find(address, kind) {
        case .failure(let error): world.complete(operation, -error.code)
        case .success(let target) where isDatagram:
            if target.refuses(self) { return world.complete(operation, -EPERM) }
            (peer, remote) = (target, target.local ?? .unnamed)
            world.complete(operation, 0)
        case .success(let target): target.request(operation, from: self)
        }
    }

    /// A datagram socket's peer has closed, and it has heard of it.
    func forgetPeer() { remote = nil }

    /// Whether a datagram socket hears nobody but its own peer.
    func refuses(_ other: SimulatedUnixSocket) -> Bool { remote != nil && peer !== other }

    /// A connect has come.
    private func request(_ operation: SimulatedOperation, from client: SimulatedUnixSocket) {
        guard case .listening(let backlog) = state, !receivesNoMore else {
            return world.complete(operation, -ECONNREFUSED)
        }
        if queue.count > backlog, unix.fullQueueAnswers() { return world.complete(operation, -EAGAIN) }
        connects.append((operation, client))
        operation.leaveQueue = { [unowned self, unowned operation] in
            connects.removeAll { $0.operation === operation }
        }
        serve()
    }

    /// Brings connects into the queue, and connections to who accepts.
    private func serve() {
        guard case .listening(let backlog) = state else { return }
        repeat {
            while queue.count <= backlog, let (operation, client) = connects.first {
                let server = SimulatedUnixSocket(kind, world: world, unix: unix)
                server.local = local
                client.join(with: server)
                queue.append(server)
                world.complete(operation, 0)
                client.answerPolls()
            }
            guard let acceptor = acceptors.first, !queue.isEmpty else { return answerPolls() }
            guard let descriptor = world.descriptors.open(queue[0]) else {
                world.complete(acceptor, -EMFILE)
                continue
            }
            queue.removeFirst()
            world.answer(acceptor, descriptor.rawValue)
        } while true
    }

    // MARK: Receiving

    /// Something was sent here.
    func take(_ parcel: SimulatedParcel) {
        if isStream, parcel.passed.isEmpty, let last = arrived.indices.last, arrived[last].passed.isEmpty {
            arrived[last].bytes += parcel.bytes
        } else {
            arrived.append(parcel)
        }
        deliver()
    }

    private func receive(_ operation: SimulatedOperation) {
        if !isDatagram, !isConnected { return world.complete(operation, isStream ? -EINVAL : -ENOTCONN) }
        wait(operation, in: \.receivers)
        deliver()
        if case .receiveMessage(_, _, let flags) = unsafe operation.request, !operation.isOver,
            flags & Int32(MSG_DONTWAIT) != 0
        {
            world.complete(operation, -EAGAIN)
        }
    }

    /// Gives what has arrived to who receives. A stream's bytes come before an error, messages after it.
    private func deliver() {
        while let receiver = receivers.first {
            if !isStream, let error = takeError() {
                world.complete(receiver, -error)
            } else if !arrived.isEmpty {
                give(to: receiver)
            } else if let error = takeError() {
                world.complete(receiver, -error)
            } else if receivesNoMore {
                if case .receiveMessage(_, let message, _) = unsafe receiver.request {
                    unsafe SimulatedMessage(message).fillWithNothing()
                }
                world.complete(receiver, 0)
            } else {
                break
            }
        }
        answerPolls()
    }

    private func give(to receiver: SimulatedOperation) {
        guard case .receiveMessage(_, let message, let flags) = unsafe receiver.request else {
            guard let space = unsafe world.receiveBuffers.writableSpace() else {
                return world.complete(receiver, -ENOBUFS)
            }
            let taken = takeBytes(space.count)
            // SAFETY: no more than there is space.
            unsafe space.copyBytes(from: taken.bytes)
            world.answer(
                receiver, Int32(taken.bytes.count), slice: world.receiveBuffers.commit(taken.bytes.count))
            // Who asks for bytes gets no descriptors.
            return taken.passed.forEach { $0.letGo() }
        }
        // SAFETY: the receiver keeps the message until its completion.
        let target = unsafe SimulatedMessage(message)
        let parcel = isStream ? takeBytes(target.room) : takeMessage()
        let asksForTime = !isStream && options[SocketOption(SOL_SOCKET, SO_TIMESTAMP)]?.first == 1
        let count = target.fill(with: parcel, time: asksForTime ? world.now : nil, world)
        let isFullSizeAskedFor = !isStream && flags & Int32(MSG_TRUNC) != 0
        world.complete(receiver, Int32(isFullSizeAskedFor ? parcel.bytes.count : count))
    }

    private func takeMessage() -> SimulatedParcel {
        let parcel = arrived.removeFirst()
        parcel.sender?.didReceive(parcel.price)
        let blocked = blockedSockets
        blockedSockets = []
        for socket in blocked { socket.sendSoon() }
        return parcel
    }

    /// Takes bytes of a stream, up to those that descriptors came with.
    private func takeBytes(_ limit: Int) -> SimulatedParcel {
        var taken = SimulatedParcel(bytes: [], sender: arrived[0].sender, address: arrived[0].address)
        while let first = arrived.first, taken.bytes.count < limit {
            let count = min(limit - taken.bytes.count, first.bytes.count)
            taken.bytes += first.bytes.prefix(count)
            taken.passed = first.passed
            if count == first.bytes.count {
                arrived.removeFirst()
            } else {
                arrived[0].bytes.removeFirst(count)
                arrived[0].passed = []
            }
            first.sender?.didReceive(count)
            if !taken.passed.isEmpty { break }
        }
        return taken
    }

    // MARK: Polling

    /// Ends the polls that have something to tell.
    func answerPolls() {
        for operation in polls {
            guard case .poll(_, let events) = unsafe operation.request else { continue }
            let ready = Int32(readiness & (events | Int16(POLLERR | POLLHUP)))
            if ready != 0 { world.complete(operation, ready) }
        }
    }

    /// What poll(2) says of it.
    private var readiness: Int16 {
        if isListening { return queue.isEmpty ? 0 : Int16(POLLIN) }
        var events: Int32 = 0
        if error != 0 { events |= Int32(POLLERR) }
        if receivesNoMore, sendsNoMore { events |= Int32(POLLHUP) }
        if receivesNoMore { events |= pollReadHangup | Int32(POLLIN) }
        if !arrived.isEmpty { events |= Int32(POLLIN) }
        if !isDatagram, !isConnected { events |= Int32(POLLHUP) }
        if unreceivedBytes * 4 <= sendCapacity { events |= Int32(POLLOUT) }
        return Int16(events)
    }

    // MARK: Ending

    /// Ends one or both directions; answers 0 or a negated errno.
    func shutdown(_ how: Int32) -> Int32 {
        let (reads, writes) = (how != Int32(SHUT_WR), how != Int32(SHUT_RD))
        end(receiving: reads, sending: writes)
        if !isDatagram { peer?.end(receiving: writes, sending: reads) }
        return 0
    }

    private func end(receiving: Bool, sending: Bool) {
        if receiving { receivesNoMore = true }
        if sending { sendsNoMore = true }
        deliver()
        if sending { sendSoon() }
        if receiving { for socket in blockedSockets { socket.sendSoon() } }
    }

    /// The peer is gone, or the connection was broken.
    func reset() {
        error = ECONNRESET
        end(receiving: true, sending: true)
    }

    override func close() { close(wasAccepted: true) }

    private func close(wasAccepted: Bool) {
        isClosed = true
        unix.didClose(self)
        let (peer, hasUnread) = (peer, !arrived.isEmpty)
        self.peer = nil
        if !isDatagram {
            if hasUnread || !wasAccepted { peer?.reset() } else { peer?.end(receiving: true, sending: true) }
        }
        for parcel in arrived {
            parcel.sender?.didReceive(isStream ? parcel.bytes.count : parcel.price)
            parcel.passed.forEach { $0.letGo() }
        }
        arrived = []
        for connection in queue { connection.close(wasAccepted: false) }
        queue = []
        for connect in connects { world.complete(connect.operation, -ECONNREFUSED) }
        for socket in blockedSockets { socket.sendSoon() }
        blockedSockets = []
    }
}
