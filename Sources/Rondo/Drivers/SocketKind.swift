// What kinds of sockets there are, and what their options are called.

import Glibc

/// What a socket is for.
package struct SocketKind: Hashable, Sendable {
    /// `AF_INET`, `AF_INET6` or `AF_UNIX`.
    package var domain: Int32
    /// `SOCK_STREAM`, `SOCK_DGRAM` or `SOCK_SEQPACKET`.
    package var type: Int32

    package static func stream(of address: SocketAddress) -> SocketKind {
        SocketKind(domain: address.domain, type: Int32(SOCK_STREAM.rawValue))
    }

    package static func datagram(of address: SocketAddress) -> SocketKind {
        SocketKind(domain: address.domain, type: Int32(SOCK_DGRAM.rawValue))
    }

    package static let unixStream = SocketKind(domain: AF_UNIX, type: Int32(SOCK_STREAM.rawValue))
    package static let unixDatagram = SocketKind(domain: AF_UNIX, type: Int32(SOCK_DGRAM.rawValue))
    package static let unixSeqpacket = SocketKind(domain: AF_UNIX, type: Int32(SOCK_SEQPACKET.rawValue))

    package var isTCP: Bool { domain != AF_UNIX && type == Int32(SOCK_STREAM.rawValue) }
    package var isUDP: Bool { domain != AF_UNIX && type == Int32(SOCK_DGRAM.rawValue) }
}

/// An option of sockets: its level and its number (`SOL_SOCKET`, `SO_REUSEADDR`).
package struct SocketOption: Hashable, Sendable {
    package var level: Int32
    package var name: Int32

    package init(_ level: Int32, _ name: Int32) {
        self.level = level
        self.name = name
    }
}
