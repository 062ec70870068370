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

    package func openSocket(for address: SocketAddress) throws(Errno) -> Descriptor {
        let kind = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_CLOEXEC.rawValue) | socketFlags
        let descriptor = Descriptor(rawValue: try systemCall { socket(address.domain, kind, 0) })
        do {
            // Small answers must not wait for the acknowledgement of the ones before.
            try setOption(.noDelay, of: descriptor, to: [1])
        } catch {
            closeNow(descriptor)
            throw error
        }
        return descriptor
    }

    package func listen(_ socket: Descriptor, on address: SocketAddress, backlog: Int32) throws(Errno) {
        try setOption(.reuseAddress, of: socket, to: [1])
        // SAFETY: the address outlives the call, here and in the calls below.
        try systemCall { unsafe address.withSockaddr { unsafe bind(socket.rawValue, $0, $1) } }
        try systemCall { Glibc.listen(socket.rawValue, backlog) }
    }

    package func localAddress(of socket: Descriptor) throws(Errno) -> SocketAddress {
        unsafe try SocketAddress.read { unsafe getsockname(socket.rawValue, $0, $1) }
    }

    package func peerAddress(of socket: Descriptor) throws(Errno) -> SocketAddress {
        unsafe try SocketAddress.read { unsafe getpeername(socket.rawValue, $0, $1) }
    }

    package func closeNow(_ descriptor: Descriptor) {
        _ = Glibc.close(descriptor.rawValue)  // an error of close leaves nothing that could be done
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
