// Addresses and errors: each side has its own.

import NIOCore
import Rondo
import SystemPackage

extension NIOCore.SocketAddress {
    /// The same address for NIO; nil if there is none.
    init?(_ address: Rondo.SocketAddress?) {
        guard let address else { return nil }
        let bytes = ByteBuffer(bytes: address.bytes)
        guard let address = try? NIOCore.SocketAddress(packedIPAddress: bytes, port: address.port) else { return nil }
        self = address
    }

    /// The same path for NIO; an empty one for a peer without a name.
    init?(_ address: UnixAddress?) {
        let path = address?.path?.string ?? address?.abstractName.map { "\0" + String(decoding: $0, as: UTF8.self) }
        guard let address = try? NIOCore.SocketAddress(unixDomainSocketPath: path ?? "") else { return nil }
        self = address
    }

    /// Where Rondo's TCP sockets would find it; nil for Unix sockets.
    var rondoAddress: Rondo.SocketAddress? {
        ipAddress.flatMap { Rondo.SocketAddress($0, port: port ?? 0) }
    }

    /// Where Rondo's Unix sockets would find it; nil for the others.
    var unixAddress: UnixAddress? {
        guard case .unixDomainSocket = self, let path = pathname else { return nil }
        return path.hasPrefix("\0") ? .abstract(String(path.dropFirst())) : .path(FilePath(path))
    }
}

extension Rondo.IOError {
    /// What NIO's handlers expect of a failed system call; other errors as they are.
    var forNIO: any Error {
        switch cause {
        case .system(let errno): NIOCore.IOError(errnoCode: errno.rawValue, reason: description)
        case .closed: ChannelError.ioOnClosedChannel
        case .cancelled: CancellationError()
        default: self
        }
    }
}
