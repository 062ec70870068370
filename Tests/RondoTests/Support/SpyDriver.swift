import SystemPackage

@testable import Rondo

/// A driver that passes everything on to a real one, counts, and can be stopped before it waits.
final class SpyDriver: Driver {
    /// What the test sees of it, from any thread.
    final class Report: @unchecked Sendable {
        // SAFETY: what is no counter belongs to the loop's thread.
        let wakes = Counter()
        let submissions = Counter()
        let cancels = Counter()
        /// Called once, the next time that the loop is about to wait with nothing to do.
        var beforeWait: (() -> Void)?
        /// What asking for a pipe for a transfer answers instead of a pipe.
        var pipeError: Errno?
        /// The pipes for transfers so far, by the kernel's names.
        var pipes: [String] = []
        /// Ends of those pipes that are open.
        var openPipeEnds: Int {
            names(in: "/proc/self/fd").count { linkTarget("/proc/self/fd/\($0)").map(pipes.contains) ?? false }
        }
        /// What moving bytes from a socket answers instead of doing it.
        var moveAnswer: Int32?
        /// Called before each call that sends from a file.
        var beforeFileSend: (() -> Void)?
        /// Whether such calls are to fail.
        var breaksFileSends = false
        /// What making a socket ready for either is refused with.
        var prepareError: Errno?
    }

    private let base: any Driver
    private let report: Report

    init(_ base: any Driver, _ report: Report) {
        self.base = base
        self.report = report
    }

    var name: String { base.name }
    var reason: String { base.reason }
    var now: UInt64 { base.now }
    var receiveBuffers: ReceiveBuffers { base.receiveBuffers }
    var systemCalls: UInt64 { base.systemCalls }

    func submit(_ operation: Rondo.Operation, as id: OperationID) {
        report.submissions.add()
        if case .file(.send(let file, let offset, let count, _)) = unsafe operation {
            report.beforeFileSend?()
            if report.breaksFileSends {
                let nowhere = Descriptor(rawValue: -1)
                return unsafe base.submit(.file(.send(file, offset: offset, count: count, to: nowhere)), as: id)
            }
        }
        unsafe base.submit(operation, as: id)
    }

    func cancel(_ id: OperationID) {
        report.cancels.add()
        base.cancel(id)
    }

    func wait(until deadline: UInt64) {
        if deadline != 0, let action = report.beforeWait {
            report.beforeWait = nil
            action()
        }
        base.wait(until: deadline)
    }

    func nextCompletion() -> Completion? { base.nextCompletion() }

    func wake() {
        report.wakes.add()
        base.wake()
    }

    func close() { base.close() }
    var closeReceived: @Sendable (Descriptor) -> Void { base.closeReceived }
    var socketFiles: any SocketFiles { base.socketFiles }
    func readNow(
        _ descriptor: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, kind: StreamKind
    ) -> Int32 { unsafe base.readNow(descriptor, bytes, count: count, kind: kind) }
    func writeNow(_ descriptor: Descriptor, _ bytes: UnsafeRawPointer, count: Int, kind: StreamKind) -> Int32 {
        unsafe base.writeNow(descriptor, bytes, count: count, kind: kind)
    }
    func openPipe() throws(Errno) -> (reader: Descriptor, writer: Descriptor) { try base.openPipe() }
    func share(_ descriptor: Descriptor, forWriting: Bool) throws(Errno) -> (descriptor: Descriptor, kind: StreamKind) {
        try base.share(descriptor, forWriting: forWriting)
    }
    func openTransferPipe(capacity: Int) throws(Errno) -> (reader: Descriptor, writer: Descriptor) {
        if let error = report.pipeError { throw error }
        let pipe = try base.openTransferPipe(capacity: capacity)
        if let name = linkTarget("/proc/self/fd/\(pipe.reader.rawValue)") { report.pipes.append(name) }
        return pipe
    }
    func prepareToMove(_ socket: Descriptor) throws(Errno) {
        if let error = report.prepareError { throw error }
        try base.prepareToMove(socket)
    }
    func moveNow(from socket: Descriptor, into pipe: Descriptor, count: Int) -> Int32 {
        report.moveAnswer ?? base.moveNow(from: socket, into: pipe, count: count)
    }
    func moveNow(outOf pipe: Descriptor, to socket: Descriptor, count: Int) -> Int32 {
        base.moveNow(outOf: pipe, to: socket, count: count)
    }
    func openSocket(_ kind: SocketKind) throws(Errno) -> Descriptor { try base.openSocket(kind) }
    func openSocketPair(_ kind: SocketKind) throws(Errno) -> (Descriptor, Descriptor) {
        try base.openSocketPair(kind)
    }
    func bind(_ socket: Descriptor, to name: SocketName) throws(Errno) { try base.bind(socket, to: name) }
    func startListening(_ socket: Descriptor, backlog: Int32) throws(Errno) {
        try base.startListening(socket, backlog: backlog)
    }
    func localName(of socket: Descriptor) throws(Errno) -> SocketName { try base.localName(of: socket) }
    func peerName(of socket: Descriptor) throws(Errno) -> SocketName { try base.peerName(of: socket) }
    func setOption(_ option: SocketOption, of socket: Descriptor, to value: [UInt8]) throws(Errno) {
        try base.setOption(option, of: socket, to: value)
    }
    func option(_ option: SocketOption, of socket: Descriptor, size: Int) throws(Errno) -> [UInt8] {
        try base.option(option, of: socket, size: size)
    }
    func listen(_ socket: Descriptor, on address: SocketAddress, backlog: Int32) throws(Errno) {
        try base.listen(socket, on: address, backlog: backlog)
    }
    func localAddress(of socket: Descriptor) throws(Errno) -> SocketAddress { try base.localAddress(of: socket) }
    func peerAddress(of socket: Descriptor) throws(Errno) -> SocketAddress { try base.peerAddress(of: socket) }
    func closeNow(_ descriptor: Descriptor) { base.closeNow(descriptor) }
    func breakConnection(_ socket: Descriptor) { base.breakConnection(socket) }
    var lookUpHost: @Sendable (String) -> HostAnswer { base.lookUpHost }
}

extension LoopConfiguration {
    /// Puts a spy before the driver.
    mutating func spy(_ report: SpyDriver.Report) {
        let (kind, make, limit) = (driver, makeDriver, receiveBufferLimit)
        makeDriver = { (pool) throws(IOError) in
            if let make { return SpyDriver(try make(pool), report) }
            let buffers = ReceiveBuffers(initialCount: min(16, limit), capacity: limit)
            let choice = try DriverChoice.make(forced: kind)
            return SpyDriver(try choice.makeDriver(offload: pool, receiveBuffers: buffers), report)
        }
    }
}
