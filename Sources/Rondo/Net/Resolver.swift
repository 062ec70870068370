// Names to addresses. The driver knows the resolver: the system's own, or a simulation's table. It may block, so it
// runs in the offload pool.

/// The addresses of a host, in the order in which the system wants them tried.
///
/// If the task is cancelled this throws at once; the resolver's call then ends without anybody waiting for it, and
/// keeps a thread of the offload pool until it does.
///
/// - Parameter host: a name or a numeric address.
/// - Throws: `IOError`: `.unresolved` with the resolver's words.
public func resolve(_ host: String, port: Int) async throws(IOError) -> [SocketAddress] {
    guard (0...65_535).contains(port) else {
        throw IOError("resolve", "\(host):\(port)", .invalid("\(port) is no port: use 0 to 65535"))
    }
    if let address = SocketAddress(host, port: port) { return [address] }
    let answer: HostAnswer
    if let loop = EventLoop.current {
        let query = HostQuery(host, loop: loop)
        guard let found = await loop.onLoop({ await query.run() }) else { throw IOError("resolve", host, .cancelled) }
        answer = found
    } else {
        answer = askSystemResolver(host)
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

/// A question to the resolver, which its asker may leave before there is an answer. It belongs to the loop's thread.
private final class HostQuery: WaitingSink, @unchecked Sendable {
    // SAFETY: as WaitingSink.

    private let host: String
    private var answer: HostAnswer?

    init(_ host: String, loop: EventLoop) {
        self.host = host
        super.init(Descriptor(rawValue: -1), loop: loop)
    }

    override var hasNewsAlready: Bool { answer != nil }

    /// Asks, and waits for the answer; nil if the task was cancelled.
    func run() async -> HostAnswer? {
        if loop.isShuttingDown { return nil }
        let (host, lookUp) = (host, loop.driver.lookUpHost)
        _ = loop.startTask { [self] in
            answer = try? await offload { lookUp(host) }
            wake()
        }
        return await waitForNews() ? answer : nil
    }
}
