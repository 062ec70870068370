import CRondo
import Glibc
import SystemPackage

extension UDPSocket {
    /// How a UDP socket behaves. What is nil is left as the system has it.
    public struct Options: Sendable {
        /// Whether another socket may have the same address, for receiving multicast.
        public var reusesAddress = false
        /// Whether several sockets share one address, each getting a part of the datagrams (`SO_REUSEPORT`).
        public var reusesPort = false
        /// Whether it may send to broadcast addresses.
        public var allowsBroadcast = false
        /// Bytes that may wait to be received. The kernel counts its own overhead too, so it takes twice as many, and
        /// no more than `net.core.rmem_max` says.
        public var receiveBufferSize: Int?
        /// Bytes that may wait to be sent.
        public var sendBufferSize: Int?
        /// How many routers a datagram may pass.
        public var timeToLive: Int?
        /// How many routers a datagram to a group may pass. The system's own choice is 1.
        public var multicastTimeToLive: Int?
        /// Whether this machine hears what it sends to a group itself. The system's own choice is yes.
        public var hearsOwnMulticast: Bool?
        /// The network interface that datagrams to groups leave by, `eth0`.
        public var multicastInterface: String?
        /// Whether an IPv6 socket leaves IPv4 alone. Else one on `::` hears both.
        public var isIPv6Only: Bool?
        /// Whether the kernel may hand over many datagrams of one sender in one piece (`UDP_GRO`, Linux 5.0), which
        /// costs less. ``UDPSocket/receive(upTo:)`` takes them apart. Ignored where the kernel can't.
        public var coalesces = false

        /// Everything as the system has it.
        public init() {}
    }

    /// Bytes that may wait to be received, as the kernel counts them.
    public var receiveBufferSize: Int { get throws(IOError) { try number(SocketOption(SOL_SOCKET, SO_RCVBUF)) } }

    /// Bytes that may wait to be sent, as the kernel counts them.
    public var sendBufferSize: Int { get throws(IOError) { try number(SocketOption(SOL_SOCKET, SO_SNDBUF)) } }

    /// How many routers a datagram may pass.
    public var timeToLive: Int { get throws(IOError) { try number(Options.timeToLive(localAddress.family)) } }

    private func number(_ option: SocketOption) throws(IOError) -> Int {
        try socket.lookUp("look up an option of") { () throws(Errno) in
            Int(try loop.driver.numberOption(option, of: socket.descriptor))
        }
    }
}

extension UDPSocket.Options {
    fileprivate static func timeToLive(_ family: SocketAddress.Family) -> SocketOption {
        family == .ipv4
            ? SocketOption(Int32(IPPROTO_IP), IP_TTL) : SocketOption(Int32(IPPROTO_IPV6), IPV6_UNICAST_HOPS)
    }

    /// Sets what is to be set before the socket is bound.
    func apply(to socket: Descriptor, _ family: SocketAddress.Family, _ driver: any Driver) throws(Errno) {
        var settings: [(SocketOption, Int32)] = []
        if reusesAddress { settings.append((SocketOption(SOL_SOCKET, SO_REUSEADDR), 1)) }
        if reusesPort { settings.append((SocketOption(SOL_SOCKET, SO_REUSEPORT), 1)) }
        if allowsBroadcast { settings.append((SocketOption(SOL_SOCKET, SO_BROADCAST), 1)) }
        func add(_ option: SocketOption, _ value: Int?) {
            if let value { settings.append((option, Int32(clamping: value))) }
        }
        add(SocketOption(SOL_SOCKET, SO_RCVBUF), receiveBufferSize)
        add(SocketOption(SOL_SOCKET, SO_SNDBUF), sendBufferSize)
        add(Self.timeToLive(family), timeToLive)
        let (ip, ipv6) = (Int32(IPPROTO_IP), Int32(IPPROTO_IPV6))
        let isIPv4 = family == .ipv4
        add(
            isIPv4 ? SocketOption(ip, IP_MULTICAST_TTL) : SocketOption(ipv6, IPV6_MULTICAST_HOPS),
            multicastTimeToLive)
        add(
            isIPv4 ? SocketOption(ip, IP_MULTICAST_LOOP) : SocketOption(ipv6, IPV6_MULTICAST_LOOP),
            hearsOwnMulticast.map { $0 ? 1 : 0 })
        if !isIPv4 { add(SocketOption(ipv6, IPV6_V6ONLY), isIPv6Only.map { $0 ? 1 : 0 }) }
        for (option, value) in settings { try driver.setOption(option, of: socket, to: value) }
        guard let multicastInterface else { return }
        // SAFETY: the name is only lent for the call, here and below.
        let index = Int32(bitPattern: unsafe if_nametoindex(multicastInterface))
        if index == 0 { throw .noSuchAddressOrDevice }
        if isIPv4 {
            let request = ip_mreqn(imr_multiaddr: in_addr(), imr_address: in_addr(), imr_ifindex: index)
            try driver.setOption(SocketOption(ip, IP_MULTICAST_IF), of: socket, to: request)
        } else {
            try driver.setOption(SocketOption(ipv6, IPV6_MULTICAST_IF), of: socket, to: index)
        }
    }

    /// - Returns: whether the kernel puts datagrams together.
    func applyCoalescing(to socket: Descriptor, _ driver: any Driver) -> Bool {
        let option = SocketOption(MessageMemory.udpLevel, MessageMemory.udpCoalesce)
        return (try? driver.setOption(option, of: socket, to: Int32(1))) != nil
    }
}

extension UDPSocket {
    /// Joins a multicast group: from now on the socket hears what is sent to it.
    ///
    /// - Parameters:
    ///   - group: the group's address; its port does not count.
    ///   - interface: the network interface to listen on, `eth0`; nil lets the system choose.
    /// - Throws: `IOError`: `join 239.1.2.3: Address already in use` if it has joined before.
    public func join(_ group: SocketAddress, on interface: String? = nil) throws(IOError) {
        try change("join", group, interface, IP_ADD_MEMBERSHIP, IPV6_JOIN_GROUP)
    }

    /// Leaves a multicast group. Closing the socket leaves all.
    public func leave(_ group: SocketAddress, on interface: String? = nil) throws(IOError) {
        try change("leave", group, interface, IP_DROP_MEMBERSHIP, IPV6_LEAVE_GROUP)
    }

    private func change(
        _ verb: String, _ group: SocketAddress, _ interface: String?, _ ipv4: Int32, _ ipv6: Int32
    ) throws(IOError) {
        if loop.isOnOwnThread, socket.isClosed { throw IOError(verb, group.host, .closed) }
        // SAFETY: the name is only lent for the call.
        let index = interface.map { unsafe if_nametoindex($0) } ?? 0
        if let interface, index == 0 {
            throw IOError(verb, group.host, .invalid("there is no network interface \(interface)"))
        }
        do throws(Errno) {
            // The address stands behind family and port, and in IPv6 the flow label.
            let name = SocketName(group).bytes
            if group.family == .ipv4 {
                let number = name[4..<8].reversed().reduce(UInt32(0)) { $0 << 8 | UInt32($1) }
                let request = ip_mreqn(
                    imr_multiaddr: in_addr(s_addr: number), imr_address: in_addr(), imr_ifindex: Int32(index))
                try loop.driver.setOption(SocketOption(Int32(IPPROTO_IP), ipv4), of: socket.descriptor, to: request)
            } else {
                // struct ipv6_mreq: the address, and the interface's number.
                let number = (0..<4).map { UInt8(truncatingIfNeeded: index >> (UInt32($0) * 8)) }
                try loop.driver.setOption(
                    SocketOption(Int32(IPPROTO_IPV6), ipv6), of: socket.descriptor, to: Array(name[8..<24]) + number)
            }
        } catch {
            throw IOError(verb, group.host, .system(error))
        }
    }
}
