// `rondo demo --top`: orders that never end, and `rondo top` to watch them. The demo is asked what its tasks do like
// any other program: by another process.

import Glibc
import Rondo

/// Places orders as long as somebody watches.
final class DemoTop: Sendable {
    private let orders: [Order]
    private let customer: Customer
    private let tally = AsyncMutex(Tally())
    private let isOver = AsyncEvent()

    /// How the orders went. There may be millions, so what is kept does not grow.
    struct Tally: Sendable {
        var verified = 0
        var bytesVerified = 0
        var failed = 0
        /// The first of them, in words.
        var failures: [String] = []
        var seconds = 0.0

        mutating func add(_ outcome: OrderOutcome) {
            guard let failure = outcome.failure else {
                verified += 1
                bytesVerified += outcome.order.file.size
                return
            }
            failed += 1
            if failures.count < 10 {
                failures.append("order \(outcome.order.number) (\(outcome.order.file.path)): \(failure)")
            }
        }

        var text: String {
            let rate = seconds > 0 ? Int((Double(verified) / seconds).rounded()) : 0
            let head =
                "\(verified.grouped) orders, \(bytesVerified.grouped) bytes verified, \(rate.grouped) orders a second"
            let more = failed > failures.count ? ["and \((failed - failures.count).grouped) more failed"] : []
            return ([head] + failures.map { "failed: \($0)" } + more).joined(separator: "\n") + "\n"
        }
    }

    init(_ orders: [Order], _ customer: Customer) {
        self.orders = orders
        self.customer = customer
    }

    static func requireTerminal() throws {
        guard isatty(STDIN_FILENO) == 1, isatty(STDOUT_FILENO) == 1 else {
            throw CommandFailure("rondo demo --top needs a terminal: leave --top out, or use `rondo ps` on the demo")
        }
    }

    /// Runs until the watcher leaves.
    func run() async throws -> Tally {
        let start = ContinuousClock.now
        let top = try await ChildProcess.start(
            ChildProcess.Command("/proc/self/exe", ["top", "\(getpid())", "--delay", "0.5"]))
        try await withThrowingDiscardingTaskGroup { group in
            for order in orders {
                group.addTask(name: "customer \(order.number)") { try await self.orderAgainAndAgain(order) }
            }
            let status = try await top.waitUntilExit()
            isOver.set()
            if !status.isSuccess { throw CommandFailure("rondo top \(status)") }
        }
        return try await tally.withLock { tally in
            tally.seconds = Double(start.duration(to: .now).nanosecondsRoundedUp) / 1e9
            return tally
        }
    }

    private func orderAgainAndAgain(_ order: Order) async throws {
        while !isOver.isSet {
            let outcome = await customer.place(order)
            try await tally.withLock { $0.add(outcome) }
        }
    }
}
