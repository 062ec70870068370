// How a simulated Unix socket sends: when its time has come, and there is room, what is sent stands in the receiver's
// queue.

import CRondo
import Glibc
import Rondo

extension SimulatedUnixSocket {
    /// Bytes of messages that may be sent and not received: Linux's usual send buffer.
    static let messageCapacity = 212_992
    /// What a message takes of that beside its bytes.
    private static let messagePrice = 512
    /// Messages that wait at a socket whose peer is not the sender, when it takes no more (`net.unix.max_dgram_qlen`).
    private static let queueLimit = 10

    var sendCapacity: Int { isStream ? world.options.connectionCapacity : Self.messageCapacity }

    /// The receiver has taken something that was sent from here.
    func didReceive(_ price: Int) {
        unreceivedBytes -= price
        sendSoon()
        answerPolls()
    }

    /// Tries the sends when a call's time has passed.
    func sendSoon() {
        if senders.isEmpty || sendStep != nil { return }
        sendStep = world.after(unix.latency()) { [weak self] in
            guard let self else { return }
            sendStep = nil
            if isStream { sendPiece() } else { sendMessages() }
        }
    }

    // MARK: Streams

    /// The next bytes of the first send.
    private func sendPiece() {
        guard let operation = senders.first else { return }
        // SAFETY: the operation is not over, so its bytes are there.
        let whole: UnsafeRawBufferPointer
        var passed: [SimulatedObject] = []
        switch unsafe operation.request {
        case .send(_, let bytes, let count): unsafe whole = UnsafeRawBufferPointer(start: bytes, count: count)
        case .sendMessage(_, let message, _):
            let outgoing = unsafe SimulatedMessage(sending: message)
            if operation.progress == 0 {
                switch outgoing.passed(in: world) {
                case .failure(let error): return end(operation, -error.code)
                case .success(let objects): passed = objects
                }
            }
            unsafe whole = outgoing.bytes
        default: crash("\(operation.kind) sends nothing")
        }
        if let failure = streamFailure(operation) { return end(operation, failure) }
        let room = sendCapacity - unreceivedBytes
        if whole.count > 0, room <= 0 {
            operation.hasWaited = true
            if isToldNotToWait(operation) {
                end(operation, operation.progress > 0 ? Int32(operation.progress) : -EAGAIN)
            }
            return
        }
        let piece = unix.piece()
        let size = min(whole.count - operation.progress, room, piece.size)
        let bytes = unsafe Array(whole[operation.progress..<operation.progress + size])
        operation.progress += size
        unreceivedBytes += size
        for object in passed { object.keep() }
        if size > 0 {
            peer?.take(SimulatedParcel(bytes: bytes, sender: self, address: local, passed: passed))
        }
        if operation.progress == whole.count || piece.endsSend {
            end(operation, Int32(operation.progress))
        } else {
            sendSoon()
        }
    }

    /// Why nothing can be sent, as the call answers it.
    private func streamFailure(_ operation: SimulatedOperation) -> Int32? {
        if !isConnected { return -ENOTCONN }
        guard sendsNoMore || peer == nil else { return nil }
        if operation.progress > 0 { return Int32(operation.progress) }
        // Who was waiting for room hears what has happened to the connection, others that it is over.
        return operation.hasWaited ? takeError().map { -$0 } ?? -EPIPE : -EPIPE
    }

    /// Ends a send, and lets the next one begin.
    private func end(_ operation: SimulatedOperation, _ result: Int32) {
        world.complete(operation, result)
        sendSoon()
    }

    private func isToldNotToWait(_ operation: SimulatedOperation) -> Bool {
        // SAFETY: looks at no pointer.
        guard case .sendMessage(_, _, let flags) = unsafe operation.request else { return false }
        return flags & Int32(MSG_DONTWAIT) != 0
    }

    // MARK: Messages

    /// Sends all messages that can be sent.
    private func sendMessages() {
        for operation in senders {
            if let answer = send(operation) {
                world.complete(operation, answer)
            } else if isToldNotToWait(operation) {
                world.complete(operation, -EAGAIN)
            } else {
                operation.hasWaited = true
            }
        }
    }

    /// - Returns: what the call answers, or nil if there is no room.
    private func send(_ operation: SimulatedOperation) -> Int32? {
        // SAFETY: the operation is not over, so the message is there.
        guard case .sendMessage(_, let pointer, _) = unsafe operation.request else { return -EOPNOTSUPP }
        let message = unsafe SimulatedMessage(sending: pointer)
        let passed: [SimulatedObject]
        switch message.passed(in: world) {
        case .failure(let error): return -error.code
        case .success(let objects): passed = objects
        }
        let target: SimulatedUnixSocket
        switch isDatagram ? receiver(of: message.name) : connectedPeer(operation) {
        case .failure(let error): return -error.code
        case .success(let found): target = found
        }
        let count = unsafe message.bytes.count
        if count > Self.messageCapacity - 32 { return -EMSGSIZE }
        if sendsNoMore { return -EPIPE }
        if unreceivedBytes >= sendCapacity { return nil }
        if target.refuses(self), isDatagram { return -EPERM }
        if target.receivesNoMore { return -EPIPE }
        if isDatagram, target.peer !== self, target.arrived.count > Self.queueLimit {
            if !target.blockedSockets.contains(where: { $0 === self }) { target.blockedSockets.append(self) }
            return nil
        }
        let price = count + Self.messagePrice
        unreceivedBytes += price
        for object in passed { object.keep() }
        let bytes = unsafe Array(message.bytes)
        target.take(SimulatedParcel(bytes: bytes, sender: self, address: local, passed: passed, price: price))
        return Int32(count)
    }

    private func connectedPeer(_ operation: SimulatedOperation) -> Result<SimulatedUnixSocket, SimulatedErrno> {
        guard isConnected else { return .failure(SimulatedErrno(ENOTCONN)) }
        if let peer { return .success(peer) }
        return .failure(SimulatedErrno(operation.hasWaited ? takeError() ?? EPIPE : EPIPE))
    }

    /// Whom a datagram goes to.
    private func receiver(of name: SocketName?) -> Result<SimulatedUnixSocket, SimulatedErrno> {
        if let name {
            guard name.family == AF_UNIX else { return .failure(SimulatedErrno(EINVAL)) }
            return unix.find(UnixAddress(name), kind)
        }
        guard remote != nil else { return .failure(SimulatedErrno(ENOTCONN)) }
        if let peer { return .success(peer) }
        forgetPeer()
        return .failure(SimulatedErrno(ECONNREFUSED))
    }
}
