// The simulated world as a driver. Time stands still while jobs run, and jumps while the loop waits: to the loop's
// deadline or to the next simulated event, whichever is first. So hours pass in milliseconds, and a run depends on
// nothing but the program and the seed.

import CRondo
import Glibc
import Rondo
import SystemPackage

@safe
final class SimulatedDriver: Driver {
    let name = "simulated"
    let reason: String

    private let world: SimulatedWorld
    private let network: SimulatedNetwork
    private var unix: SimulatedUnixSockets { network.unix }
    private let datagrams: SimulatedDatagrams
    private let files: SimulatedFiles
    private let pipes: SimulatedPipes
    /// Ends a wait from another thread.
    private let bell = SimulationBell()
    /// Told once when nothing can happen any more.
    private let onStuck: (SimulationFailure.Cause) -> Void
    private var isStuck = false

    init(
        world: SimulatedWorld, network: SimulatedNetwork, files: SimulatedFiles,
        onStuck: @escaping (SimulationFailure.Cause) -> Void
    ) {
        self.world = world
        self.network = network
        self.files = files
        datagrams = SimulatedDatagrams(world: world)
        pipes = SimulatedPipes(world: world)
        self.onStuck = onStuck
        reason = "a simulation with seed \(world.seed)"
    }

    var now: UInt64 { world.now }
    var receiveBuffers: ReceiveBuffers { world.receiveBuffers }
    var systemCalls: UInt64 { 0 }

    // MARK: Operations

    func submit(_ operation: Operation, as id: OperationID) {
        // SAFETY: what the operation points to lives until its last completion.
        let begun = unsafe world.begin(operation, as: id)
        switch unsafe operation {
        case .nothing: world.complete(begun, 0)
        case .accept, .connect, .receive, .send, .shutdown, .receiveMessage, .sendMessage, .poll:
            if let socket = begun.object as? SimulatedDatagramSocket {
                datagrams.begin(begun, socket)
            } else if let socket = begun.object as? SimulatedUnixSocket {
                socket.begin(begun)
            } else if let end = begun.object as? SimulatedPipeEnd, begun.kind == .poll {
                end.poll(begun)
            } else if begun.kind == .poll {
                network.poll(begun)
            } else {
                network.begin(begun)
            }
        case .connectNamed:
            if let socket = begun.object as? SimulatedUnixSocket { return socket.begin(begun) }
            world.complete(begun, begun.object == nil ? -EBADF : -EAFNOSUPPORT)
        case .open, .read, .write, .synchronize, .status, .list, .file: files.begin(begun)
        case .close(let descriptor):
            begun.step = world.after(files.latency()) { [unowned self] in
                world.complete(begun, close(descriptor) ? 0 : -EBADF)
            }
        case .offload(let work): unsafe beginOffload(begun, work)
        }
    }

    /// The call runs here, on the loop's thread, when its time has come.
    private func beginOffload(_ operation: SimulatedOperation, _ work: Unmanaged<OffloadWork>) {
        // SAFETY: the waiting task owns the work; it is retained here because the loop may take it back, which ends
        // the operation without telling the driver.
        let work = unsafe work.takeUnretainedValue()
        work.operation = operation.id
        let delay = world.offloadNumbers.nanoseconds(in: world.options.offloadLatency)
        operation.step = world.after(delay) { [unowned self] in
            if work.isCancelled { return world.forget(operation) }
            work.run()
            world.complete(operation, work.result)
        }
    }

    func cancel(_ id: OperationID) { world.cancel(id) }

    /// Closes a descriptor; false if it is not open.
    private func close(_ descriptor: Descriptor) -> Bool {
        guard let object = world.descriptors.close(descriptor) else { return false }
        object.letGo()
        return true
    }

    // MARK: Time

    func wait(until deadline: UInt64) {
        if world.trace.stepCount > world.options.stepLimit { stuck(.stepLimit(world.options.stepLimit)) }
        world.happen()
        if deadline == 0 { return }
        while !world.hasCompletions {
            if bell.takeRing() { return }
            let next = min(world.events.nextTime() ?? .max, deadline)
            if next == .max { return waitForNothing() }
            if next > world.now { world.advance(to: next) }
            world.happen()
            if world.now >= deadline { break }
        }
        let limit = world.options.timeLimit.nanosecondsRoundedUp
        if world.now - SimulatedWorld.startTime > limit { stuck(.timeLimit(world.options.timeLimit)) }
    }

    /// No timer, no event: only another thread could go on.
    private func waitForNothing() {
        if world.options.allowsForeignThreads { return bell.waitForRing() }
        let cause = SimulationFailure.Cause.deadlock(pending: world.pending)
        if isStuck { crash("a simulation that had failed came to a standstill while it was ended: \(cause)") }
        stuck(cause)
    }

    private func stuck(_ cause: SimulationFailure.Cause) {
        if isStuck { return }
        isStuck = true
        onStuck(cause)
    }

    func nextCompletion() -> Completion? { world.takeCompletion() }

    func wake() { bell.ring() }

    func close() {}

    // MARK: Calls that are answered at once

    func openSocket(_ kind: SocketKind) throws(Errno) -> Descriptor {
        if kind.isUDP { return try datagrams.openSocket(kind) }
        return kind.isTCP ? try network.openSocket() : try unix.openSocket(kind)
    }

    func openSocketPair(_ kind: SocketKind) throws(Errno) -> (Descriptor, Descriptor) { try unix.openPair(kind) }

    func bind(_ socket: Descriptor, to name: SocketName) throws(Errno) {
        if let socket = unix.socket(socket) { return try unix.bind(socket, to: name) }
        try datagrams.bind(socket, to: name)
    }

    func startListening(_ socket: Descriptor, backlog: Int32) throws(Errno) {
        guard let socket = unix.socket(socket) else {
            throw world.descriptors[socket] == nil ? .badFileDescriptor : .notSupportedOnSocket
        }
        try socket.listen(backlog: Int(backlog))
    }

    func localName(of socket: Descriptor) throws(Errno) -> SocketName {
        if let socket = unix.socket(socket) { return (socket.local ?? .unnamed).socketName }
        return SocketName(try localAddress(of: socket))
    }

    func peerName(of socket: Descriptor) throws(Errno) -> SocketName {
        if let socket = unix.socket(socket) {
            guard let peer = socket.remote else { throw .socketNotConnected }
            return peer.socketName
        }
        return SocketName(try peerAddress(of: socket))
    }

    func setOption(_ option: SocketOption, of socket: Descriptor, to value: [UInt8]) throws(Errno) {
        if let socket = unix.socket(socket) { return socket.options[option] = value }
        if let datagrams = datagrams.socket(socket) { return try datagrams.setOption(option, to: value) }
        try network.setOption(option, of: socket, to: value)
    }

    func option(_ option: SocketOption, of socket: Descriptor, size: Int) throws(Errno) -> [UInt8] {
        if let socket = unix.socket(socket) { return Array(socket.option(option).prefix(size)) }
        if let datagrams = datagrams.socket(socket) { return try datagrams.option(option, size: size) }
        return try network.option(option, of: socket, size: size)
    }

    func listen(_ socket: Descriptor, on address: SocketAddress, backlog: Int32) throws(Errno) {
        try network.listen(socket, on: address, backlog: Int(backlog))
    }

    func localAddress(of socket: Descriptor) throws(Errno) -> SocketAddress {
        if let socket = datagrams.socket(socket) { return socket.local ?? socket.wildcard }
        return try network.localAddress(of: socket)
    }

    func peerAddress(of socket: Descriptor) throws(Errno) -> SocketAddress {
        if let socket = datagrams.socket(socket) {
            guard let peer = socket.peer else { throw .socketNotConnected }
            return peer
        }
        return try network.peerAddress(of: socket)
    }

    func openPipe() throws(Errno) -> (reader: Descriptor, writer: Descriptor) { try pipes.open() }

    func share(_ descriptor: Descriptor, forWriting: Bool) throws(Errno) -> (descriptor: Descriptor, kind: StreamKind) {
        guard let object = world.descriptors[descriptor] else { throw .badFileDescriptor }
        let isPipe = object is SimulatedPipeEnd
        guard isPipe || object is SimulatedOpenFile else { throw .notSupportedOnSocket }
        guard let own = world.descriptors.open(object) else { throw .tooManyOpenFiles }
        return (own, isPipe ? .nonBlocking : .file)
    }

    func readNow(
        _ descriptor: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, kind: StreamKind
    ) -> Int32 {
        guard let end = world.descriptors[descriptor] as? SimulatedPipeEnd else { return -EBADF }
        // SAFETY: the caller's memory has that many bytes; so below.
        return unsafe end.read(UnsafeMutableRawBufferPointer(start: bytes, count: count))
    }

    func writeNow(_ descriptor: Descriptor, _ bytes: UnsafeRawPointer, count: Int, kind: StreamKind) -> Int32 {
        guard let end = world.descriptors[descriptor] as? SimulatedPipeEnd else { return -EBADF }
        return unsafe end.write(UnsafeRawBufferPointer(start: bytes, count: count))
    }

    // Simulated sockets have no way past their chunks.
    func openTransferPipe(capacity: Int) throws(Errno) -> (reader: Descriptor, writer: Descriptor) {
        throw .notSupported
    }
    func prepareToMove(_ socket: Descriptor) throws(Errno) { throw .notSupported }
    func moveNow(from socket: Descriptor, into pipe: Descriptor, count: Int) -> Int32 { -EOPNOTSUPP }
    func moveNow(outOf pipe: Descriptor, to socket: Descriptor, count: Int) -> Int32 { -EOPNOTSUPP }

    func closeNow(_ descriptor: Descriptor) { _ = close(descriptor) }

    var closeReceived: @Sendable (Descriptor) -> Void {
        // What was received is used on the simulation's thread.
        let world = world
        return { world.descriptors.close($0)?.letGo() }
    }

    var socketFiles: any SocketFiles { SimulatedSocketFiles(files: files) }

    func breakConnection(_ socket: Descriptor) {
        if let socket = unix.socket(socket) { return _ = socket.shutdown(Int32(SHUT_RDWR)) }
        network.breakConnection(socket)
    }

    var lookUpHost: @Sendable (String) -> HostAnswer {
        // Offloaded calls run on the simulation's thread.
        let network = network
        return { network.addresses(of: $0) }
    }
}
