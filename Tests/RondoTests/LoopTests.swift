// Which job runs when: the order of the turn, of classes, of yields; budgets and counts.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct LoopTests {
        // MARK: Order

        @Test(arguments: World.allCases) func jobsOfAClassRunFirstInFirstOut(world: World) throws {
            try world.run {
                let journal = Journal<Int>()
                let tasks = (0..<100).map { number in start { journal.add(number) } }
                for task in tasks { try await task.value }
                #expect(journal.all == Array(0..<100))
            }
        }

        /// A turn collects the inbox, fires timers, runs jobs, and completes operations last: so what completed in the
        /// turn before is ahead of the inbox, and that is ahead of the timers.
        @Test(arguments: World.real) func aTurnCollectsFiresRunsAndCompletes(world: World) throws {
            try world.run {
                $0.batchTime = .seconds(60)
            } _: {
                let journal = Journal<String>()
                let pair = try await connectedPair()
                let inbox = Gate()
                let readByTask = start {
                    _ = try await pair.server.read()
                    journal.add("completed operation")
                }
                let resumedByThread = start {
                    await inbox.wait()
                    journal.add("inbox")
                }
                await settle()
                // Both run in one batch: no timer can fire between them.
                let sleeping = start {
                    try await Task.sleep(for: .milliseconds(1))
                    journal.add("timer")
                }
                let busy = start {
                    start { journal.add("ready job") }
                    pair.client.sendAtOnce([1])
                    Thread.run { inbox.open() }
                    let end = ContinuousClock.now + .milliseconds(2)
                    while ContinuousClock.now < end {}
                }
                for task in [readByTask, resumedByThread, sleeping, busy] { try await task.value }
                #expect(journal.all == ["ready job", "completed operation", "inbox", "timer"])
                await pair.close()
            }
        }

        // MARK: Priorities

        @Test(arguments: World.allCases) func higherClassesGoFirst(world: World) throws {
            try world.run {
                let journal = Journal<String>()
                let tasks = [
                    start(priority: .background) { journal.add("background") },
                    start(priority: .utility) { journal.add("utility") },
                    start(priority: .medium) { journal.add("medium") },
                    start(priority: .high) { journal.add("high") },
                    start(priority: TaskPriority(rawValue: 33)) { journal.add("interactive") },
                ]
                let all = Gate()
                // This task must not lift the others by waiting for them.
                start(priority: .background) { all.open() }
                await all.wait()
                #expect(journal.all == ["interactive", "high", "medium", "utility", "background"])
                for task in tasks { try await task.value }
            }
        }

        /// One pick in sixteen is a lower class's, for each of them in turn.
        @Test(arguments: World.allCases) func lowerClassesGetTheirShare(world: World) throws {
            try world.run {
                let (high, medium, background) = (Counter(), Counter(), Counter())
                let isOver = Gate()
                start(priority: .high) {
                    for _ in 0..<3200 {
                        high.add()
                        await EventLoop.yield()
                    }
                    isOver.open()
                }
                start(priority: .medium) { while !isOver.isOpen { medium.add(); await EventLoop.yield() } }
                start(priority: .background) { while !isOver.isOpen { background.add(); await EventLoop.yield() } }
                await isOver.wait()
                let lower = high.value / (Scheduler.lowerShare - 1)
                #expect(abs(medium.value - lower / 2) <= 2, "\(medium.value) of \(lower)")
                #expect(abs(background.value - lower / 2) <= 2, "\(background.value) of \(lower)")
                await settle()
            }
        }

        /// Who waits for a task of a lower class lifts it to its own: the task's next jobs overtake others.
        @Test(arguments: World.allCases) func waitingForATaskLiftsIt(world: World) throws {
            try world.run {
                let medium = Counter()
                let isOver = Gate()
                let low = start(priority: .background) {
                    for _ in 0..<50 { await EventLoop.yield() }
                    return medium.value
                }
                start(priority: .medium) { while !isOver.isOpen { medium.add(); await EventLoop.yield() } }
                let waiting = start(priority: .high) { try await low.value }
                let jobsBefore = try await waiting.value
                // Not lifted, the task would need fifty shares of one pick in sixteen: 750 jobs of the other class.
                #expect(jobsBefore < 100)
                isOver.open()
                await settle()
            }
        }

        // MARK: Yielding

        @Test(arguments: World.allCases) func yieldLetsAllOthersGoFirst(world: World) throws {
            try world.run {
                let journal = Journal<String>()
                let tasks = ["a", "b", "c"].map { name in
                    start {
                        for round in 1...3 {
                            journal.add("\(name)\(round)")
                            await EventLoop.yield()
                        }
                    }
                }
                for task in tasks { try await task.value }
                #expect(journal.all == ["a1", "b1", "c1", "a2", "b2", "c2", "a3", "b3", "c3"])
            }
        }

        @Test(arguments: World.allCases, [true, false]) func yieldIfNeededYieldsWhenTheSliceIsOver(
            world: World, isOver: Bool
        ) throws {
            try world.run {
                $0.timeSlice = isOver ? .zero : .seconds(3600)
            } _: {
                let journal = Journal<String>()
                let tasks = ["a", "b"].map { name in
                    start {
                        for round in 1...3 {
                            journal.add("\(name)\(round)")
                            await EventLoop.yieldIfNeeded()
                        }
                    }
                }
                for task in tasks { try await task.value }
                let expected =
                    isOver ? ["a1", "b1", "a2", "b2", "a3", "b3"] : ["a1", "a2", "a3", "b1", "b2", "b3"]
                #expect(journal.all == expected)
            }
        }

        @Test func yieldWorksOutsideOfALoop() async {
            await EventLoop.yield()
            await EventLoop.yieldIfNeeded()
        }

        // MARK: Budgets

        /// A stream that always has data can't keep the loop.
        @Test(arguments: World.real) func aJobYieldsAfterItsOperationBudget(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.write([UInt8](repeating: 7, count: 10_000))
                // Once one byte has arrived, they all have: every read finds its byte without waiting.
                _ = try await pair.server.read(upTo: 1)
                let reads = Counter()
                let isOver = Gate()
                let reader = start {
                    while reads.value < 5000 {
                        _ = try await pair.server.read(upTo: 1)
                        reads.add()
                    }
                    isOver.open()
                }
                let other = start {
                    var longest = 0
                    var last = 0
                    while !isOver.isOpen {
                        longest = max(longest, reads.value - last)
                        last = reads.value
                        await EventLoop.yield()
                    }
                    return longest
                }
                try await reader.value
                let longest = try await other.value
                #expect((100...128).contains(longest), "\(longest) reads in a row")
                await pair.close()
            }
        }

        /// Ready jobs make input and output wait for one batch at most.
        @Test(arguments: World.real) func aBatchEndsAfterItsBudget(world: World) throws {
            try world.run {
                $0.batchJobs = 10
                $0.batchTime = .seconds(3600)
            } _: {
                // A Unix socket: what is written is there at once, and no thread of the kernel's brings it.
                let (client, server) = try UnixStream.pair()
                let jobs = Counter()
                let isOver = Gate()
                let reader = start {
                    _ = try await server.read()
                    isOver.open()
                    return jobs.value
                }
                await settle()
                let busy = (0..<4).map { _ in start { while !isOver.isOpen { jobs.add(); await EventLoop.yield() } } }
                try await client.write([1])
                let jobsAtWrite = jobs.value
                let jobsAtRead = try await reader.value
                // The rest of this batch, and two more: one until the byte is there, one behind which it is ready.
                #expect(jobsAtRead - jobsAtWrite <= 30)
                for task in busy { try await task.value }
                await client.close()
                await server.close()
            }
        }

        @Test(arguments: World.real) func aBatchEndsAfterItsTime(world: World) throws {
            try world.run {
                $0.batchTime = .zero
            } _: {
                let before = statistics
                let task = start { for _ in 0..<1000 { await EventLoop.yield() } }
                try await task.value
                // The clock is read every 32 jobs.
                #expect(statistics.turns - before.turns >= 1000 / 32)
            }
        }
    }
}
