// Counts that must not grow: allocations and system calls in steady state. Counts do not depend on how busy the machine
// is, so they are thresholds (Thresholds/counts.txt), and CI checks them.
//
//     swift run -c release --package-path Benchmarks counts [THRESHOLDS]

import AllocationCounter
import Glibc
import Rondo

/// What is measured: a name and a number that must not exceed its threshold.
struct Count {
    var name: String
    var value: Double
}

@main
struct Counts: RondoProgram {
    func run() async throws {
        let loop = EventLoop.current!
        var counts: [Count] = []
        counts += try await echo(loop, connections: 50, rounds: 400)
        counts += try await yields(loop)
        counts += try await sleeps(loop)
        counts += try await synchronisation(loop)
        print("driver: \(loop.driverName) (\(loop.driverReason))")
        guard let path = CommandLine.arguments.dropFirst().first else {
            for count in counts { print("\(count.name) \(count.value)") }
            return
        }
        try check(counts, against: try await thresholds(path))
    }

    /// Echo round trips over 50 connections, client and server on this loop.
    func echo(_ loop: EventLoop, connections: Int, rounds: Int) async throws -> [Count] {
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        let server = Task {
            try await listener.serve { stream in
                while let chunk = try await stream.read() { try await stream.write(chunk) }
            }
        }
        var streams: [TCPStream] = []
        for _ in 0..<connections { streams.append(try await TCPStream.connect(to: listener.localAddress)) }
        let message = [UInt8](repeating: 7, count: 64)
        /// All connections at once, `rounds` round trips each.
        func play(_ rounds: Int) async throws {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for stream in streams {
                    group.addTask {
                        for _ in 0..<rounds {
                            try await stream.write(message.span.bytes)
                            var missing = message.count
                            while missing > 0, let chunk = try await stream.read() { missing -= chunk.count }
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
        try await play(20)  // tables and queues reach their size
        // Twice as many rounds with the same tasks: what the tasks themselves allocate cancels out.
        let short = try await measured(loop) { try await play(rounds) }
        let long = try await measured(loop) { try await play(2 * rounds) }
        server.cancel()
        _ = try? await server.value
        await listener.close()
        for stream in streams { await stream.close() }
        let roundTrips = Double(connections * rounds)
        let turns = Double(long.turns - short.turns)
        return [
            Count(
                name: "echo.allocationsPerRoundTrip",
                value: (Double(long.allocations) - Double(short.allocations)) / roundTrips),
            Count(name: "echo.systemCallsPerTurn", value: Double(long.systemCalls - short.systemCalls) / turns),
            Count(name: "echo.jobsPerRoundTrip", value: Double(long.jobs - short.jobs) / roundTrips),
        ]
    }

    func yields(_ loop: EventLoop) async throws -> [Count] {
        let count = 100_000
        let used = try await measured(loop) { for _ in 0..<count { await EventLoop.yield() } }
        return [
            Count(name: "yield.allocations", value: Double(used.allocations) / Double(count)),
            Count(name: "yield.systemCalls", value: Double(used.systemCalls) / Double(count)),
        ]
    }

    /// Sleeps that are cancelled at once leave nothing behind.
    func sleeps(_ loop: EventLoop) async throws -> [Count] {
        for _ in 0..<10_000 {
            let sleeper = Task { try await Task.sleep(for: .seconds(3600)) }
            await EventLoop.yield()
            sleeper.cancel()
            _ = try? await sleeper.value
        }
        return [Count(name: "sleep.timersLeftAfterCancel", value: Double(await loop.statistics.timers))]
    }

    /// Values and permits that are there, and round trips between two tasks that wait for one another.
    func synchronisation(_ loop: EventLoop) async throws -> [Count] {
        let count = 100_000
        let (there, back) = (BoundedChannel<Int>(capacity: 1), BoundedChannel<Int>(capacity: 1))
        let echo = Task { for try await number in there { try await back.send(number) } }
        func roundTrips(_ count: Int) async throws {
            for number in 0..<count {
                try await there.send(number)
                _ = try await back.receive()
            }
        }
        try await roundTrips(100)
        let short = try await measured(loop) { try await roundTrips(count) }
        let long = try await measured(loop) { try await roundTrips(2 * count) }
        there.finish()
        try await echo.value
        let (semaphore, mutex) = (AsyncSemaphore(permits: 1), AsyncMutex(0))
        let channel = BoundedChannel<Int>(capacity: 1)
        try await channel.send(0)
        let free = try await measured(loop) {
            for number in 0..<count {
                _ = try await channel.receive()
                try await semaphore.withPermit { try await channel.send(number) }
                try await mutex.withLock { $0 += 1 }
            }
        }
        return [
            Count(
                name: "sync.allocationsPerRoundTrip",
                value: Double(long.allocations) / Double(count) - Double(short.allocations) / Double(count)),
            Count(name: "sync.allocationsUncontended", value: Double(free.allocations) / Double(count)),
        ]
    }

    struct Used {
        var allocations: UInt64
        var systemCalls: UInt64
        var turns: UInt64
        var jobs: UInt64
    }

    func measured(_ loop: EventLoop, _ body: () async throws -> Void) async throws -> Used {
        let before = await loop.statistics
        let allocations = allocation_count()
        try await body()
        let allocated = allocation_count() - allocations
        let after = await loop.statistics
        return Used(
            allocations: allocated, systemCalls: after.systemCalls - before.systemCalls,
            turns: after.turns - before.turns, jobs: after.jobs - before.jobs)
    }

    /// Lines of a name and the largest value allowed; `#` begins a comment.
    func thresholds(_ path: String) async throws -> [String: Double] {
        let text = String(decoding: try await File.contents(of: .init(path), limit: 65_536), as: UTF8.self)
        var limits: [String: Double] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            let words = line.split(separator: " ")
            guard words.count == 2, let limit = Double(words[1]) else { throw Failure("\(path): can't read '\(line)'") }
            limits[String(words[0])] = limit
        }
        return limits
    }

    func check(_ counts: [Count], against limits: [String: Double]) throws {
        let hasUring = EventLoop.current?.driverName == "io_uring"
        var failures = 0
        for count in counts {
            guard let limit = limits[count.name] else { throw Failure("no threshold for \(count.name)") }
            if !hasUring, count.name.hasSuffix("systemCallsPerTurn") {
                print("     \(count.name) \(count.value) (the threshold is for io_uring)")
                continue
            }
            let isFine = count.value <= limit
            if !isFine { failures += 1 }
            print("\(isFine ? "ok  " : "OVER") \(count.name) \(count.value) (at most \(limit))")
        }
        if failures > 0 { throw Failure("\(failures) counts are over their thresholds") }
    }
}

struct Failure: Error, CustomStringConvertible {
    var description: String
    init(_ description: String) { self.description = description }
}
