// Tasks that share a pool of connections and look up one account each, as `pgbench -S -M prepared` does:
//
//     postgres-select "host=/tmp port=5432 user=postgres" TASKS CONNECTIONS SECONDS SCALE [PIPELINE-DEPTH]
//
// It prints how many look-ups a second they made. Benchmarks/postgres runs it beside pgbench.

#if PostgreSQL
import Rondo
import RondoDatabase

@main
struct PostgresSelect: RondoProgram {
    func run() async throws {
        let arguments = CommandLine.arguments
        guard (6...7).contains(arguments.count), let tasks = Int(arguments[2]), let connections = Int(arguments[3]),
            let seconds = Double(arguments[4]), let scale = Int(arguments[5]),
            let depth = Int(arguments.count == 7 ? arguments[6] : "1")
        else { fatalError("usage: postgres-select CONNECTION-STRING TASKS CONNECTIONS SECONDS SCALE [PIPELINE-DEPTH]") }
        var configuration = PostgresPool.Configuration()
        configuration.size = connections
        configuration.pipelineDepth = depth
        let pool = PostgresPool(PostgresConfiguration(arguments[1]), configuration)
        // All connections, and the statement prepared on each of them, before the time begins.
        _ = try await lookUps(tasks: connections * 8, in: pool, scale: scale, for: .milliseconds(200))
        let begin = ContinuousClock.now
        let count = try await lookUps(tasks: tasks, in: pool, scale: scale, for: .seconds(seconds))
        let time = begin.duration(to: .now) / .seconds(1)
        print("\(Int(Double(count) / time)) look-ups/s, \(await pool.statistics.open) connections")
        await pool.close()
    }

    private func lookUps(tasks: Int, in pool: PostgresPool, scale: Int, for time: Duration) async throws -> Int {
        let end = ContinuousClock.now + time
        return try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<tasks {
                group.addTask {
                    var count = 0
                    // As pgbench: the system's generator is a system call each time.
                    var random = Lottery(state: .random(in: 1 ... .max))
                    while ContinuousClock.now < end {
                        let account = Int.random(in: 1...(100_000 * scale), using: &random)
                        let rows = try await pool.query(
                            "SELECT abalance FROM pgbench_accounts WHERE aid = \(account)")
                        guard rows.count == 1, try rows[0][0, as: Int.self] == 0 else {
                            fatalError("account \(account) has \(rows)")
                        }
                        count += 1
                    }
                    return count
                }
            }
            return try await group.reduce(0, +)
        }
    }
}

/// Marsaglia's xorshift64 (“Xorshift RNGs”, 2003).
private struct Lottery: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state ^= state << 13
        state ^= state >> 7
        state ^= state << 17
        return state
    }
}
#else
@main
struct PostgresSelect {
    static func main() { print("this benchmark is built with --traits PostgreSQL: see Benchmarks/postgres") }
}
#endif
