// TCP in memory: who listens, who connects to whom, and the socket calls. How bytes travel is in SimulatedSocket.
//
// There is one machine, which has every address. A listener on 0.0.0.0 or :: hears all addresses of its family.

import CRondo
import Glibc
public import Rondo
import SystemPackage

/// The network of a simulation.
@safe
public final class SimulatedNetwork: @unchecked Sendable {
    // SAFETY: belongs to the simulation's thread.

    /// Linux gives up to connect after about so long.
    private static let connectTimeout: UInt64 = 127_000_000_000
    private static let ephemeralPorts = 32_768...60_999

    /// Unix sockets, which have names of their own.
    let unix: SimulatedUnixSockets

    private unowned let world: SimulatedWorld
    /// Latencies, segments and ports.
    private var numbers: SeededGenerator
    /// Who listens, in the order in which they began.
    private var listeners: [SimulatedListener] = []
    /// Connected sockets, in the order in which they were connected.
    private var connected: [SimulatedSocket] = []
    /// Ports of sockets that connected. Asked, never walked.
    private var clientPorts: Set<Int> = []
    private var nextPort: Int
    /// What a resolver knows.
    private var hosts: [String: [SocketAddress]] = [:]
    /// Addresses that never answer.
    private var silentHosts: Set<String> = []

    init(world: SimulatedWorld, unix: SimulatedUnixSockets) {
        self.world = world
        self.unix = unix
        numbers = SimulatedWorld.numbers(world.seed, purpose: 4)
        nextPort = numbers.number(in: Self.ephemeralPorts)
    }

    // MARK: For tests

    /// Breaks all connections to a port: both ends see a reset.
    public func resetConnections(to port: Int) {
        for socket in connected where socket.local?.port == port {
            let peer = socket.peerSocket
            socket.reset()
            peer?.reset()
        }
    }

    /// Breaks all connections to a Unix socket, streams and seqpackets: both ends see a reset.
    public func resetConnections(to address: UnixAddress) { unix.resetConnections(to: address) }

    /// Tells the simulated resolver of a host. Names that it was not told have no address.
    public func setHost(_ name: String, addresses: [String]) {
        hosts[name] = addresses.map { text in
            guard let address = SocketAddress(text, port: 0) else { crash("\(text) is no numeric address") }
            return address
        }
    }

    /// Lets an address swallow all connects: nobody refuses, nobody answers.
    public func silence(_ host: String) {
        guard let address = SocketAddress(host, port: 0) else { crash("\(host) is no numeric address") }
        silentHosts.insert(address.host)
    }

    /// Connections that neither end has closed.
    public var connectionCount: Int { connected.count { $0.isServer && $0.peerSocket?.isClosed == false } }

    // MARK: What sockets ask for

    /// What the resolver answers.
    func addresses(of host: String) -> HostAnswer {
        HostAnswer(hosts[host] ?? [], failure: hosts[host] == nil ? "Name or service not known" : nil)
    }

    var connectionCapacity: Int { world.options.connectionCapacity }

    /// The time until what is sent now arrives.
    func latency() -> UInt64 { numbers.nanoseconds(in: world.options.networkLatency) }

    /// How many bytes travel in the next segment. One in four is tiny, so that short messages come in pieces as well.
    func segmentSize() -> Int {
        let sizes = world.options.segmentSize
        let isTiny = numbers.chance(oneIn: 4)
        return numbers.number(in: isTiny ? sizes.lowerBound...min(sizes.lowerBound + 15, sizes.upperBound) : sizes)
    }

    /// Whether a send ends early.
    func cutsSend() -> Bool { numbers.chance(oneIn: world.options.partialSendOdds) }

    func didClose(_ socket: SimulatedSocket) {
        connected.removeAll { $0 === socket }
        if let port = socket.local?.port, !socket.isServer { clientPorts.remove(port) }
    }

    func didClose(_ listener: SimulatedListener) { listeners.removeAll { $0 === listener } }

    // MARK: Calls that are answered at once

    func openSocket() throws(Errno) -> Descriptor {
        guard let descriptor = world.descriptors.open(SimulatedSocket(world: world, network: self)) else {
            throw .tooManyOpenFiles
        }
        return descriptor
    }

    func listen(_ descriptor: Descriptor, on address: SocketAddress, backlog: Int) throws(Errno) {
        let socket = try socket(descriptor)
        guard case .fresh = socket.state else { throw .invalidArgument }
        var address = address
        if address.port == 0 {
            address.port = try freePort()
        } else if listeners.contains(where: { $0.overlaps(address) && !($0.sharesPort && socket.sharesPort) }) {
            throw .addressInUse
        }
        let listener = SimulatedListener(world: world, network: self, address: address, backlog: max(1, backlog))
        listener.options = socket.options
        socket.local = address
        socket.state = .listening(listener)
        listener.onConnection = { [unowned socket] in socket.answerPolls() }
        listeners.append(listener)
    }

    func localAddress(of descriptor: Descriptor) throws(Errno) -> SocketAddress {
        try socket(descriptor).local ?? .any(port: 0)
    }

    func peerAddress(of descriptor: Descriptor) throws(Errno) -> SocketAddress {
        guard let peer = try socket(descriptor).remote else { throw .socketNotConnected }
        return peer
    }

    func socket(_ descriptor: Descriptor) throws(Errno) -> SimulatedSocket {
        guard let object = world.descriptors[descriptor] else { throw .badFileDescriptor }
        guard let socket = object as? SimulatedSocket else { throw .notSocket }
        return socket
    }

    private func freePort() throws(Errno) -> Int {
        for _ in Self.ephemeralPorts {
            nextPort = nextPort == Self.ephemeralPorts.upperBound ? Self.ephemeralPorts.lowerBound : nextPort + 1
            if !clientPorts.contains(nextPort), !listeners.contains(where: { $0.address.port == nextPort }) {
                return nextPort
            }
        }
        throw .addressNotAvailable
    }

    // MARK: Operations

    func begin(_ operation: SimulatedOperation) {
        guard let object = operation.object else { return world.complete(operation, -EBADF) }
        guard let socket = object as? SimulatedSocket else { return world.complete(operation, -ENOTSOCK) }
        switch unsafe operation.request {
        case .accept:
            guard case .listening(let listener) = socket.state else { return world.complete(operation, -EINVAL) }
            listener.accept(operation)
        case .connect(_, let address):
            // SAFETY: the address lives until the completion, and is copied now.
            connect(operation, socket, to: unsafe address.pointee)
        case .receive: socket.receive(operation)
        case .send: socket.send(operation)
        case .shutdown(_, let how): world.complete(operation, socket.shutdown(how))
        case .receiveMessage, .sendMessage: world.complete(operation, -EOPNOTSUPP)
        default: crash("\(operation.kind) is no operation of the network")
        }
    }

    /// Polls a socket; whatever else has a descriptor is always ready, as files are.
    func poll(_ operation: SimulatedOperation) {
        guard let object = operation.object else { return world.complete(operation, -EBADF) }
        guard case .poll(_, let events) = unsafe operation.request else { crash("this is no poll") }
        if let socket = object as? SimulatedSocket { return socket.poll(operation) }
        let ready = Int32(events) & Int32(POLLIN | POLLOUT)
        if ready != 0 { world.complete(operation, ready) }
    }

    private func connect(_ operation: SimulatedOperation, _ socket: SimulatedSocket, to address: SocketAddress) {
        switch socket.state {
        case .fresh: break
        case .connecting: return world.complete(operation, -EALREADY)
        case .connected: return world.complete(operation, -EISCONN)
        case .listening: return world.complete(operation, -EINVAL)
        }
        guard let port = try? freePort() else { return world.complete(operation, -EADDRNOTAVAIL) }
        clientPorts.insert(port)
        var remote = address
        if address.isWildcard { remote = address.family == .ipv4 ? .loopback(port: 0) : .loopback6(port: 0) }
        remote.port = address.port
        var local = remote
        local.port = port
        socket.state = .connecting
        socket.local = local
        socket.remote = remote
        let attempt = ConnectionAttempt(operation: operation, client: socket)
        world.after(latency()) { [unowned self] in
            if silentHosts.contains(remote.host) {
                // The connect's own time limit ends it.
            } else if let listener = listener(for: remote) {
                listener.request(attempt)
            } else {
                refuse(attempt)
            }
        }
        operation.step = world.after(Self.connectTimeout) { [unowned self] in
            clientPorts.remove(port)
            socket.forgetConnection()
            world.complete(operation, -ETIMEDOUT)
        }
    }

    /// Who hears a connect: of several that share the port, any.
    private func listener(for remote: SocketAddress) -> SimulatedListener? {
        let all = listeners.filter { $0.hears(remote) }
        return all.count < 2 ? all.first : all[numbers.number(in: 0...all.count - 1)]
    }

    /// Nobody listens.
    func refuse(_ attempt: ConnectionAttempt) {
        world.after(latency()) { [unowned self] in
            guard !attempt.client.isClosed, case .connecting = attempt.client.state else { return }
            if let port = attempt.client.local?.port { clientPorts.remove(port) }
            attempt.client.forgetConnection()
            attempt.client.answerPolls()
            if !attempt.operation.isOver { world.complete(attempt.operation, -ECONNREFUSED) }
        }
    }

    /// A listener has room: the connection exists from now on. The client learns it later.
    ///
    /// - Returns: the listener's end, or nil if the client has given up.
    func establish(_ attempt: ConnectionAttempt, options: [SocketOption: [UInt8]]) -> SimulatedSocket? {
        let client = attempt.client
        guard !client.isClosed, case .connecting = client.state else { return nil }
        let server = SimulatedSocket(world: world, network: self)
        server.isServer = true
        server.local = client.remote
        server.remote = client.local
        client.join(with: server)
        server.options = options
        server.state = .connected
        connected.append(client)
        connected.append(server)
        world.after(latency()) { [unowned self] in
            if client.isClosed { return }
            client.state = .connected
            client.answerPolls()
            if !attempt.operation.isOver { world.complete(attempt.operation, client.takeError().map { -$0 } ?? 0) }
        }
        return server
    }
}

/// A connect on its way to a listener.
@safe
struct ConnectionAttempt {
    let operation: SimulatedOperation
    let client: SimulatedSocket
}

extension SocketAddress {
    /// `0.0.0.0` or `::`
    var isWildcard: Bool { host == "0.0.0.0" || host == "::" }
}
