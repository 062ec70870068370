// UDP: datagrams, each by itself. They may get lost, and may overtake one another.

import Glibc
import SystemPackage

/// A UDP socket.
///
/// One task at a time receives; any number of tasks may send. It may be used from any task; its work is done on the
/// loop that it was made on. Close it with ``close()``; what is dropped open is closed all the same.
@safe
public final class UDPSocket: @unchecked Sendable {
    // SAFETY: `socket` and the addresses never change. The rest belongs to the loop's thread: each method goes there
    // before it touches anything. Bytes to be sent are kept by the caller of `send`, which waits.

    let socket: MessageSocket
    /// Its own address, with the port that the system chose, if it was asked for port 0.
    public let localAddress: SocketAddress
    /// Whom it is connected to: it sends to and hears from nobody else, and is told when nobody is there.
    public let peerAddress: SocketAddress?
    /// Whether the kernel puts datagrams together (see ``Options/coalesces``).
    public let coalesces: Bool
    /// What came in one piece with datagrams that were received already.
    private let split = Backlog<Datagram>()
    /// Whether one call may send many datagrams; nil before that was tried.
    var mayUseSegmentation: Bool?

    /// The loop that does this socket's work.
    public var loop: EventLoop { socket.loop }

    /// The most bytes that any datagram may have.
    public static let sizeLimit = 65_535

    private init(_ socket: MessageSocket, local: SocketAddress, peer: SocketAddress?, coalesces: Bool) {
        self.socket = socket
        localAddress = local
        peerAddress = peer
        self.coalesces = coalesces
    }

    // MARK: Making

    /// A socket with an address of its own: for servers, and for who talks to many.
    ///
    /// - Parameters:
    ///   - address: where; port 0 lets the system choose.
    ///   - options: how the socket behaves.
    /// - Throws: `IOError`: `bind 127.0.0.1:53: Address already in use`.
    public static func bind(
        to address: SocketAddress = .any(port: 0), options: Options = Options()
    ) async throws(IOError) -> UDPSocket {
        let loop = EventLoop.required(for: "UDPSocket.bind")
        return try await loop.onLoop { () async throws(IOError) in
            try await make(on: loop, of: address, local: address, peer: nil, options)
        }
    }

    /// A socket that talks to one peer.
    ///
    /// Nothing is sent yet. If a datagram comes to a port where nobody is, a later `send` or `receive` says so:
    /// `receive from 127.0.0.1:53: Connection refused`.
    ///
    /// - Parameters:
    ///   - peer: whom to talk to.
    ///   - local: its own address; nil lets the system choose.
    ///   - options: how the socket behaves.
    public static func connect(
        to peer: SocketAddress, from local: SocketAddress? = nil, options: Options = Options()
    ) async throws(IOError) -> UDPSocket {
        let loop = EventLoop.required(for: "UDPSocket.connect")
        return try await loop.onLoop { () async throws(IOError) in
            try await make(on: loop, of: peer, local: local, peer: peer, options)
        }
    }

    private static func make(
        on loop: EventLoop, of family: SocketAddress, local: SocketAddress?, peer: SocketAddress?, _ options: Options
    ) async throws(IOError) -> UDPSocket {
        let verb = peer == nil ? "bind" : "connect to"
        let subject = "\(peer ?? family)"
        do throws(Errno) {
            let descriptor = try loop.driver.openSocket(.datagram(of: family))
            do throws(Errno) {
                try options.apply(to: descriptor, family.family, loop.driver)
                let coalesces = options.coalesces && options.applyCoalescing(to: descriptor, loop.driver)
                if let local { try loop.driver.bind(descriptor, to: SocketName(local)) }
                if let peer { _ = try checked(await connect(descriptor, to: peer, on: loop)) }
                let bound = try loop.driver.localAddress(of: descriptor)
                let socket = MessageSocket(descriptor, name: "\(peer ?? bound)", loop: loop)
                return UDPSocket(socket, local: bound, peer: peer, coalesces: coalesces)
            } catch {
                loop.driver.closeNow(descriptor)
                throw error
            }
        } catch {
            throw IOError(verb, subject, IOError.cause(ofAnswer: -error.rawValue))
        }
    }

    private static func connect(_ descriptor: Descriptor, to peer: SocketAddress, on loop: EventLoop) async -> Int32 {
        // SAFETY: the address is freed after the last completion.
        let target = UnsafeMutablePointer<SocketAddress>.allocate(capacity: 1)
        unsafe target.initialize(to: peer)
        let answer = await unsafe loop.perform(.connect(descriptor, target))
        unsafe target.deallocate()
        return answer
    }

    // MARK: Receiving

    /// Waits for the next datagram.
    ///
    /// If the task is cancelled it throws, and no datagram is lost by that: the next call gets it.
    ///
    /// - Parameter limit: the most bytes to take of it; what is longer is cut off, and the datagram says so.
    /// - Throws: `IOError`; on a connected socket `.system(.connectionRefused)` if the peer's machine says that nobody
    ///   is at its port.
    public func receive(upTo limit: Int = UDPSocket.sizeLimit) async throws(IOError) -> Datagram {
        try await loop.onLoop { () async throws(IOError) in
            while true {
                if let datagram = split.popFirst() {
                    if loop.spendOperation() { await loop.yieldInTurn() }
                    return datagram.cut(to: limit)
                }
                // What the kernel has put together must fit in as a whole.
                let room = coalesces ? Self.sizeLimit : max(0, limit)
                let controlSize = coalesces ? MessageMemory.controlSize(4) : 0
                let answer = await socket.receive(upTo: room, controlSize: controlSize, flags: Int32(MSG_TRUNC))
                if answer < 0 { throw socket.error(peerAddress == nil ? "receive on" : "receive from", answer) }
                guard let sender = socket.incoming.internetSender ?? peerAddress else { continue }
                takeApart(Int(answer), from: sender)
            }
        }
    }

    private func takeApart(_ count: Int, from sender: SocketAddress) {
        let memory = socket.incoming
        let size = coalesces ? memory.segmentSize ?? count : count
        guard size > 0, size < count else {
            return split.append(Datagram(bytes: memory.bytes(count), sender: sender, fullSize: count))
        }
        var start = 0
        while start < count {
            let end = min(start + size, count)
            split.append(Datagram(bytes: memory.bytes(in: start..<end), sender: sender))
            start = end
        }
    }

    // MARK: Sending

    /// Sends one datagram; returns when the kernel has taken it over. Whether it arrives, nobody says.
    ///
    /// - Parameters:
    ///   - bytes: at most 65,507 over IPv4. There may be none.
    ///   - destination: where to; nil on a connected socket.
    /// - Throws: `IOError`: `send to 10.0.0.1:53: Message too long`.
    public func send(_ bytes: RawSpan, to destination: SocketAddress? = nil) async throws(IOError) {
        // SAFETY: the span is borrowed until this function returns, which is after the last completion.
        let buffer = unsafe bytes.withUnsafeBytes { unsafe $0 }
        nonisolated(unsafe) let content = unsafe buffer
        try await loop.onLoop { () async throws(IOError) in
            let answer = await unsafe socket.send(content, to: destination.map { SocketName($0) })
            if answer < 0 { throw failure(answer, destination) }
        }
    }

    /// Sends one datagram.
    public func send(_ bytes: [UInt8], to destination: SocketAddress? = nil) async throws(IOError) {
        unsafe try await send(bytes.span.bytes, to: destination)
    }

    func failure(_ answer: Int32, _ destination: SocketAddress?) -> IOError {
        socket.error("send to", answer, subject: destination.map { "\($0)" })
    }

    /// Closes the socket. Who receives or sends meanwhile gets an error. Closing twice is no mistake.
    public func close() async { await socket.close() }
}

extension MessageMemory {
    /// `SOL_UDP`, and the kernel's names for many datagrams in one piece (include/uapi/linux/udp.h).
    static let udpLevel: Int32 = 17
    static let udpSegment: Int32 = 103
    static let udpCoalesce: Int32 = 104

    /// The size of the datagrams that the kernel has put together, if it has.
    fileprivate var segmentSize: Int? {
        var size: Int?
        unsafe forEachControlMessage { level, type, data in
            // SAFETY: within the data, as has been asked.
            guard level == Self.udpLevel, type == Self.udpCoalesce, data.count >= 4 else { return }
            size = Int(unsafe data.loadUnaligned(as: Int32.self))
        }
        return size
    }
}
