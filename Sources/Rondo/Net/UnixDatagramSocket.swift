import CRondo
import Glibc
public import SystemPackage

/// A Unix-domain socket for datagrams. On one machine none gets lost, and none overtakes another of its sender.
///
/// One task at a time receives; any number of tasks may send. It may be used from any task; its work is done on the
/// loop that it was made on. Close it with ``close()``; what is dropped open is closed all the same.
@safe
public final class UnixDatagramSocket: Sendable {
    // SAFETY: bytes to be sent are kept by `send`, which waits.

    /// Its own address; `.unnamed` if it has none, and nobody can answer.
    public let localAddress: UnixAddress
    /// Whom it is connected to, if it is: it sends to nobody else.
    public let peerAddress: UnixAddress?

    private let socket: MessageSocket

    private init(_ socket: MessageSocket, local: UnixAddress, peer: UnixAddress?) {
        self.socket = socket
        localAddress = local
        peerAddress = peer
    }

    /// The loop that does this socket's work.
    public var loop: EventLoop { socket.loop }

    /// A socket with an address. A path's file is made, and removed when the socket is closed, if it is still the same.
    ///
    /// - Parameters: as for ``UnixListener/listen(on:replacingStale:permissions:backlog:)``. With `.unnamed` nobody can
    ///   send to it.
    public static func bind(
        to address: UnixAddress, replacingStale: Bool = false, permissions: FilePermissions? = nil
    ) async throws(IOError) -> UnixDatagramSocket {
        let loop = EventLoop.required(for: "UnixDatagramSocket.bind")
        return try await loop.onLoop { () async throws(IOError) in
            let bound: BoundUnixSocket
            if address.isUnnamed {
                do throws(Errno) {
                    let descriptor = try loop.driver.openSocket(.unixDatagram)
                    bound = BoundUnixSocket(descriptor: descriptor, address: address, path: nil)
                } catch {
                    throw IOError("open", "a Unix datagram socket", .system(error))
                }
            } else {
                bound = try await BoundUnixSocket.make(
                    .unixDatagram, "bind", address, replacingStale, permissions, backlog: nil, on: loop)
            }
            let socket = MessageSocket(bound.descriptor, name: "\(address)", path: bound.path, loop: loop)
            return UnixDatagramSocket(socket, local: address, peer: nil)
        }
    }

    /// A socket without an address that sends to one receiver.
    public static func connect(to peer: UnixAddress) async throws(IOError) -> UnixDatagramSocket {
        let loop = EventLoop.required(for: "UnixDatagramSocket.connect")
        return try await loop.onLoop { () async throws(IOError) in
            let descriptor = try await BoundUnixSocket.connect(.unixDatagram, to: peer, on: loop)
            let socket = MessageSocket(descriptor, name: "\(peer)", loop: loop)
            return UnixDatagramSocket(socket, local: .unnamed, peer: peer)
        }
    }

    /// Two sockets that are connected with each other.
    public static func pair() throws(IOError) -> (UnixDatagramSocket, UnixDatagramSocket) {
        let loop = EventLoop.required(for: "UnixDatagramSocket.pair")
        do throws(Errno) {
            let (first, second) = try loop.driver.openSocketPair(.unixDatagram)
            func end(_ descriptor: Descriptor) -> UnixDatagramSocket {
                let socket = MessageSocket(descriptor, name: "the other end of a pair", loop: loop)
                return UnixDatagramSocket(socket, local: .unnamed, peer: .unnamed)
            }
            return (end(first), end(second))
        } catch {
            throw IOError("make", "a pair of Unix datagram sockets", .system(error))
        }
    }

    /// Waits for the next datagram.
    ///
    /// If the task is cancelled it throws, and no datagram is lost by that: the next call gets it.
    ///
    /// - Parameters:
    ///   - limit: the most bytes to take of it; what is longer is cut off, and the message says so.
    ///   - descriptorLimit: the most descriptors to take, up to 253.
    public func receive(
        upTo limit: Int = 65_536, descriptors descriptorLimit: Int = 16
    ) async throws(IOError) -> UnixMessage {
        try await loop.onLoop { () async throws(IOError) in
            let controlSize = UnixControl.size(descriptors: descriptorLimit)
            let answer = await socket.receive(
                upTo: max(0, limit), controlSize: controlSize, flags: UnixControl.messageFlags)
            if answer < 0 { throw socket.error(peerAddress == nil ? "receive on" : "receive from", answer) }
            return UnixControl.take(socket.incoming, count: Int(answer), of: loop.driver).message
        }
    }

    /// Sends one datagram. While the receiver's queue is full this waits.
    ///
    /// - Parameters:
    ///   - bytes: at most as many as the send buffer holds, some 200,000. There may be none.
    ///   - descriptors: at most 253. They must stay open until this returns.
    ///   - destination: where to; nil on a connected socket.
    public func send(
        _ bytes: [UInt8], passing descriptors: [FileDescriptor] = [], to destination: UnixAddress? = nil
    ) async throws(IOError) {
        let subject = "\(destination ?? peerAddress ?? localAddress)"
        if let problem = destination?.problem { throw IOError("send to", subject, .invalid(problem)) }
        guard let control = UnixControl.message(passing: descriptors) else {
            throw IOError("send to", subject, .tooManyDescriptors(descriptors.count))
        }
        let answer = await loop.onLoop {
            await socket.send(copying: bytes, to: destination?.socketName, control: control)
        }
        if answer < 0 { throw await loop.onLoop { socket.error("send to", answer, subject: subject) } }
    }

    /// Closes the socket, and removes its file. Who receives or sends meanwhile gets an error.
    public func close() async { await socket.close() }
}

extension MessageSocket {
    /// Sends a copy of `bytes`.
    ///
    /// The kernel does not tell when a receiver that this socket is not connected to has room again. So such a message
    /// is tried again after a while, and meanwhile does not keep those for other receivers.
    func send(copying bytes: [UInt8], to destination: SocketName?, control: [UInt8]) async -> Int32 {
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
        // SAFETY: freed when this function returns, which is after the last completion.
        defer { unsafe memory.deallocate() }
        unsafe memory.copyBytes(from: bytes)
        let content = unsafe UnsafeRawBufferPointer(rebasing: memory[..<bytes.count])
        guard let destination else { return await unsafe send(content, to: nil, control: control) }
        var pause = RetryPause()
        while true {
            let answer = await unsafe send(
                content, to: destination, control: control, flags: Int32(MSG_DONTWAIT))
            if answer != -EAGAIN { return answer }
            if await !pause.wait() { return -ECANCELED }
        }
    }
}

extension IOError.Cause {
    /// More descriptors than go with one message.
    static func tooManyDescriptors(_ count: Int) -> IOError.Cause {
        .invalid("\(count) descriptors: at most \(UnixControl.descriptorLimit) go with one message")
    }
}
