// What this machine lets tests do. Where something is missing, the tests that need it are left out.

import Glibc

@testable import Rondo

enum Machine {
    /// What io_uring can do here; nil if it is denied, as in most containers, or if a loop's ring is too large for it.
    static let uringFeatures: UringFeatures? = {
        do {
            let choice = try DriverChoice.make(forced: .uring)
            let pool = OffloadPool(threadLimit: 1)
            try choice.makeDriver(offload: pool).close()
            return choice.features
        } catch {
            print("Tests on io_uring are left out:", error)
            return nil
        }
    }()

    /// The loopback address of each family that there is, any port.
    static let loopbacks: [SocketAddress] = hasIPv6 ? [.loopback(port: 0), .loopback6(port: 0)] : [.loopback(port: 0)]

    /// Whether there is IPv6: some containers have none.
    static let hasIPv6: Bool = {
        let socket = socket(AF_INET6, Int32(SOCK_STREAM.rawValue), 0)
        defer { close(socket) }
        // SAFETY: the address is only lent for the call.
        return unsafe SocketAddress.loopback6(port: 0).withSockaddr { unsafe bind(socket, $0, $1) } == 0
    }()
}
