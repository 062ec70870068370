package import Glibc
package import SystemPackage

/// An address of any family, as the kernel reads and writes it: a `sockaddr` and its length.
package struct SocketName: Hashable, Sendable {
    /// The family, and what that family has behind it. Empty if there is no address at all.
    package private(set) var bytes: [UInt8]

    /// The most bytes that a name may have.
    package static let capacity = 128

    /// What the kernel has written.
    package init(_ bytes: some Sequence<UInt8>) { self.bytes = Array(bytes) }

    package init(_ address: SocketAddress) {
        // SAFETY: the address is what the kernel reads, of that length.
        bytes = unsafe address.withSockaddr { unsafe Array(UnsafeRawBufferPointer(start: $0, count: Int($1))) }
    }

    /// `AF_INET`, `AF_INET6`, `AF_UNIX`; `AF_UNSPEC` without an address.
    package var family: Int32 { bytes.count < 2 ? AF_UNSPEC : Int32(bytes[0]) | Int32(bytes[1]) << 8 }

    /// Hands the bytes to a call that wants a `sockaddr`.
    package func withSockaddr<Value>(_ body: (UnsafePointer<sockaddr>, socklen_t) -> Value) -> Value {
        unsafe bytes.withUnsafeBytes { bytes in
            // SAFETY: the kernel reads as many bytes as it is told, and no name is empty when it is used.
            unsafe body(bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(bytes.count))
        }
    }

    /// Reads a name from a call that fills in a `sockaddr` (`getsockname`, `getpeername`).
    package static func read(
        _ call: (UnsafeMutablePointer<sockaddr>, UnsafeMutablePointer<socklen_t>) -> Int32
    ) throws(Errno) -> SocketName {
        var bytes = [UInt8](repeating: 0, count: capacity)
        var length = socklen_t(capacity)
        // SAFETY: the call is told how many bytes there are.
        let answer = unsafe bytes.withUnsafeMutableBytes { bytes in
            unsafe call(bytes.baseAddress!.assumingMemoryBound(to: sockaddr.self), &length)
        }
        if answer < 0 { throw Errno(rawValue: Glibc.errno) }
        return SocketName(bytes.prefix(Int(length)))
    }
}

extension SocketAddress {
    /// The internet address that a name is; nil for names of other families.
    package init?(_ name: SocketName) {
        if name.bytes.isEmpty { return nil }
        // SAFETY: copies the bytes that there are.
        let address = unsafe name.withSockaddr { unsafe SocketAddress($0, length: $1) }
        guard let address else { return nil }
        self = address
    }
}
