import CRondo
import Glibc
import Rondo

/// A port at which connections arrive.
final class SimulatedListener {
    private unowned let world: SimulatedWorld
    private unowned let network: SimulatedNetwork
    let address: SocketAddress
    /// The most connections that wait to be accepted.
    private let backlog: Int
    /// Connections that wait to be accepted.
    private var queue: [SimulatedSocket] = []
    /// Connects that wait for room in the queue.
    private var attempts: [ConnectionAttempt] = []
    /// Whether a connection waits to be accepted.
    var hasConnection: Bool { !queue.isEmpty }
    /// Told when one has come.
    var onConnection: () -> Void = {}
    /// Accepts that wait for connections: the first gets them.
    private var acceptors: [SimulatedOperation] = []

    init(world: SimulatedWorld, network: SimulatedNetwork, address: SocketAddress, backlog: Int) {
        self.world = world
        self.network = network
        self.address = address
        self.backlog = backlog
    }

    /// Whether a listener on `other` would be in the way.
    func overlaps(_ other: SocketAddress) -> Bool {
        other.port == address.port && other.family == address.family
            && (address.isWildcard || other.isWildcard || address == other)
    }

    /// Whether a connect to `remote` comes here.
    func hears(_ remote: SocketAddress) -> Bool {
        remote.port == address.port && remote.family == address.family && (address.isWildcard || address == remote)
    }

    /// A connect has arrived.
    func request(_ attempt: ConnectionAttempt) {
        attempts.append(attempt)
        serve()
    }

    func accept(_ operation: SimulatedOperation) {
        acceptors.append(operation)
        operation.leaveQueue = { [unowned self, unowned operation] in acceptors.removeAll { $0 === operation } }
        serve()
    }

    /// Brings connects into the queue, and connections to who accepts.
    private func serve() {
        repeat {
            while queue.count < backlog, !attempts.isEmpty {
                if let socket = network.establish(attempts.removeFirst()) { queue.append(socket) }
                onConnection()
            }
            guard let acceptor = acceptors.first, !queue.isEmpty else { return }
            guard let descriptor = world.descriptors.open(queue[0]) else {
                world.complete(acceptor, -EMFILE)
                continue
            }
            queue.removeFirst()
            world.answer(acceptor, descriptor.rawValue)
        } while true
    }

    /// Nobody listens any more: what was not accepted is reset or refused.
    func close() {
        network.didClose(self)
        for socket in queue { socket.abort() }
        for attempt in attempts { network.refuse(attempt) }
        queue.removeAll()
        attempts.removeAll()
    }
}
