package import SystemPackage
package import Glibc

/// An IPv4 or IPv6 address with a port.
///
/// It is a plain value of 28 bytes that is what the kernel reads, so it can be handed over without conversion.
public struct SocketAddress: Hashable, Sendable, CustomStringConvertible {
    /// The two families of internet addresses.
    public enum Family: Sendable { case ipv4, ipv6 }

    /// The port number, 0 to 65,535. When listening, 0 lets the system choose one.
    public var port: Int {
        get { Int(UInt16(bigEndian: portInNetworkOrder)) }
        set { portInNetworkOrder = UInt16(truncatingIfNeeded: newValue).bigEndian }
    }

    /// IPv4 or IPv6.
    public var family: Family { familyNumber == UInt16(AF_INET6) ? .ipv6 : .ipv4 }

    // The layout of sockaddr_in6, whose first eight bytes are also sockaddr_in (the IPv4 address stands where IPv6
    // has its flow label). Unused bytes are zero, so that equality is that of the bytes.
    private var familyNumber: UInt16
    private var portInNetworkOrder: UInt16
    private var ipv4: UInt32
    private var ipv6: (UInt32, UInt32, UInt32, UInt32)
    private var scope: UInt32

    /// `127.0.0.1`
    public static func loopback(port: Int) -> SocketAddress { .ipv4(127, 0, 0, 1, port: port) }
    /// `::1`
    public static func loopback6(port: Int) -> SocketAddress {
        SocketAddress(family: AF_INET6, port: port, ipv6: (0, 0, 0, UInt32(1).bigEndian))
    }
    /// `0.0.0.0`: every IPv4 address of this machine.
    public static func any(port: Int) -> SocketAddress { .ipv4(0, 0, 0, 0, port: port) }
    /// `::`: every address of this machine.
    public static func any6(port: Int) -> SocketAddress {
        SocketAddress(family: AF_INET6, port: port, ipv6: (0, 0, 0, 0))
    }
    /// An IPv4 address by its four numbers.
    public static func ipv4(_ a: UInt8, _ b: UInt8, _ c: UInt8, _ d: UInt8, port: Int) -> SocketAddress {
        let number = UInt32(a) << 24 | UInt32(b) << 16 | UInt32(c) << 8 | UInt32(d)
        return SocketAddress(family: AF_INET, port: port, ipv4: number.bigEndian)
    }

    private init(
        family: Int32, port: Int, ipv4: UInt32 = 0, ipv6: (UInt32, UInt32, UInt32, UInt32) = (0, 0, 0, 0)
    ) {
        familyNumber = UInt16(family)
        portInNetworkOrder = UInt16(truncatingIfNeeded: port).bigEndian
        self.ipv4 = ipv4
        self.ipv6 = ipv6
        scope = 0
    }

    /// A numeric address: `127.0.0.1`, `::1` or `[::1]`. Names are not resolved here.
    ///
    /// - Returns: nil if `host` is no numeric address, or `port` no port.
    public init?(_ host: String, port: Int) {
        guard (0...65_535).contains(port) else { return nil }
        var text = host
        if text.hasPrefix("["), text.hasSuffix("]") { text = String(text.dropFirst().dropLast()) }
        var address = SocketAddress(family: AF_INET, port: port)
        // SAFETY: inet_pton writes 4 bytes for AF_INET and 16 for AF_INET6, which is what the fields have.
        if unsafe inet_pton(AF_INET, text, &address.ipv4) == 1 {
            self = address
            return
        }
        address = SocketAddress(family: AF_INET6, port: port)
        guard unsafe inet_pton(AF_INET6, text, &address.ipv6) == 1 else { return nil }
        self = address
    }

    /// The address without its port: `127.0.0.1`, `::1`.
    public var host: String {
        var text = [CChar](repeating: 0, count: Int(INET6_ADDRSTRLEN))
        // SAFETY: the fields have the sizes that the family tells inet_ntop to read, and the text has room for both.
        switch family {
        case .ipv4:
            var number = ipv4
            _ = unsafe inet_ntop(AF_INET, &number, &text, socklen_t(text.count))
        case .ipv6:
            var numbers = ipv6
            _ = unsafe inet_ntop(AF_INET6, &numbers, &text, socklen_t(text.count))
        }
        return String(decoding: text.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    /// `127.0.0.1:80`, `[::1]:80`
    public var description: String {
        family == .ipv4 ? "\(host):\(port)" : "[\(host)]:\(port)"
    }

    public static func == (left: SocketAddress, right: SocketAddress) -> Bool {
        left.familyNumber == right.familyNumber && left.portInNetworkOrder == right.portInNetworkOrder
            && left.ipv4 == right.ipv4 && left.ipv6 == right.ipv6 && left.scope == right.scope
    }

    public func hash(into hasher: inout Hasher) {
        hasher.combine(familyNumber)
        hasher.combine(portInNetworkOrder)
        hasher.combine(ipv4)
        hasher.combine(ipv6.0)
        hasher.combine(ipv6.1)
        hasher.combine(ipv6.2)
        hasher.combine(ipv6.3)
    }
}

extension SocketAddress {
    /// How many of the bytes belong to the address family.
    package var length: socklen_t {
        family == .ipv4
            ? socklen_t(MemoryLayout<sockaddr_in>.size) : socklen_t(MemoryLayout<sockaddr_in6>.size)
    }

    /// The domain for `socket(2)`.
    package var domain: Int32 { Int32(familyNumber) }

    /// Hands the bytes to a call that wants a `sockaddr`.
    package func withSockaddr<Value>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
        unsafe withUnsafePointer(to: self) { pointer in
            // SAFETY: the value has the layout of sockaddr_in6, and a sockaddr is a prefix of every socket address.
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe body($0, length) }
        }
    }

    /// Reads an address from a call that fills in a `sockaddr` (`getsockname`, `getpeername`).
    package static func read(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) throws(Errno) -> SocketAddress {
        var address = SocketAddress(family: AF_INET6, port: 0)
        var length = socklen_t(MemoryLayout<SocketAddress>.size)
        // SAFETY: as in withSockaddr; the call is told how many bytes there are.
        let answer = unsafe withUnsafeMutablePointer(to: &address) { pointer in
            unsafe pointer.withMemoryRebound(to: sockaddr.self, capacity: 1) { unsafe call($0, &length) }
        }
        if answer < 0 { throw Errno(rawValue: Glibc.errno) }
        if address.family == .ipv4 {
            address.ipv6 = (0, 0, 0, 0)
            address.scope = 0
        }
        return address
    }

    /// The address in a `sockaddr` of another owner (getaddrinfo's list); nil for other families.
    package init?(_ pointer: UnsafePointer<sockaddr>, length: socklen_t) {
        var address = SocketAddress(family: AF_INET6, port: 0)
        // SAFETY: copies at most the size of the value, and at most what is there.
        unsafe withUnsafeMutableBytes(of: &address) { bytes in
            unsafe bytes.copyMemory(
                from: UnsafeRawBufferPointer(start: pointer, count: min(Int(length), bytes.count)))
        }
        let family = Int32(address.familyNumber)
        guard family == AF_INET || family == AF_INET6 else { return nil }
        if family == AF_INET {
            address.ipv6 = (0, 0, 0, 0)
            address.scope = 0
        }
        self = address
    }
}

extension SocketAddress {
    /// The address without its port as bytes, first to last: 4 for IPv4, 16 for IPv6.
    public var bytes: [UInt8] {
        var (number, numbers) = (ipv4, ipv6)
        // SAFETY: copies plain numbers.
        if family == .ipv4 { return unsafe withUnsafeBytes(of: &number) { unsafe Array($0) } }
        return unsafe withUnsafeBytes(of: &numbers) { unsafe Array($0) }
    }

    /// An address of 4 bytes (IPv4) or 16 (IPv6); nil for other counts.
    public init?(bytes: [UInt8], port: Int) {
        guard bytes.count == 4 || bytes.count == 16 else { return nil }
        var address = SocketAddress(family: bytes.count == 4 ? AF_INET : AF_INET6, port: port)
        // SAFETY: both fields have as many bytes as are copied into them.
        if bytes.count == 4 {
            unsafe withUnsafeMutableBytes(of: &address.ipv4) { unsafe $0.copyBytes(from: bytes) }
        } else {
            unsafe withUnsafeMutableBytes(of: &address.ipv6) { unsafe $0.copyBytes(from: bytes) }
        }
        self = address
    }
}
