// Connecting to whichever address of a host answers first (RFC 8305, "Happy Eyeballs"): a host with a broken IPv6 path
// must not make its users wait for a timeout.

/// Attempts to connect, begun one after the other, of which the first that succeeds wins.
struct ConnectRace {
    private enum Event: Sendable {
        case connected(TCPStream)
        case failed(Int, IOError)
        /// So many attempts had been begun when this time was up.
        case timeIsUp(Int)
    }

    private let addresses: [SocketAddress]
    private let stagger: Duration
    private let options: [TCPOption]
    private let loop: EventLoop

    private var begun = 0
    private var running = 0
    private var failures: [Int: IOError] = [:]
    private var winner: TCPStream?

    init(_ addresses: [SocketAddress], stagger: Duration, options: [TCPOption], loop: EventLoop) {
        self.addresses = Self.interleaved(addresses)
        self.stagger = stagger
        self.options = options
        self.loop = loop
    }

    /// The same addresses, with the families taking turns; the first one stays first.
    static func interleaved(_ addresses: [SocketAddress]) -> [SocketAddress] {
        guard let family = addresses.first?.family else { return [] }
        let same = addresses.filter { $0.family == family }
        let others = addresses.filter { $0.family != family }
        var all: [SocketAddress] = []
        for index in 0..<max(same.count, others.count) {
            if index < same.count { all.append(same[index]) }
            if index < others.count { all.append(others[index]) }
        }
        return all
    }

    /// Connects. Every attempt has ended when this returns, and but for the winner's every socket is closed.
    ///
    /// - Parameter name: what errors call the host.
    mutating func run(name: String) async throws(IOError) -> TCPStream {
        if addresses.isEmpty { throw IOError("connect to", name, .unresolved("it has no internet address")) }
        var race = self
        await withTaskGroup(of: Event.self) { group in
            race.beginNext(&group)
            while let event = await group.next() { await race.handle(event, &group) }
        }
        if let winner = race.winner { return winner }
        let errors = race.failures.sorted { $0.key < $1.key }.map(\.value)
        if errors.contains(where: \.isCancellation) { throw IOError("connect to", name, .cancelled) }
        if errors.count == 1 { throw errors[0] }
        throw IOError("connect to", name, .attempts(errors))
    }

    private mutating func handle(_ event: Event, _ group: inout TaskGroup<Event>) async {
        switch event {
        case .connected(let stream):
            running -= 1
            if winner == nil {
                winner = stream
                group.cancelAll()
            } else {
                await stream.close()  // a photo finish
            }
        case .failed(let number, let error):
            running -= 1
            failures[number] = error
            // A refusal need not be waited for.
            if winner == nil, !error.isCancellation { beginNext(&group) }
            if running == 0 { group.cancelAll() }
        case .timeIsUp(let number):
            if winner == nil, number == begun, !group.isCancelled { beginNext(&group) }
        }
    }

    private mutating func beginNext(_ group: inout TaskGroup<Event>) {
        guard begun < addresses.count else { return }
        let number = begun
        let (address, options, stagger) = (addresses[number], options, stagger)
        begun += 1
        running += 1
        group.addTask(executorPreference: loop.preferenceForChildren) {
            do throws(IOError) {
                return .connected(try await TCPStream.connect(to: address, options: options))
            } catch {
                return .failed(number, error)
            }
        }
        guard begun < addresses.count else { return }
        group.addTask(executorPreference: loop.preferenceForChildren) {
            try? await Task.sleep(for: stagger)
            return .timeIsUp(number + 1)
        }
    }
}
