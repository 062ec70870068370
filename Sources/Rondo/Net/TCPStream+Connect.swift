// Connecting to a host, by name or by several addresses.

extension TCPStream {
    /// Connects to a host by name or number: to whichever of its addresses answers first (RFC 8305).
    ///
    /// The addresses are tried in the resolver's order, IPv6 and IPv4 taking turns. The next attempt begins when one
    /// has failed, or when `stagger` has passed without an answer; those before go on. The first connection wins, the
    /// others are given up and closed.
    ///
    /// Cancelling the task gives all attempts up, and does not wait for a resolver that is slow.
    ///
    /// - Parameters:
    ///   - stagger: how long an attempt is given before the next one begins beside it.
    ///   - options: what to set on every socket before it connects.
    /// - Throws: `IOError`: `.unresolved` if the name has no address; the reason if there was one attempt; else
    ///   `.attempts` with all of them.
    public static func connect(
        to host: String, port: Int, stagger: Duration = .milliseconds(250), options: [TCPOption] = []
    ) async throws(IOError) -> TCPStream {
        let loop = EventLoop.required(for: "TCPStream.connect")
        var race = ConnectRace(
            try await resolve(host, port: port), stagger: stagger, options: options, loop: loop)
        return try await race.run(name: "\(host):\(port)")
    }

    /// Connects to whichever of some addresses answers first, for programs with a resolver of their own.
    ///
    /// As ``connect(to:port:stagger:options:)``.
    public static func connect(
        toFirstOf addresses: [SocketAddress], stagger: Duration = .milliseconds(250), options: [TCPOption] = []
    ) async throws(IOError) -> TCPStream {
        let loop = EventLoop.required(for: "TCPStream.connect")
        var race = ConnectRace(addresses, stagger: stagger, options: options, loop: loop)
        return try await race.run(name: addresses.map(\.description).joined(separator: ", "))
    }
}
