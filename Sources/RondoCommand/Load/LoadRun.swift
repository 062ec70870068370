// One call of `rondo load`: how long, how fast, and what ends it. Everything is on one loop, so nothing is shared
// between threads.

import Rondo

/// Connections that ask again and again, and what came of it.
@MainActor
final class LoadRun {
    let target: LoadTarget
    let options: LoadOptions
    /// For `https://`.
    let tls: LoadTLS?
    /// When the first request was due: the host's name had been looked up by then.
    private(set) var start = ContinuousClock.now
    /// When the load has ended.
    private(set) var end: ContinuousClock.Instant?
    var result = LoadResult()
    private let addresses: [SocketAddress]
    private var connections: [LoadConnection] = []
    /// How many requests of an open loop were taken up so far: the next is due at this many times the period.
    private var taken = 0
    private lazy var display = LoadDisplay(self)

    init(_ target: LoadTarget, _ options: LoadOptions) async throws {
        self.target = target
        self.options = options
        tls = target.isSecure ? try LoadTLS(host: target.host, isInsecure: options.isInsecure) : nil
        addresses = try await resolve(target.host, port: target.port)
    }

    /// Runs the load.
    ///
    /// - Returns: the exit status.
    func run() async -> Int32 {
        display.begin()
        start = .now
        connections = (0..<options.connections).map { LoadConnection(self, addresses[$0 % addresses.count]) }
        let work = Task { await self.work() }
        let timer = Task {
            guard case .some = try? await Task.sleep(for: options.duration) else { return }
            stop(work)
        }
        let signals = try? Signals.of(.interrupt, .terminate)
        let listening = Task {
            guard let signals else { return }
            for await _ in signals { stop(work) }
        }
        let drawing = Task { await display.draw() }
        await work.value
        for task in [timer, listening, drawing] { task.cancel() }
        display.end()
        let seconds = start.duration(to: end ?? .now) / .seconds(1)
        let report = LoadReport(url: target.url, options: options, result: result, seconds: seconds)
        Terminal.output.say(options.isJSON ? report.json : report.text)
        return result.failures.isEmpty && result.answers > 0 ? 0 : 1
    }

    private func work() async {
        await withDiscardingTaskGroup { group in
            for connection in connections { group.addTask { await connection.keepAsking() } }
        }
    }

    /// The load ends now; what has no answer gets none any more, and is counted as that.
    private func stop(_ work: Task<Void, Never>) {
        guard end == nil else { return }
        let now = ContinuousClock.now
        end = now
        let waiting = connections.compactMap(\.waitsSince)
        result.unanswered = waiting.count
        result.longestWait = waiting.min()?.duration(to: now).nanoseconds ?? 0
        if let rate = options.rate {
            // Those that are not due yet have been taken up by connections that sleep until then.
            result.unsent = max(0, Int(start.duration(to: now) / .seconds(1) * rate) - taken)
        }
        work.cancel()
    }

    /// Waits until the next request is due: not at all, or as the rate says.
    ///
    /// - Returns: when it was due. Its time counts from then, whenever a connection was free for it.
    func nextRequest() async throws -> ContinuousClock.Instant {
        guard let rate = options.rate else { return .now }
        let due = start + .seconds(Double(taken) / rate)
        taken += 1
        if due > .now { try await Task.sleep(until: due, clock: .continuous) }
        return due
    }
}
