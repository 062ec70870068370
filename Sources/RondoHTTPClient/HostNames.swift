// Names are looked up by Rondo's resolver, in the offload pool, before libcurl needs them: libcurl would start a thread
// for each look-up.

import Rondo

/// Addresses that were looked up a short while ago, and look-ups under way. It belongs to the client's actor.
final class HostNames {
    private static let lifetime: Duration = .seconds(60)
    private static let capacity = 1024

    private struct Entry {
        var addresses: [String]
        var end: ContinuousClock.Instant
    }

    private var entries: [String: Entry] = [:]

    /// What libcurl is to be told of a host; nil for a host that is an address already.
    func cached(_ host: String, port: Int) -> String?? {
        if SocketAddress(host, port: port) != nil { return .some(nil) }
        guard let entry = entries[host], entry.end > .now else { return nil }
        return Self.line(host, port, entry.addresses)
    }

    /// Notes addresses.
    func note(_ host: String, port: Int, _ found: [SocketAddress]) -> String {
        if entries.count >= Self.capacity { entries.removeAll() }
        let addresses = found.map { $0.family == .ipv6 ? "[\($0.host)]" : $0.host }
        entries[host] = Entry(addresses: addresses, end: .now + Self.lifetime)
        return Self.line(host, port, addresses)
    }

    /// A connection to it failed: the next request looks anew.
    func forget(_ host: String) { entries[host] = nil }

    private static func line(_ host: String, _ port: Int, _ addresses: [String]) -> String {
        "+\(host):\(port):\(addresses.joined(separator: ","))"
    }
}

/// The requests to one host that may be under way at once, and those that wait.
final class HostPermits: Sendable {
    let origin: String
    let semaphore: AsyncSemaphore

    init(_ origin: String, permits: Int) {
        self.origin = origin
        semaphore = AsyncSemaphore(permits: permits)
    }
}
