import Glibc
import SystemPackage

/// A TCP connection: bytes in both directions.
@safe
public final class TCPStream: SocketStream, @unchecked Sendable {
    // SAFETY: as SocketStream. The peer's address never changes.

    /// The peer's address, if we asked for it by name.
    private let knownPeer: SocketAddress?

    init(_ descriptor: Descriptor, loop: EventLoop, peer: SocketAddress? = nil) {
        knownPeer = peer
        super.init(descriptor, loop: loop)
    }

    // MARK: Connecting

    /// Connects to an address.
    ///
    /// Cancelling the task gives the attempt up and closes the socket.
    ///
    /// - Parameter options: what to set on the socket before it connects.
    /// - Throws: `IOError` with the system's reason, `connect to 127.0.0.1:80: Connection refused`.
    public static func connect(
        to address: SocketAddress, options: [TCPOption] = []
    ) async throws(IOError) -> TCPStream {
        let loop = EventLoop.required(for: "TCPStream.connect")
        let descriptor: Descriptor
        do throws(Errno) {
            descriptor = try loop.driver.openSocket(for: address)
            do throws(Errno) {
                try loop.driver.set(options, of: descriptor)
            } catch {
                loop.driver.closeNow(descriptor)
                throw error
            }
        } catch {
            throw IOError("connect to", "\(address)", .system(error))
        }
        let stream = TCPStream(descriptor, loop: loop, peer: address)
        // SAFETY: the address is freed after the last completion.
        let target = UnsafeMutablePointer<SocketAddress>.allocate(capacity: 1)
        unsafe target.initialize(to: address)
        let answer = await unsafe loop.perform(.connect(descriptor, target))
        unsafe target.deallocate()
        if answer < 0 {
            await stream.close()
            throw IOError("connect to", "\(address)", IOError.cause(ofAnswer: answer))
        }
        return stream
    }

    // MARK: Addresses

    /// This end's address.
    public var localAddress: SocketAddress {
        get throws(IOError) {
            try lookUp("find the address of") { () throws(Errno) in try loop.driver.localAddress(of: descriptor) }
        }
    }

    /// The peer's address.
    public var peerAddress: SocketAddress {
        get throws(IOError) {
            if let knownPeer { return knownPeer }
            return try lookUp("find the peer of") { () throws(Errno) in try loop.driver.peerAddress(of: descriptor) }
        }
    }

    override var peerName: String? {
        let peer = isClosed ? knownPeer : try? peerAddress
        return peer.map { "\($0)" }
    }

    override var kindName: String { "a TCP stream" }
}
