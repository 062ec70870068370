import CRondo
import Glibc
import RondoTesting
import Synchronization
import Testing

@testable import Rondo

@Suite struct SimulationTests {
    // MARK: Time

    @Test func virtualHoursPassInMilliseconds() throws {
        let start = ContinuousClock.now
        let times = try Simulation.run(seed: 1) { simulation in
            let (continuous, suspending) = (ContinuousClock.now, SuspendingClock.now)
            try await Task.sleep(for: .seconds(3600))
            try await Task.sleep(nanoseconds: 5)
            try await Task.sleep(until: .now + .milliseconds(7), clock: .suspending)
            return [simulation.now, continuous.duration(to: .now), suspending.duration(to: .now)]
        }
        let expected = Duration.seconds(3600) + .nanoseconds(5) + .milliseconds(7)
        #expect(times == [expected, expected, expected])
        #expect(start.duration(to: .now) < .seconds(30))
    }

    @Test func timeStandsStillWhileJobsRun() throws {
        try Simulation.run(seed: 1) { simulation in
            let before = ContinuousClock.now
            for _ in 0..<1000 { await EventLoop.yield() }
            try #require(ContinuousClock.now == before)
            try #require(simulation.now == .zero)
        }
    }

    @Test func theRealTimeClockHasAFixedEpoch() throws {
        let seconds = try Simulation.run(seed: 1) { _ in
            try await Task.sleep(for: .seconds(99))
            return rondo_clock_nanoseconds(CLOCK_REALTIME) / 1_000_000_000
        }
        #expect(seconds == 1_000_000_100)
        #expect(rondo_clock_nanoseconds(CLOCK_REALTIME) / 1_000_000_000 > 1_600_000_000)
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func sleepsEndByDeadline(seed: UInt64) throws {
        let order = try Simulation.run(seed: seed) { _ in
            var numbers = SeededGenerator(seed: seed)
            let delays = (0..<100).map { _ in Int(numbers.next() % 50) }
            let log = Log<(delay: Int, time: ContinuousClock.Instant)>()
            let start = ContinuousClock.now
            try await withThrowingDiscardingTaskGroup { group in
                for delay in delays {
                    group.addTask {
                        try await Task.sleep(until: start + .milliseconds(delay))
                        log.add((delay, .now))
                    }
                }
            }
            for entry in log.entries { try #require(entry.time == start + .milliseconds(entry.delay)) }
            return log.entries.map(\.delay)
        }
        #expect(order == order.sorted())
    }

    @Test func equalDeadlinesKeepTheirOrderWithoutASeed() throws {
        var options = SimulationOptions()
        options.order = .firstInFirstOut
        #expect(try orderOfEqualSleeps(seed: 7, options) == Array(0..<50))
    }

    @Test func theSeedOrdersEqualDeadlines() throws {
        let orders = try (0..<4 as Range<UInt64>).map { try orderOfEqualSleeps(seed: $0, SimulationOptions()) }
        #expect(Set(orders).count == 4)
        for order in orders { #expect(order.sorted() == Array(0..<50)) }
    }

    private func orderOfEqualSleeps(seed: UInt64, _ options: SimulationOptions) throws -> [Int] {
        try Simulation.run(seed: seed, options: options) { _ in
            let log = Log<Int>()
            try await withThrowingDiscardingTaskGroup { group in
                for number in 0..<50 {
                    group.addTask {
                        try await Task.sleep(for: .seconds(1))
                        log.add(number)
                    }
                }
            }
            return log.entries
        }
    }

    @Test func aCancelledSleepFreesItsTimerAtOnce() throws {
        try Simulation.run(seed: 3) { simulation in
            let loop = EventLoop.current!
            let sleeper = Task(executorPreference: loop.executor) { try await Task.sleep(for: .seconds(1_000_000)) }
            try await Task.sleep(for: .seconds(1))
            try #require(loop.currentStatistics.timers == 1)
            sleeper.cancel()
            let result = await sleeper.result
            #expect(throws: CancellationError.self) { try result.get() }
            try #require(loop.currentStatistics.timers == 0)
            try #require(simulation.now == .seconds(1))
        }
    }

    @Test func thousandsOfCancelledSleepsLeaveNoTimer() throws {
        try Simulation.run(seed: 4) { _ in
            let loop = EventLoop.current!
            await withTaskGroup(of: Void.self) { group in
                for number in 0..<2000 {
                    group.addTask { try? await Task.sleep(for: .seconds(number % 7 + 1000)) }
                }
                try? await Task.sleep(for: .milliseconds(1))
                group.cancelAll()
            }
            try #require(loop.currentStatistics.timers == 0)
        }
    }

    // MARK: The same seed, the same run

    @Test func theSameSeedIsTheSameRun() throws {
        for seed in 0..<10 as Range<UInt64> {
            let (first, second) = (try program(seed: seed), try program(seed: seed))
            #expect(first.digest == second.digest)
            #expect(first.trace == second.trace)
            #expect(first.stepCount > 100)
        }
    }

    @Test func otherSeedsAreOtherRuns() throws {
        let digests = try (0..<50 as Range<UInt64>).map { try program(seed: $0).digest }
        #expect(Set(digests).count == digests.count)
    }

    private func program(seed: UInt64) throws -> Simulation {
        var options = SimulationOptions()
        options.keepsTrace = true
        return try Simulation.run(seed: seed, options: options) { simulation in
            try await Echo.run(clients: 3, bytes: 3000)
            return simulation
        }
    }

    /// Another process has other addresses and other hash seeds.
    @Test func anotherProcessRunsTheSame() async throws {
        let digests = try (0..<5 as Range<UInt64>).map { try program(seed: $0).digest }
        await #expect(processExitsWith: .success) { [digests = digests as [UInt64]] in
            let here = try (0..<5 as Range<UInt64>).map { try SimulationTests().program(seed: $0).digest }
            require(here == digests, "another process came to \(here) instead of \(digests)")
        }
    }

    @Test func replayIsVerified() throws {
        try Simulation.verifyReplay(seed: 11) { _ in try await Echo.run(clients: 2, bytes: 500) }
        let runs = Lock(0)
        let failure = #expect(throws: SimulationFailure.self) {
            try Simulation.verifyReplay(seed: 11) { _ in
                let run = runs.withLock { runs in
                    runs += 1
                    return runs
                }
                for _ in 0..<run { try await Task.sleep(for: .seconds(1)) }
            }
        }
        let text = try #require(failure).description
        #expect(text.contains("two runs with this seed differ: step"))
    }

    @Test func theGeneratorIsSplitMix64() {
        var numbers = SeededGenerator(seed: 1_234_567)
        #expect(numbers.next() == 6_457_827_717_110_365_317)
        #expect(numbers.next() == 3_203_168_211_198_807_973)
    }

    // MARK: Swift's concurrency

    @Test func groupsAsyncLetActorsAndStreamsStayInside() throws {
        try Simulation.run(seed: 5) { simulation in
            let loop = EventLoop.current!
            let thread = pthread_self()
            let counter = PinnedCounter(loop)
            async let early: Int = {
                try await Task.sleep(for: .seconds(1))
                return await counter.add(1)
            }()
            async let late: Int = {
                try await Task.sleep(for: .seconds(2))
                return await counter.add(10)
            }()
            let sum = try await withThrowingTaskGroup(of: Int.self) { group in
                for number in 1...10 {
                    group.addTask {
                        try await Task.sleep(for: .milliseconds(number))
                        require(pthread_self() == thread, "a child task left the simulation")
                        return number
                    }
                }
                return try await group.reduce(0, +)
            }
            try #require(sum == 55)
            let results = try await [early, late]
            try #require(results == [1, 11])
            let (stream, source) = AsyncStream.makeStream(of: Int.self)
            async let producer: Void = {
                for number in 0..<5 {
                    try? await Task.sleep(for: .seconds(1))
                    source.yield(number)
                }
                source.finish()
            }()
            var received: [Int] = []
            for await number in stream { received.append(number) }
            await producer
            try #require(received == [0, 1, 2, 3, 4])
            try #require(simulation.now == .seconds(7))
            try #require(pthread_self() == thread)
        }
    }

    // MARK: Failures

    @Test func aThrownErrorNamesTheSeed() throws {
        let failure = #expect(throws: SimulationFailure.self) {
            try Simulation.run(seed: 99) { _ in
                try await Task.sleep(for: .seconds(2))
                throw Unlucky(number: 13)
            }
        }
        let text = try #require(failure).description
        #expect(text.contains("seed 99 failed after 2.0 seconds"))
        #expect(text.contains("Unlucky(number: 13)"))
        #expect(text.contains("Simulation.run(seed: 99)"))
        #expect(text.contains("RONDO_SEED=99"))
    }

    @Test func aDeadlockNamesWhatIsPending() throws {
        let failure = #expect(throws: SimulationFailure.self) {
            try Simulation.run(seed: 2) { _ in
                let listener = try Raw.listen(80)
                let (accepts, _) = Raw.accept(listener)
                let (client, _) = try await Raw.connect(80)
                _ = await accepts.next()
                let receiving = Receiving(client)
                _ = await receiving.next()
            }
        }
        let text = try #require(failure).description
        #expect(text.contains("all tasks wait and nothing will ever happen"))
        #expect(text.contains("accept on the listener at 127.0.0.1:80"))
        #expect(text.contains("receive on the connection 127.0.0.1:"))
        #expect(text.contains("seed 2"))
    }

    @Test func aDeadlockWithoutOperationsIsFound() throws {
        let failure = #expect(throws: SimulationFailure.self) {
            try Simulation.run(seed: 2) { simulation in
                try await Task.sleep(for: .seconds(5))
                // Nobody ever yields to the stream.
                let (stream, source) = AsyncStream.makeStream(of: Int.self)
                for await _ in stream {}
                source.finish()
            }
        }
        let text = try #require(failure).description
        #expect(text.contains("no operation is pending"))
        #expect(text.contains("after 5.0 seconds"))
    }

    @Test func whatNeverEndsIsEnded() throws {
        var options = SimulationOptions()
        options.timeLimit = .seconds(100)
        let failure = #expect(throws: SimulationFailure.self) {
            try Simulation.run(seed: 2, options: options) { _ in
                while true { try await Task.sleep(for: .seconds(1)) }
            }
        }
        #expect(try #require(failure).description.contains("did not end within 100.0 seconds of virtual time"))
    }

    @Test func whatSpinsIsEnded() throws {
        var options = SimulationOptions()
        options.stepLimit = 10_000
        let failure = #expect(throws: SimulationFailure.self) {
            try Simulation.run(seed: 2, options: options) { _ in
                while !Task.isCancelled { await EventLoop.yield() }
            }
        }
        #expect(try #require(failure).description.contains("did not end within 10000 steps"))
    }

    @Test func exploringFindsTheFirstFailingSeed() throws {
        let seeds = Log<UInt64>()
        let failure = #expect(throws: SimulationFailure.self) {
            try Simulation.explore(seeds: 0..<100) { simulation in
                seeds.add(simulation.seed)
                let log = Log<Int>()
                await withDiscardingTaskGroup { group in
                    for number in 0..<3 { group.addTask { log.add(number) } }
                }
                if log.entries == [2, 1, 0] { throw Unlucky(number: 210) }
            }
        }
        let seed = try #require(failure).seed
        #expect(seeds.entries == Array(0...seed))
        #expect(seed < 60)
        #expect(throws: SimulationFailure.self) {
            try Simulation.explore(seeds: seed..<seed + 1) { _ in
                let log = Log<Int>()
                await withDiscardingTaskGroup { group in
                    for number in 0..<3 { group.addTask { log.add(number) } }
                }
                if log.entries == [2, 1, 0] { throw Unlucky(number: 210) }
            }
        }
    }

    @Test func twoHundredSeedsOfAServer() throws {
        try Simulation.explore(seeds: 0..<200) { simulation in
            try await Echo.run(clients: 3, bytes: 1000)
            guard simulation.openDescriptors.isEmpty else { throw Unlucky(number: simulation.openDescriptors.count) }
            guard simulation.lentSlices == 0, simulation.network.connectionCount == 0 else { throw Unlucky(number: 0) }
        }
    }

    @Test func theEnvironmentNamesTheSeed() async {
        await #expect(processExitsWith: .success) {
            unsafe setenv("RONDO_SEED", "77", 1)
            let seed = try Simulation.run { simulation in simulation.seed }
            require(seed == 77, "RONDO_SEED was not used")
            let explored = Log<UInt64>()
            try Simulation.explore(seeds: 0..<5) { simulation in explored.add(simulation.seed) }
            require(explored.entries == [77], "RONDO_SEED was not explored")
        }
    }

    @Test func aSimulationInsideAnotherOneIsRefused() async {
        let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
            try Simulation.run(seed: 1) { _ in try Simulation.run(seed: 1) { _ in } }
        }
        let text = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
        #expect(text.contains("a simulation can't run inside another one"))
    }

    // MARK: Other threads

    @Test func aForeignThreadMayResumeATask() throws {
        var options = SimulationOptions()
        options.allowsForeignThreads = true
        let sum = try Simulation.run(seed: 1, options: options) { _ in
            let loop = EventLoop.current!
            var sum = 0
            for number in 1...200 {
                unsafe sum += await withUnsafeContinuation { continuation in
                    ForeignThread.run {
                        // Only when the task waits: ThreadSanitizer does not see how the runtime orders a resumption
                        // that comes before.
                        let waits = TestSemaphore()
                        loop.tell(.perform { waits.post() })
                        waits.wait()
                        unsafe continuation.resume(returning: number)
                    }
                }
            }
            return sum
        }
        #expect(sum == 20_100)
    }

    @Test func simulationsRunSideBySide() async throws {
        await withTaskGroup(of: UInt64.self) { group in
            for _ in 0..<4 {
                group.addTask { @concurrent in
                    (try? Simulation.run(seed: 21) { simulation in
                        try await Echo.run(clients: 2, bytes: 400)
                        return simulation.digest
                    }) ?? 0
                }
            }
            var digests: Set<UInt64> = []
            for await digest in group { digests.insert(digest) }
            #expect(digests.count == 1 && !digests.contains(0))
        }
    }
}

// MARK: Programs

struct Unlucky: Error { var number: Int }

/// What the tasks of one loop note down.
@safe
final class Log<Entry>: @unchecked Sendable {
    // SAFETY: belongs to one loop's thread.
    private(set) var entries: [Entry] = []
    func add(_ entry: Entry) { entries.append(entry) }
}

actor PinnedCounter {
    nonisolated let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
    private var count = 0
    init(_ loop: EventLoop) { self.loop = loop }
    func add(_ number: Int) -> Int {
        count += number
        return count
    }
}

enum ForeignThread {
    /// Runs `body` on a new thread.
    static func run(_ body: @escaping @Sendable () -> Void) {
        var thread = pthread_t()
        let argument = unsafe Unmanaged.passRetained(Body(body)).toOpaque()
        let answer = unsafe pthread_create(
            &thread, nil,
            { argument in
                unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().body()
                return nil
            }, argument)
        require(answer == 0, "no thread: \(answer)")
        pthread_detach(thread)
    }

    private final class Body: Sendable {
        let body: @Sendable () -> Void
        init(_ body: @escaping @Sendable () -> Void) { self.body = body }
    }
}

/// A server that sends back what it receives, and its clients.
enum Echo {
    static func run(clients: Int, bytes: Int) async throws {
        let listener = try Raw.listen(7)
        let (accepts, accepting) = Raw.accept(listener)
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask {
                try await withThrowingDiscardingTaskGroup { connections in
                    for _ in 0..<clients {
                        let socket = await accepts.next().result.descriptor
                        connections.addTask { try await serve(socket) }
                    }
                }
            }
            for number in 0..<clients {
                group.addTask { try await ask(UInt8(number), bytes) }
            }
            try await group.waitForAll()
        }
        Raw.loop.cancel(accepting)
        guard await accepts.next().result == -ECANCELED else { throw Unlucky(number: 1) }
        await Raw.close(listener)
    }

    private static func serve(_ socket: Descriptor) async throws {
        let receiving = Receiving(socket)
        while true {
            let (bytes, end) = await receiving.next()
            if let end {
                guard end == 0 else { throw Unlucky(number: Int(end)) }
                break
            }
            guard await Raw.sendAll(socket, bytes) == 0 else { throw Unlucky(number: 2) }
        }
        guard await Raw.close(socket) == 0 else { throw Unlucky(number: 3) }
    }

    private static func ask(_ number: UInt8, _ count: Int) async throws {
        let (socket, result) = try await Raw.connect(7)
        guard result == 0 else { throw Unlucky(number: Int(result)) }
        let question = (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ Int(number)) }
        async let sent = Raw.sendAll(socket, question)
        let receiving = Receiving(socket)
        let answer = await receiving.bytes(count)
        guard await sent == 0, answer == question else { throw Unlucky(number: 4) }
        guard await Raw.shutdown(socket, Int(SHUT_WR)) == 0 else { throw Unlucky(number: 5) }
        let (rest, end) = await receiving.untilEnd()
        guard rest.isEmpty, end == 0 else { throw Unlucky(number: 6) }
        await Raw.close(socket)
    }
}
