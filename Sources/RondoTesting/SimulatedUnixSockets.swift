// Unix sockets in memory: their names and the calls that are answered at once. How bytes and messages go is in
// SimulatedUnixSocket. All is as in Linux (net/unix/af_unix.c): what was sent is with the receiver at once, nothing
// gets lost and nothing is overtaken; it is the callers that take their time.

import Glibc
import Rondo
import SystemPackage

/// The Unix sockets of a simulation.
final class SimulatedUnixSockets {
    private unowned let world: SimulatedWorld
    private let files: SimulatedFiles
    /// Latencies, pieces, and what a full queue answers.
    private var numbers: SeededGenerator
    /// Abstract names. Asked, never walked.
    private var abstract: [[UInt8]: WeakSocket] = [:]
    /// Both ends of all connections, in the order in which they were made.
    private var connected: [WeakSocket] = []

    private struct WeakSocket {
        weak var socket: SimulatedUnixSocket?
    }

    init(world: SimulatedWorld, files: SimulatedFiles) {
        self.world = world
        self.files = files
        numbers = SimulatedWorld.numbers(world.seed, purpose: 8)
    }

    // MARK: What sockets ask for

    /// How long a call takes.
    func latency() -> UInt64 { numbers.nanoseconds(in: world.options.localLatency) }

    /// How many bytes of a stream go at once, and whether the send ends there with a part of its bytes.
    func piece() -> (size: Int, endsSend: Bool) {
        let sizes = world.options.segmentSize
        let isTiny = numbers.chance(oneIn: 4)
        let size = numbers.number(
            in: isTiny ? sizes.lowerBound...min(sizes.lowerBound + 15, sizes.upperBound) : sizes)
        return (size, numbers.chance(oneIn: world.options.partialSendOdds))
    }

    /// Whether a connect to a full queue says so (as with epoll) instead of waiting for room (as with io_uring).
    func fullQueueAnswers() -> Bool { numbers.chance(oneIn: 2) }

    func didConnect(_ sockets: SimulatedUnixSocket...) {
        connected.removeAll { $0.socket == nil }
        connected += sockets.map { WeakSocket(socket: $0) }
    }

    func didClose(_ socket: SimulatedUnixSocket) {
        connected.removeAll { $0.socket === socket }
        if let name = socket.boundName?.abstractName { abstract[name] = nil }
    }

    func resetConnections(to address: UnixAddress) {
        for case let socket? in connected.map(\.socket) where socket.remote == address {
            socket.peer?.reset()
            socket.reset()
        }
    }

    // MARK: Calls that are answered at once

    /// The socket that a descriptor stands for, if it is one of these.
    func socket(_ descriptor: Descriptor) -> SimulatedUnixSocket? {
        world.descriptors[descriptor] as? SimulatedUnixSocket
    }

    func openSocket(_ kind: SocketKind) throws(Errno) -> Descriptor {
        try open(SimulatedUnixSocket(kind, world: world, unix: self))
    }

    private func open(_ socket: SimulatedUnixSocket) throws(Errno) -> Descriptor {
        guard let descriptor = world.descriptors.open(socket) else { throw .tooManyOpenFiles }
        return descriptor
    }

    func openPair(_ kind: SocketKind) throws(Errno) -> (Descriptor, Descriptor) {
        let ends = (
            SimulatedUnixSocket(kind, world: world, unix: self), SimulatedUnixSocket(kind, world: world, unix: self)
        )
        ends.0.join(with: ends.1)
        let first = try open(ends.0)
        do throws(Errno) {
            return (first, try open(ends.1))
        } catch {
            world.descriptors.close(first)?.letGo()
            throw error
        }
    }

    func bind(_ socket: SimulatedUnixSocket, to name: SocketName) throws(Errno) {
        guard name.family == AF_UNIX, socket.boundName == nil else { throw .invalidArgument }
        let address = UnixAddress(name)
        if let path = address.path {
            try bind(socket, toPath: path.string)
        } else if let name = address.abstractName {
            if abstract[name]?.socket != nil { throw .addressInUse }
            abstract[name] = WeakSocket(socket: socket)
        } else {
            return try bind(socket, to: freeName().socketName)
        }
        socket.didBind(to: address)
    }

    private func bind(_ socket: SimulatedUnixSocket, toPath path: String) throws(Errno) {
        switch files.resolve(path, followsLast: false) {
        case .failure(let error): throw Errno(rawValue: error.code)
        case .success(let place):
            guard let name = place.name, place.node == nil else { throw .addressInUse }
            // As with the usual umask.
            let node = files.add(name, to: place.folder, isFolder: false, mode: 0o755)
            node.isSocket = true
            node.socket = socket
        }
    }

    /// A name as the kernel gives one: five digits of base 16.
    private func freeName() throws(Errno) -> UnixAddress {
        for _ in 0..<1000 {
            let digits = String(numbers.number(in: 0x10000...0xfffff), radix: 16)
            if abstract[Array(digits.utf8)]?.socket == nil { return .abstract(digits) }
        }
        throw .noSpace
    }

    /// The socket that has a name.
    func find(_ address: UnixAddress, _ kind: SocketKind) -> Result<SimulatedUnixSocket, SimulatedErrno> {
        var found: SimulatedUnixSocket?
        if let path = address.path {
            switch files.find(path.string) {
            case .failure(let error): return .failure(error)
            case .success(let node): found = node.socket
            }
        } else if let name = address.abstractName {
            found = abstract[name]?.socket
        } else {
            return .failure(SimulatedErrno(EINVAL))
        }
        guard let found, !found.isClosed else { return .failure(SimulatedErrno(ECONNREFUSED)) }
        return found.kind == kind ? .success(found) : .failure(SimulatedErrno(EPROTOTYPE))
    }
}

/// The files that simulated Unix sockets are bound to.
struct SimulatedSocketFiles: SocketFiles {
    let files: SimulatedFiles

    func file(at path: String) throws(Errno) -> SocketFile? {
        switch files.find(path, followsLast: false) {
        case .success(let node): return SocketFile(device: 1, inode: node.inode, isSocket: node.isSocket)
        case .failure(let error) where error.code == ENOENT: return nil
        case .failure(let error): throw Errno(rawValue: error.code)
        }
    }

    func setMode(_ mode: UInt32, at path: String) throws(Errno) {
        switch files.find(path) {
        case .success(let node): node.mode = mode & 0o7777
        case .failure(let error): throw Errno(rawValue: error.code)
        }
    }

    func remove(_ path: String) { files.remove(path) }

    func probe(_ path: String, _ kind: SocketKind) -> Int32 {
        guard case .success(let node) = files.find(path) else { return -ENOENT }
        guard let socket = node.socket, !socket.isClosed else { return -ECONNREFUSED }
        if socket.kind != kind { return -EPROTOTYPE }
        return kind == .unixDatagram || socket.isListening ? 0 : -ECONNREFUSED
    }
}
