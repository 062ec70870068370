// Options of sockets, by the kernel's numbers (man 7 socket, tcp, ipv6), and other calls that the kernel answers at
// once.

import CRondo
import Glibc
import SystemPackage

extension SocketOption {
    private static func tcp(_ name: Int32) -> SocketOption { SocketOption(Int32(IPPROTO_TCP), name) }
    private static func socket(_ name: Int32) -> SocketOption { SocketOption(SOL_SOCKET, name) }

    package static let noDelay = tcp(TCP_NODELAY)
    package static let keepAliveIdle = tcp(TCP_KEEPIDLE)
    package static let keepAliveInterval = tcp(TCP_KEEPINTVL)
    package static let keepAliveCount = tcp(TCP_KEEPCNT)
    package static let userTimeout = tcp(TCP_USER_TIMEOUT)
    package static let quickAcknowledgements = tcp(TCP_QUICKACK)
    package static let deferAccept = tcp(TCP_DEFER_ACCEPT)
    package static let reuseAddress = socket(SO_REUSEADDR)
    package static let reusePort = socket(SO_REUSEPORT)
    package static let keepAlive = socket(SO_KEEPALIVE)
    /// Two fields: on, and seconds.
    package static let linger = socket(SO_LINGER)
    package static let sendBuffer = socket(SO_SNDBUF)
    package static let receiveBuffer = socket(SO_RCVBUF)
    package static let ipv6Only = SocketOption(Int32(IPPROTO_IPV6), IPV6_V6ONLY)
}

/// What a resolver knows of a host.
package struct HostAnswer: Sendable {
    /// Its addresses, in the order in which they are to be tried; the ports mean nothing.
    package var addresses: [SocketAddress]
    /// Why there are none, in the resolver's words.
    package var failure: String?

    package init(_ addresses: [SocketAddress], failure: String? = nil) {
        self.addresses = addresses
        self.failure = failure
    }
}

extension Driver {
    /// Sets an option of several numbers, in the kernel's order.
    func setOption(_ option: SocketOption, of socket: Descriptor, toFields values: [Int32]) throws(Errno) {
        // SAFETY: reads the numbers' bytes within the call.
        try setOption(option, of: socket, to: unsafe values.withUnsafeBytes { unsafe Array($0) })
    }
}

extension KernelDriver {
    package func breakConnection(_ socket: Descriptor) {
        var nowhere = sockaddr()
        nowhere.sa_family = sa_family_t(AF_UNSPEC)
        // Connecting to no address dissolves a TCP connection (man 2 connect): the reset goes out now, and who waits
        // for the socket is woken with an error. Other sockets know nothing of resets.
        // SAFETY: the address outlives the call.
        let answer = unsafe connect(socket.rawValue, &nowhere, socklen_t(MemoryLayout<sockaddr>.size))
        if answer != 0 { _ = Glibc.shutdown(socket.rawValue, Int32(SHUT_RDWR)) }
    }

    package var lookUpHost: @Sendable (String) -> HostAnswer { { askSystemResolver($0) } }
}

/// The system's own resolver: it knows /etc/hosts, search domains and whatever else is set up. It blocks.
package func askSystemResolver(_ host: String) -> HostAnswer {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_ADDRCONFIG
    var list: UnsafeMutablePointer<addrinfo>?
    // SAFETY: the list is getaddrinfo's until it is freed below; addresses are copied out of it. gai_strerror answers a
    // constant string.
    let code = unsafe getaddrinfo(host, nil, &hints, &list)
    guard code == 0 else { return HostAnswer([], failure: unsafe String(cString: gai_strerror(code))) }
    defer { unsafe freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var next = unsafe list
    while let entry = unsafe next {
        if let pointer = unsafe entry.pointee.ai_addr,
            let address = unsafe SocketAddress(pointer, length: entry.pointee.ai_addrlen), !addresses.contains(address)
        {
            addresses.append(address)
        }
        unsafe next = entry.pointee.ai_next
    }
    return HostAnswer(addresses)
}
