// Connections that keep messages apart, in order, without loss. The kernel answers 0 for an empty message and for the
// end alike; but with a message comes the time of its arrival, if one asks for that, and with the end nothing comes.

import CRondo
import Glibc
public import SystemPackage

/// A Unix-domain connection that carries messages: each is received as it was sent.
///
/// One task at a time receives; any number of tasks may send. It may be used from any task; its work is done on the
/// loop that it was made on. Close it with ``close()``; what is dropped open is closed all the same.
@safe
public final class UnixSeqpacket: @unchecked Sendable {
    // SAFETY: `asksForTime` belongs to the loop's thread; the rest never changes.

    private let socket: MessageSocket
    private var asksForTime = false

    fileprivate init(_ descriptor: Descriptor, name: String, loop: EventLoop) {
        socket = MessageSocket(descriptor, name: name, loop: loop)
    }

    /// The loop that does this connection's work.
    public var loop: EventLoop { socket.loop }

    /// Connects to an address. While the listener's queue is full this waits.
    public static func connect(to address: UnixAddress) async throws(IOError) -> UnixSeqpacket {
        let loop = EventLoop.required(for: "UnixSeqpacket.connect")
        return try await loop.onLoop { () async throws(IOError) in
            let descriptor = try await BoundUnixSocket.connect(.unixSeqpacket, to: address, on: loop)
            return UnixSeqpacket(descriptor, name: "\(address)", loop: loop)
        }
    }

    /// Two connections that are connected with each other.
    public static func pair() throws(IOError) -> (UnixSeqpacket, UnixSeqpacket) {
        let loop = EventLoop.required(for: "UnixSeqpacket.pair")
        do throws(Errno) {
            let (first, second) = try loop.driver.openSocketPair(.unixSeqpacket)
            let name = "the other end of a pair"
            return (UnixSeqpacket(first, name: name, loop: loop), UnixSeqpacket(second, name: name, loop: loop))
        } catch {
            throw IOError("make", "a pair of Unix seqpacket sockets", .system(error))
        }
    }

    /// Waits for the next message. An empty one is a message.
    ///
    /// If the task is cancelled it throws, and no message is lost by that: the next call gets it.
    ///
    /// - Parameters:
    ///   - limit: the most bytes to take of it; what is longer is cut off, and the message says so.
    ///   - descriptorLimit: the most descriptors to take, up to 253.
    /// - Returns: nil when the peer sends no more.
    public func receive(
        upTo limit: Int = 65_536, descriptors descriptorLimit: Int = 16
    ) async throws(IOError) -> UnixMessage? {
        try await loop.onLoop { () async throws(IOError) in
            if !asksForTime, !socket.isClosed {
                asksForTime = true
                try? loop.driver.setOption(UnixControl.timestamp, of: socket.descriptor, to: Int32(1))
            }
            let controlSize = UnixControl.size(descriptors: descriptorLimit, withTime: true)
            let answer = await socket.receive(
                upTo: max(0, limit), controlSize: controlSize, flags: UnixControl.messageFlags)
            if answer < 0 { throw socket.error("receive from", answer) }
            let (message, hasTime) = UnixControl.take(socket.incoming, count: Int(answer), of: loop.driver)
            return answer > 0 || hasTime ? message : nil
        }
    }

    /// Sends one message. While the peer's queue is full this waits.
    ///
    /// - Parameters:
    ///   - bytes: at most as many as the send buffer holds, some 200,000. There may be none.
    ///   - descriptors: at most 253. They must stay open until this returns.
    public func send(_ bytes: [UInt8], passing descriptors: [FileDescriptor] = []) async throws(IOError) {
        guard let control = UnixControl.message(passing: descriptors) else {
            throw IOError("send to", socket.name, .tooManyDescriptors(descriptors.count))
        }
        try await loop.onLoop { () async throws(IOError) in
            let answer = await socket.send(copying: bytes, to: nil, control: control)
            if answer < 0 { throw socket.error("send to", answer) }
        }
    }

    /// Tells the peer that nothing more will be sent. Receiving goes on.
    public func finishSending() async throws(IOError) {
        try await loop.onLoop { () async throws(IOError) in
            let answer = await socket.finishSending()
            if answer < 0 { throw socket.error("finish sending to", answer) }
        }
    }

    /// The peer's address; `.unnamed` for most clients.
    public var peerAddress: UnixAddress {
        get throws(IOError) {
            try socket.lookUp("find the peer of") { () throws(Errno) in
                UnixAddress(try loop.driver.peerName(of: socket.descriptor))
            }
        }
    }

    /// Who the peer is: the process that connected, or that began to listen.
    public var peerCredentials: UnixCredentials {
        get throws(IOError) {
            try socket.lookUp("find the credentials of the peer of") { () throws(Errno) in
                try UnixControl.credentials(of: socket.descriptor, loop.driver)
            }
        }
    }

    /// Closes the connection. Who receives or sends meanwhile gets an error. Closing twice is no mistake.
    public func close() async { await socket.close() }
}

extension UnixSeqpacket: AcceptedConnection {
    func whileOwned(_ body: () async throws -> Void) async throws { try await body() }
}

/// A Unix-domain socket that accepts connections for messages.
public final class UnixSeqpacketListener: Sendable {
    /// Where it listens.
    public let localAddress: UnixAddress

    private let socket: ListeningSocket

    private init(_ bound: BoundUnixSocket, loop: EventLoop) {
        localAddress = bound.address
        socket = ListeningSocket(bound.descriptor, name: "\(bound.address)", path: bound.path, loop: loop)
    }

    /// The loop that does this listener's work.
    public var loop: EventLoop { socket.loop }

    /// Listens on `address`; everything as for ``UnixListener/listen(on:replacingStale:permissions:backlog:)``.
    public static func listen(
        on address: UnixAddress, replacingStale: Bool = false, permissions: FilePermissions? = nil,
        backlog: Int = 4096
    ) async throws(IOError) -> UnixSeqpacketListener {
        let loop = EventLoop.required(for: "UnixSeqpacketListener.listen")
        return try await loop.onLoop { () async throws(IOError) in
            let bound = try await BoundUnixSocket.make(
                .unixSeqpacket, "listen on", address, replacingStale, permissions, backlog: backlog, on: loop)
            return UnixSeqpacketListener(bound, loop: loop)
        }
    }

    /// Waits for the next connection, as ``UnixListener/accept()``.
    public func accept() async throws(IOError) -> UnixSeqpacket {
        UnixSeqpacket(try await socket.accept(), name: "a client of \(localAddress)", loop: loop)
    }

    /// Accepts connections and runs `handler` for each, as ``UnixListener/serve(_:)``.
    public func serve(_ handler: @escaping @Sendable (UnixSeqpacket) async throws -> Void) async throws(IOError) {
        let (loop, name) = (loop, "a client of \(localAddress)")
        try await socket.serve({ UnixSeqpacket($0, name: name, loop: loop) }, handler)
    }

    /// Stops listening, and removes the file. Who accepts meanwhile gets an error. Closing twice is no mistake.
    public func close() async { await socket.close() }

    /// Times that accepting had to pause because no file descriptor was left.
    public var shortages: Int {
        get async { await socket.shortages }
    }
}
