// What the loop's own mechanics cost, in nanoseconds of CPU: yields, ping-pong, spawning, sleeping by the million.
//
//     swift run -c release --package-path Benchmarks --static-swift-stdlib loop-costs [--json]
//
// Each figure is the minimum of several rounds of the thread's CPU time: this is about the loop's own part, and the
// minimum is what a noisy neighbour disturbs least. Memory is what the process
// has resident more than before.

import Glibc
import Rondo

func cpuNanoseconds() -> UInt64 {
    var time = timespec()
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
    return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
}

func residentBytes() -> Int {
    guard let file = fopen("/proc/self/statm", "r") else { return 0 }
    defer { fclose(file) }
    var total = 0
    var resident = 0
    withUnsafeMutablePointer(to: &total) { total in
        withUnsafeMutablePointer(to: &resident) { resident in
            _ = withVaList([total, resident]) { vfscanf(file, "%ld %ld", $0) }
        }
    }
    return resident * 4096
}

/// Two tasks hand one token to and fro: each waits, and resumes the other.
final class PingPong: @unchecked Sendable {
    // SAFETY: both tasks run on the loop's thread.
    private var waiting: UnsafeContinuation<Void, Never>?

    func play(rounds: Int) async {
        for _ in 0..<rounds {
            await withUnsafeContinuation { continuation in
                let other = waiting
                waiting = continuation
                other?.resume()
            }
        }
        waiting?.resume()
        waiting = nil
    }
}

/// Waits for a number of tasks.
final class Arrivals: @unchecked Sendable {
    // SAFETY: all tasks run on the loop's thread.
    private var missing: Int
    private var waiting: UnsafeContinuation<Void, Never>?

    init(_ count: Int) { missing = count }

    func arrive() {
        missing -= 1
        if missing == 0 { waiting?.resume() }
    }

    func wait() async {
        if missing > 0 { await withUnsafeContinuation { waiting = $0 } }
    }
}

struct SplitMix64: RandomNumberGenerator {
    var state: UInt64
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var z = state
        z = (z ^ (z >> 30)) &* 0xbf58_476d_1ce4_e5b9
        z = (z ^ (z >> 27)) &* 0x94d0_49bb_1331_11eb
        return z ^ (z >> 31)
    }
}

@main
struct LoopCosts: RondoProgram {
    func run() async throws {
        let only = CommandLine.arguments.dropFirst().first ?? ""
        let count = 1_000_000
        func measure(_ name: String, _ operations: Int, rounds: Int = 9, _ body: () async -> Void) async {
            if !only.isEmpty, !name.contains(only) { return }
            var best = UInt64.max
            for _ in 0..<rounds {
                let start = cpuNanoseconds()
                await body()
                best = min(best, cpuNanoseconds() - start)
            }
            print("\(name): \(Double(best * 10 / UInt64(operations)) / 10) ns")
        }
        await measure("own yield, one task", count) { for _ in 0..<count { await EventLoop.yield() } }
        await measure("own yield, 1,000 tasks", count) {
            await withDiscardingTaskGroup { group in
                for _ in 0..<1000 { group.addTask { for _ in 0..<count / 1000 { await EventLoop.yield() } } }
            }
        }
        await measure("ping-pong between two tasks", count) {
            let game = PingPong()
            async let one: Void = game.play(rounds: count)
            async let other: Void = game.play(rounds: count)
            _ = await (one, other)
        }
        await measure("Task.yield", count) { for _ in 0..<count { await Task.yield() } }
        await measure("spawn and join a task", count / 4) {
            for _ in 0..<count / 4 { await Task {}.value }
        }
        await synchronisation(count, measure)
        if only.isEmpty || "sleepers".contains(only) { await sleepers(1_000_000) }
    }

    /// What tasks pay for waiting on one another, and for not having to.
    func synchronisation(_ count: Int, _ measure: (String, Int, Int, () async -> Void) async -> Void) async {
        let semaphore = AsyncSemaphore(permits: 1)
        await measure("semaphore, acquire and release a free permit", count, 9) {
            for _ in 0..<count {
                try? await semaphore.acquire()
                semaphore.release()
            }
        }
        let mutex = AsyncMutex(0)
        await measure("mutex, lock and unlock", count, 9) {
            for _ in 0..<count { try? await mutex.withLock { $0 += 1 } }
        }
        await measure("semaphore, hand-over between two tasks", count, 9) {
            async let one: Void = yieldWithPermits(of: semaphore, count / 2)
            async let other: Void = yieldWithPermits(of: semaphore, count / 2)
            _ = await (one, other)
        }
        let buffer = BoundedChannel<Int>(capacity: 16)
        await measure("channel, send and receive what has room", count, 9) {
            for number in 0..<count {
                try? await buffer.send(number)
                _ = try? await buffer.receive()
            }
        }
        let (there, back) = (BoundedChannel<Int>(capacity: 1), BoundedChannel<Int>(capacity: 1))
        await measure("channel, round trip between two tasks", count, 9) {
            async let echo: Void = echo(count, from: there, to: back)
            for number in 0..<count {
                try? await there.send(number)
                _ = try? await back.receive()
            }
            await echo
        }
    }

    func yieldWithPermits(of semaphore: AsyncSemaphore, _ count: Int) async {
        for _ in 0..<count {
            try? await semaphore.acquire()
            await EventLoop.yield()
            semaphore.release()
        }
    }

    func echo(_ count: Int, from: BoundedChannel<Int>, to: BoundedChannel<Int>) async {
        for _ in 0..<count {
            if let number = try? await from.receive() { try? await to.send(number) }
        }
    }

    /// Tasks that each sleep once, for a random time below a second.
    func sleepers(_ count: Int) async {
        for round in 0..<3 {
            var random = SplitMix64(state: UInt64(round))
            let delays = (0..<count).map { _ in Duration.nanoseconds(Int64(random.next() % 1_000_000_000)) }
            let before = residentBytes()
            let start = cpuNanoseconds()
            // Not a task group: it walks a list of all its children whenever one ends (docs/decisions/0002).
            let arrivals = Arrivals(count)
            for delay in delays {
                Task {
                    try? await Task.sleep(for: delay)
                    arrivals.arrive()
                }
            }
            await EventLoop.yield()
            let peak = residentBytes()
            await arrivals.wait()
            let cpu = cpuNanoseconds() - start
            print(
                "\(count) tasks that sleep: \(Double(cpu / UInt64(count / 100)) / 100) ns of CPU each, "
                    + "\((peak - before) / count) bytes each")
        }
    }
}
