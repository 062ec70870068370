// Names to addresses. The driver knows the resolver: the system's own, or a simulation's table. It may block, so it runs
// in the offload pool.

/// The addresses of a host, in the order in which the system wants them tried.
///
/// If the task is cancelled while the resolver works, this throws when the resolver has answered.
///
/// - Parameter host: a name or a numeric address.
/// - Throws: `IOError`: `.unresolved` with the resolver's words.
public func resolve(_ host: String, port: Int) async throws(IOError) -> [SocketAddress] {
    guard (0...65_535).contains(port) else {
        throw IOError("resolve", "\(host):\(port)", .invalid("\(port) is no port: use 0 to 65535"))
    }
    if let address = SocketAddress(host, port: port) { return [address] }
    let lookUp = EventLoop.current?.driver.lookUpHost ?? { askSystemResolver($0) }
    let answer: HostAnswer
    do {
        answer = try await offload { lookUp(host) }
    } catch {
        throw IOError("resolve", host, .cancelled)
    }
    if answer.addresses.isEmpty {
        throw IOError("resolve", host, .unresolved(answer.failure ?? "it has no internet address"))
    }
    return answer.addresses.map { address in
        var address = address
        address.port = port
        return address
    }
}
