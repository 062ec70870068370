// Sleeping: exact, in order, free when it is over.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct SleepTests {
        @Test(arguments: World.real, [1, 1_000, 100_000, 3_000_000]) func isNeverEarly(
            world: World, nanoseconds: Int
        ) throws {
            try world.run {
                let duration = Duration.nanoseconds(nanoseconds)
                for _ in 0..<10 {
                    let continuous = try await ContinuousClock().measure { try await Task.sleep(for: duration) }
                    #expect(continuous >= duration)
                    let suspending = try await SuspendingClock().measure {
                        try await Task.sleep(for: duration, clock: .suspending)
                    }
                    #expect(suspending >= duration)
                }
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.allCases) func theEarlierDeadlineEndsFirst(world: World) throws {
            try world.run {
                let began = Journal<Int>()
                let ended = Journal<Int>()
                // Those that had begun to sleep when the first had slept: on a busy machine not all of them.
                let compared = Lock<[Int]>([])
                let now = ContinuousClock.now
                let tasks = [3, 1, 4, 10, 5, 9, 2, 6, 8, 7].map { number in
                    start {
                        began.add(number)
                        try await Task.sleep(until: now + .milliseconds(4 * number))
                        if ended.count == 0 { compared.withLock { $0 = began.all } }
                        ended.add(number)
                    }
                }
                for task in tasks { try await task.value }
                let first = compared.withLock { $0 }
                #expect(ended.all.filter(first.contains) == first.sorted())
                if world == .simulated { #expect(ended.all == Array(1...10)) }
            }
        }

        /// Also among those whose time was past when they went to sleep.
        @Test(arguments: World.allCases) func theEarlierOfPastDeadlinesEndsFirst(world: World) throws {
            try world.run {
                let ended = Journal<Int>()
                let now = ContinuousClock.now
                let tasks = [3, 1, 4, 2].map { number in
                    start {
                        try await Task.sleep(until: now - .milliseconds(100 - number))
                        ended.add(number)
                    }
                }
                for task in tasks { try await task.value }
                #expect(ended.all == [1, 2, 3, 4])
            }
        }

        @Test(arguments: World.allCases) func clocksAndOldSpellingsSleep(world: World) throws {
            try world.run {
                let home = loop
                try await Task.sleep(nanoseconds: 1000)
                try await ContinuousClock().sleep(for: .microseconds(1))
                try await SuspendingClock().sleep(for: .microseconds(1))
                try await Task.sleep(until: .now + .microseconds(1), clock: .suspending)
                try await Task.sleep(for: .microseconds(1), tolerance: .milliseconds(1))
                #expect(EventLoop.current === home)
            }
        }

        @Test(arguments: World.allCases) func noTimeIsNoTime(world: World) throws {
            try world.run {
                try await Task.sleep(for: .zero)
                try await Task.sleep(for: .seconds(-1))
                try await Task.sleep(for: .seconds(Int64.min))
                try await Task.sleep(until: ContinuousClock.now - .seconds(3600))
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.allCases) func veryLongSleepsCanBeCancelled(world: World) throws {
            try world.run {
                for duration in [Duration.seconds(Int64.max), .nanoseconds(Int64.max), .seconds(1 << 40)] {
                    let task = start { try await Task.sleep(for: duration) }
                    await settle()
                    #expect(statistics.timers == 1)
                    task.cancel()
                    await #expect(throws: CancellationError.self) { try await task.value }
                    #expect(statistics.timers == 0)
                }
            }
        }

        /// The timer goes with the cancellation, and so does the job that would have woken the task.
        @Test(arguments: World.allCases) func aCancelledSleepEndsAtOnce(world: World) throws {
            try world.run {
                let inActor = Sleeper()
                for sleep in [
                    { try await Task.sleep(for: .seconds(3600)) },
                    { try await Task.sleep(for: .seconds(3600), clock: .suspending) },
                    { try await Task.sleep(nanoseconds: 3_600_000_000_000) },
                    { try await inActor.sleep() },
                ] as [@Sendable () async throws -> Void] {
                    let task = start { try await sleep() }
                    await settle()
                    #expect(statistics.timers == 1)
                    task.cancel()
                    await settle()
                    #expect(statistics.timers == 0)
                    await #expect(throws: CancellationError.self) { try await task.value }
                }
            }
        }

        @Test(arguments: World.real) func anotherThreadCancelsASleep(world: World) throws {
            try world.run {
                let tasks = (0..<100).map { _ in start { try await Task.sleep(for: .seconds(3600)) } }
                await settle()
                Thread.detach { for task in tasks { task.cancel() } }
                for task in tasks { await #expect(throws: CancellationError.self) { try await task.value } }
                await settle()
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.allCases) func aTaskThatIsCancelledDoesNotSleep(world: World) throws {
            try world.run {
                let task = start { try await Task.sleep(for: .seconds(3600)) }
                task.cancel()
                await #expect(throws: CancellationError.self) { try await task.value }
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.real) func manyTasksSleep(world: World) throws {
            try world.run {
                let awake = Counter()
                await withDiscardingTaskGroup { group in
                    for number in 0..<20_000 {
                        group.addTask {
                            try? await Task.sleep(for: .microseconds(number * 7919 % 50_000))
                            awake.add()
                        }
                    }
                }
                #expect(awake.value == 20_000)
                #expect(statistics.timers == 0)
            }
        }

        private actor Sleeper {
            func sleep() async throws { try await Task.sleep(for: .seconds(3600)) }
        }
    }
}
