// The socket calls that the kernel answers at once, shared by the two real drivers.

import CRondo
import Glibc
import SystemPackage

/// A driver whose descriptors are the kernel's.
protocol KernelDriver: Driver {
    /// Flags for every socket beside close-on-exec: non-blocking for epoll; none for io_uring, which waits itself
    /// (it would answer EAGAIN on a non-blocking socket).
    var socketFlags: Int32 { get }
}

extension KernelDriver {
    package var now: UInt64 { monotonicNanoseconds() }

    package func openSocket(_ kind: SocketKind) throws(Errno) -> Descriptor {
        let type = kind.type | Int32(SOCK_CLOEXEC.rawValue) | socketFlags
        let descriptor = Descriptor(rawValue: try systemCall { socket(kind.domain, type, 0) })
        if !kind.isTCP { return descriptor }
        do {
            // Small answers must not wait for the acknowledgement of the ones before.
            try setOption(.noDelay, of: descriptor, to: Int32(1))
        } catch {
            closeNow(descriptor)
            throw error
        }
        return descriptor
    }

    package func openSocketPair(_ kind: SocketKind) throws(Errno) -> (Descriptor, Descriptor) {
        var ends: [Int32] = [0, 0]
        // SAFETY: room for two numbers, which is what the call fills in.
        try systemCall {
            unsafe socketpair(kind.domain, kind.type | Int32(SOCK_CLOEXEC.rawValue) | socketFlags, 0, &ends)
        }
        return (Descriptor(rawValue: ends[0]), Descriptor(rawValue: ends[1]))
    }

    // SAFETY: names, options and their lengths outlive the calls that read or fill them, here and below.

    package func bind(_ socket: Descriptor, to name: SocketName) throws(Errno) {
        try systemCall { unsafe name.withSockaddr { unsafe Glibc.bind(socket.rawValue, $0, $1) } }
    }

    package func startListening(_ socket: Descriptor, backlog: Int32) throws(Errno) {
        try systemCall { Glibc.listen(socket.rawValue, backlog) }
    }

    package func localName(of socket: Descriptor) throws(Errno) -> SocketName {
        unsafe try SocketName.read { unsafe getsockname(socket.rawValue, $0, $1) }
    }

    package func peerName(of socket: Descriptor) throws(Errno) -> SocketName {
        unsafe try SocketName.read { unsafe getpeername(socket.rawValue, $0, $1) }
    }

    package func setOption(_ option: SocketOption, of socket: Descriptor, to value: [UInt8]) throws(Errno) {
        // SAFETY: the value outlives the call.
        try systemCall {
            unsafe value.withUnsafeBytes {
                unsafe setsockopt(
                    socket.rawValue, option.level, option.name, $0.baseAddress, socklen_t($0.count))
            }
        }
    }

    package func option(_ option: SocketOption, of socket: Descriptor, size: Int) throws(Errno) -> [UInt8] {
        var value = [UInt8](repeating: 0, count: size)
        var length = socklen_t(size)
        // SAFETY: the value and its length outlive the call.
        try systemCall {
            unsafe getsockopt(socket.rawValue, option.level, option.name, &value, &length)
        }
        return Array(value.prefix(Int(length)))
    }

    package func listen(_ socket: Descriptor, on address: SocketAddress, backlog: Int32) throws(Errno) {
        try setOption(.reuseAddress, of: socket, to: Int32(1))
        // SAFETY: the address outlives the call, here and in the calls below.
        try systemCall { unsafe address.withSockaddr { unsafe Glibc.bind(socket.rawValue, $0, $1) } }
        try systemCall { Glibc.listen(socket.rawValue, backlog) }
    }

    package func localAddress(of socket: Descriptor) throws(Errno) -> SocketAddress {
        unsafe try SocketAddress.read { unsafe getsockname(socket.rawValue, $0, $1) }
    }

    package func peerAddress(of socket: Descriptor) throws(Errno) -> SocketAddress {
        unsafe try SocketAddress.read { unsafe getpeername(socket.rawValue, $0, $1) }
    }

    package func readNow(
        _ descriptor: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, kind: StreamKind
    ) -> Int32 {
        // SAFETY: the caller's memory has room for that many bytes.
        unsafe rondo_read_now(descriptor.rawValue, bytes, min(count, Operation.transferLimit), kind.number)
    }

    package func writeNow(
        _ descriptor: Descriptor, _ bytes: UnsafeRawPointer, count: Int, kind: StreamKind
    ) -> Int32 {
        // SAFETY: the caller's memory holds that many bytes.
        unsafe rondo_write_now(descriptor.rawValue, bytes, min(count, Operation.transferLimit), kind.number)
    }

    package func closeNow(_ descriptor: Descriptor) {
        _ = Glibc.close(descriptor.rawValue)  // an error of close leaves nothing that could be done
    }

    package var closeReceived: @Sendable (Descriptor) -> Void { { _ = Glibc.close($0.rawValue) } }

    package var socketFiles: any SocketFiles { KernelSocketFiles() }
}

/// The family of a socket; −1 if it can't be had.
func domain(of socket: Int32) -> Int32 {
    var domain: Int32 = -1
    var length = socklen_t(MemoryLayout<Int32>.size)
    // SAFETY: the value has the stated length.
    return unsafe getsockopt(socket, SOL_SOCKET, SO_DOMAIN, &domain, &length) == 0 ? domain : -1
}

extension StreamKind {
    fileprivate var number: Int32 {
        switch self {
        case .nonBlocking: Int32(RONDO_KIND_NONBLOCKING.rawValue)
        case .shared: Int32(RONDO_KIND_SHARED.rawValue)
        case .socket: Int32(RONDO_KIND_SOCKET.rawValue)
        case .file: crash("files are read and written by operations")
        }
    }
}

extension DirectoryListing {
    /// Fills in the names in the directory at `path`; a blocking call for the offload pool.
    ///
    /// - Returns: 0, or a negated errno.
    func readAll(_ path: UnsafePointer<CChar>) -> Int32 {
        guard let directory = unsafe opendir(path) else { return -errno }
        // SAFETY: `directory` is open until closedir; an entry is valid until the next readdir, and is copied.
        defer { unsafe closedir(directory) }
        while true {
            errno = 0
            guard let entry = unsafe readdir(directory) else { return -errno }
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { unsafe entries.append((name, entry.pointee.d_type)) }
        }
    }
}
