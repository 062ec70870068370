// UDP in memory: who is bound where, and datagrams on their way. Each travels by itself, so one may overtake another,
// as in a real network. None is lost but where a receiver has no room for it, or nobody is there.

import CRondo
import Glibc
import Rondo
import SystemPackage

/// The datagrams of a simulation. They belong to the simulation's thread.
@safe
final class SimulatedDatagrams: @unchecked Sendable {
    // SAFETY: belongs to the simulation's thread. Pointers of an operation are used while it is not over.

    private unowned let world: SimulatedWorld
    /// Latencies and ports.
    private var numbers: SeededGenerator
    /// Sockets with an address, in the order in which they got it.
    private var bound: [SimulatedDatagramSocket] = []
    private var nextPort: Int
    private static let ephemeralPorts = 32_768...60_999

    init(world: SimulatedWorld) {
        self.world = world
        numbers = SimulatedWorld.numbers(world.seed, purpose: 7)
        nextPort = numbers.number(in: Self.ephemeralPorts)
    }

    // MARK: Calls that are answered at once

    func openSocket(_ kind: SocketKind) throws(Errno) -> Descriptor {
        let socket = SimulatedDatagramSocket(isIPv4: kind.domain == AF_INET, world: world, datagrams: self)
        guard let descriptor = world.descriptors.open(socket) else { throw .tooManyOpenFiles }
        return descriptor
    }

    /// The socket that a descriptor stands for, if it is one of these.
    func socket(_ descriptor: Descriptor) -> SimulatedDatagramSocket? {
        world.descriptors[descriptor] as? SimulatedDatagramSocket
    }

    func bind(_ descriptor: Descriptor, to name: SocketName) throws(Errno) {
        guard let socket = socket(descriptor) else {
            throw world.descriptors[descriptor] == nil ? .badFileDescriptor : .notSupportedOnSocket
        }
        guard socket.local == nil, let address = SocketAddress(name), (address.family == .ipv4) == socket.isIPv4 else {
            throw .invalidArgument
        }
        try give(socket, address)
    }

    private func give(_ socket: SimulatedDatagramSocket, _ wanted: SocketAddress) throws(Errno) {
        var address = wanted
        if address.port == 0 {
            address.port = try freePort()
        } else if bound.contains(where: { $0.isInTheWay(of: socket, at: address) }) {
            throw .addressInUse
        }
        socket.local = address
        bound.append(socket)
    }

    private func freePort() throws(Errno) -> Int {
        for _ in Self.ephemeralPorts {
            nextPort = nextPort == Self.ephemeralPorts.upperBound ? Self.ephemeralPorts.lowerBound : nextPort + 1
            if !bound.contains(where: { $0.local?.port == nextPort }) { return nextPort }
        }
        throw .addressNotAvailable
    }

    func didClose(_ socket: SimulatedDatagramSocket) { bound.removeAll { $0 === socket } }

    // MARK: Operations

    func begin(_ operation: SimulatedOperation, _ socket: SimulatedDatagramSocket) {
        switch unsafe operation.request {
        case .connect(_, let address): world.complete(operation, connect(socket, to: unsafe address.pointee))
        case .receiveMessage: socket.receive(operation)
        case .sendMessage(_, let message, _): unsafe world.complete(operation, send(message.pointee, from: socket))
        case .shutdown: world.complete(operation, socket.peer == nil ? -ENOTCONN : 0)
        default: world.complete(operation, -EOPNOTSUPP)
        }
    }

    private func connect(_ socket: SimulatedDatagramSocket, to address: SocketAddress) -> Int32 {
        guard (address.family == .ipv4) == socket.isIPv4 else { return -EAFNOSUPPORT }
        var peer = address
        if peer.isWildcard { peer = socket.loopback(port: address.port) }
        if let failure = bindIfNecessary(socket, near: peer) { return failure }
        if let local = socket.local, local.isWildcard {
            socket.local = peer
            socket.local?.port = local.port
        }
        socket.peer = peer
        return 0
    }

    /// Gives a socket an address that has none; answers a negated errno if there is none left.
    private func bindIfNecessary(_ socket: SimulatedDatagramSocket, near other: SocketAddress) -> Int32? {
        if socket.local != nil { return nil }
        do throws(Errno) {
            try give(socket, socket.wildcard)
            return nil
        } catch {
            return -error.rawValue
        }
    }

    private func send(_ message: msghdr, from socket: SimulatedDatagramSocket) -> Int32 {
        if let error = socket.takeError() { return -error }
        // SAFETY: the sender keeps the message until its completion; all is copied now.
        var destination = socket.peer
        if let name = unsafe message.msg_name, unsafe message.msg_namelen > 0 {
            destination = unsafe SocketAddress(name.assumingMemoryBound(to: sockaddr.self), length: message.msg_namelen)
        }
        guard var target = destination else { return -EDESTADDRREQ }
        guard (target.family == .ipv4) == socket.isIPv4 else { return -EAFNOSUPPORT }
        if target.isWildcard { target = socket.loopback(port: target.port) }
        if target.port == 0 { return -EINVAL }
        let part = unsafe message.msg_iov.pointee
        let bytes = unsafe [UInt8](UnsafeRawBufferPointer(start: part.iov_base, count: part.iov_len))
        if bytes.count > (socket.isIPv4 ? 65_507 : 65_527) { return -EMSGSIZE }
        if let failure = bindIfNecessary(socket, near: target) { return failure }
        var sender = socket.local!
        if sender.isWildcard {
            sender = target
            sender.port = socket.local!.port
        }
        let datagram = Datagram(bytes: bytes, sender: sender)
        world.after(latency()) { [unowned self] in arrive(datagram, at: target, from: socket) }
        return Int32(bytes.count)
    }

    private func latency() -> UInt64 { numbers.nanoseconds(in: world.options.networkLatency) }

    private func arrive(_ datagram: Datagram, at target: SocketAddress, from source: SimulatedDatagramSocket) {
        let hearers = bound.filter { $0.hears(datagram.sender, at: target) }
        if let receiver = hearers.first(where: { $0.peer != nil }) ?? hearers.first { return receiver.take(datagram) }
        // ICMP: only a connected socket is told.
        world.after(latency()) {
            if source.peer == target { source.fail(ECONNREFUSED) }
        }
    }
}

/// A UDP socket of a simulation.
@safe
final class SimulatedDatagramSocket: SimulatedObject {
    // SAFETY: the message of a receive lives until its completion.

    /// Bytes that may wait to be received; what comes then is lost, as on Linux.
    private static let capacity = 212_992

    private unowned let world: SimulatedWorld
    private unowned let datagrams: SimulatedDatagrams
    let isIPv4: Bool
    /// Its own address, once it has one.
    var local: SocketAddress?
    /// Whom it is connected to.
    var peer: SocketAddress?
    /// What was set; nothing of it changes anything but who may have the same address.
    private var options: [SocketOption: [UInt8]] = [:]
    private var arrived: [Datagram] = []
    private var arrivedBytes = 0
    private var receivers: [SimulatedOperation] = []
    /// The error that the next call answers; 0 for none.
    private var error: Int32 = 0
    private var isClosed = false

    init(isIPv4: Bool, world: SimulatedWorld, datagrams: SimulatedDatagrams) {
        self.isIPv4 = isIPv4
        self.world = world
        self.datagrams = datagrams
    }

    override var description: String {
        guard let local else { return "a UDP socket" }
        return peer.map { "the UDP socket \(local) → \($0)" } ?? "the UDP socket \(local)"
    }

    override func close() {
        isClosed = true
        datagrams.didClose(self)
    }

    func loopback(port: Int) -> SocketAddress { isIPv4 ? .loopback(port: port) : .loopback6(port: port) }
    var wildcard: SocketAddress { isIPv4 ? .any(port: 0) : .any6(port: 0) }

    /// Whether `other` can't have this address because of this socket.
    func isInTheWay(of other: SimulatedDatagramSocket, at address: SocketAddress) -> Bool {
        guard let local, local.port == address.port, local.family == address.family else { return false }
        guard local.isWildcard || address.isWildcard || local.host == address.host else { return false }
        return !(allowsCompany && other.allowsCompany)
    }

    private var allowsCompany: Bool {
        [SO_REUSEADDR, SO_REUSEPORT].contains { options[SocketOption(SOL_SOCKET, $0)]?.first == 1 }
    }

    /// Whether a datagram from `sender` to `target` comes here.
    func hears(_ sender: SocketAddress, at target: SocketAddress) -> Bool {
        guard let local, local.port == target.port, local.family == target.family else { return false }
        return (local.isWildcard || local.host == target.host) && (peer == nil || peer == sender)
    }

    // MARK: Receiving

    /// A datagram has arrived.
    func take(_ datagram: Datagram) {
        if arrivedBytes + datagram.bytes.count > Self.capacity { return }
        arrived.append(datagram)
        arrivedBytes += datagram.bytes.count
        deliver()
    }

    /// Something has gone wrong: the next call hears of it.
    func fail(_ code: Int32) {
        if isClosed { return }
        error = code
        deliver()
    }

    /// The error that was not told yet.
    func takeError() -> Int32? {
        if error == 0 { return nil }
        defer { error = 0 }
        return error
    }

    func receive(_ operation: SimulatedOperation) {
        guard case .receiveMessage(_, _, let flags) = unsafe operation.request else { return }
        let hasNews = !arrived.isEmpty || error != 0
        if !hasNews, flags & Int32(MSG_DONTWAIT) != 0 { return world.complete(operation, -EAGAIN) }
        receivers.append(operation)
        operation.leaveQueue = { [unowned self, unowned operation] in receivers.removeAll { $0 === operation } }
        deliver()
    }

    private func deliver() {
        while let receiver = receivers.first {
            if let error = takeError() {
                world.complete(receiver, -error)
            } else if !arrived.isEmpty {
                let datagram = arrived.removeFirst()
                arrivedBytes -= datagram.bytes.count
                world.complete(receiver, fill(receiver, with: datagram))
            } else {
                return
            }
        }
    }

    /// Puts a datagram where a receive wants it; answers what the call answers.
    private func fill(_ receiver: SimulatedOperation, with datagram: Datagram) -> Int32 {
        guard case .receiveMessage(_, let message, let flags) = unsafe receiver.request else { return -EINVAL }
        // SAFETY: the receiver has room for as much as its message says.
        let part = unsafe message.pointee.msg_iov.pointee
        let count = unsafe min(part.iov_len, datagram.bytes.count)
        unsafe datagram.bytes.withUnsafeBytes {
            unsafe part.iov_base?.copyMemory(from: $0.baseAddress!, byteCount: count)
        }
        let name = SocketName(datagram.sender).bytes
        if let target = unsafe message.pointee.msg_name {
            let size = unsafe min(name.count, Int(message.pointee.msg_namelen))
            unsafe target.copyMemory(from: name, byteCount: size)
        }
        unsafe message.pointee.msg_namelen = socklen_t(name.count)
        unsafe message.pointee.msg_controllen = 0
        unsafe message.pointee.msg_flags = count < datagram.bytes.count ? Int32(MSG_TRUNC) : 0
        return Int32(flags & Int32(MSG_TRUNC) != 0 ? datagram.bytes.count : count)
    }

    // MARK: Options

    func setOption(_ option: SocketOption, to value: [UInt8]) throws(Errno) {
        // There are neither groups nor datagrams in one piece here.
        let isMembership = [IP_ADD_MEMBERSHIP, IP_DROP_MEMBERSHIP].contains(option.name) && option.level == IPPROTO_IP
        let isMembership6 = [IPV6_JOIN_GROUP, IPV6_LEAVE_GROUP].contains(option.name) && option.level == IPPROTO_IPV6
        if isMembership || isMembership6 { throw .notSupportedOnSocket }
        if option.level == IPPROTO_UDP { throw Errno(rawValue: ENOPROTOOPT) }
        options[option] = value
    }

    func option(_ option: SocketOption, size: Int) throws(Errno) -> [UInt8] {
        if option.level == IPPROTO_UDP { throw Errno(rawValue: ENOPROTOOPT) }
        return options[option] ?? [UInt8](repeating: 0, count: size)
    }
}
