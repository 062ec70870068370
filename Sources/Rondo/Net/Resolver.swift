// Names to addresses, by the system's own resolver: it knows /etc/hosts, search domains and whatever else is set up.
// It may block, so it runs in the offload pool.

import Glibc

/// The addresses of a host, in the order in which the system wants them tried.
///
/// - Parameter host: a name or a numeric address.
/// - Throws: `IOError`: `.unresolved` with the resolver's words.
public func resolve(_ host: String, port: Int) async throws(IOError) -> [SocketAddress] {
    guard (0...65_535).contains(port) else {
        throw IOError("resolve", "\(host):\(port)", .invalid("\(port) is no port: use 0 to 65535"))
    }
    if let address = SocketAddress(host, port: port) { return [address] }
    let answer: (code: Int32, addresses: [SocketAddress])
    do {
        answer = try await offload { lookUp(host, port: port) }
    } catch {
        throw IOError("resolve", host, .cancelled)
    }
    // SAFETY: gai_strerror answers a constant string.
    if answer.code != 0 || answer.addresses.isEmpty {
        let words = answer.code == 0 ? "it has no internet address" : unsafe String(cString: gai_strerror(answer.code))
        throw IOError("resolve", host, .unresolved(words))
    }
    return answer.addresses
}

private func lookUp(_ host: String, port: Int) -> (code: Int32, addresses: [SocketAddress]) {
    var hints = unsafe addrinfo()
    unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
    unsafe hints.ai_flags = AI_ADDRCONFIG
    var list: UnsafeMutablePointer<addrinfo>?
    // SAFETY: the list is getaddrinfo's until it is freed below; addresses are copied out of it.
    let code = unsafe getaddrinfo(host, nil, &hints, &list)
    guard code == 0 else { return (code, []) }
    defer { unsafe freeaddrinfo(list) }
    var addresses: [SocketAddress] = []
    var next = unsafe list
    while let entry = unsafe next {
        if let pointer = unsafe entry.pointee.ai_addr,
            var address = unsafe SocketAddress(pointer, length: entry.pointee.ai_addrlen)
        {
            address.port = port
            if !addresses.contains(address) { addresses.append(address) }
        }
        unsafe next = entry.pointee.ai_next
    }
    return (0, addresses)
}
