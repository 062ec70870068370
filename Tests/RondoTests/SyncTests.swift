// Semaphores, mutexes, events, notifiers and values that are made once, as tasks see them.

import Synchronization
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct SyncTests {
        private struct Failure: Error, Equatable {}

        // MARK: Semaphore

        @Test(arguments: World.allCases) func permitsGoToWhoeverAskedFirst(world: World) throws {
            try world.run {
                let semaphore = AsyncSemaphore(permits: 2)
                let journal = Journal<Int>()
                try await semaphore.acquire(2)
                #expect(!semaphore.tryAcquire())
                // The third wants more than the fourth, which must not overtake it.
                let tasks = [1, 1, 2, 1].enumerated().map { number, count in
                    start {
                        try await semaphore.acquire(count)
                        journal.add(number)
                    }
                }
                await until { semaphore.waiting == 4 }
                semaphore.release()
                await settle()
                #expect(journal.all == [0])
                semaphore.release(2)
                await settle()
                #expect(journal.all == [0, 1])
                #expect(semaphore.available == 1)
                #expect(!semaphore.tryAcquire(), "a permit that somebody waits for was given away")
                semaphore.release(2)
                for task in tasks { try await task.value }
                #expect(journal.all == [0, 1, 2, 3])
                #expect(semaphore.available == 0 && semaphore.waiting == 0)
            }
        }

        @Test(arguments: World.allCases) func noMoreAtOnceThanPermits(world: World) throws {
            try world.run {
                let semaphore = AsyncSemaphore(permits: 3)
                let (inside, most) = (Counter(), Counter())
                try await withThrowingDiscardingTaskGroup { group in
                    for number in 0..<100 {
                        group.addTask {
                            try await semaphore.withPermits(number % 3 + 1) {
                                most.raise(to: inside.add(number % 3 + 1))
                                await EventLoop.yield()
                                inside.add(-(number % 3 + 1))
                            }
                        }
                    }
                }
                #expect(most.value == 3)
                #expect(semaphore.available == 3)
                await #expect(throws: Failure.self) { try await semaphore.withPermit { throw Failure() } }
                #expect(semaphore.available == 3)
                let firstAnswer = try await semaphore.withPermit { 7 }
                #expect(firstAnswer == 7)
            }
        }

        @Test(arguments: World.allCases) func aCancelledWaiterLeavesAtOnce(world: World) throws {
            try world.run {
                let semaphore = AsyncSemaphore(permits: 1)
                // Cancelled before: a free permit is given, one that is not is not waited for.
                let early = start {
                    try await semaphore.acquire()
                    try await semaphore.acquire()
                }
                early.cancel()
                await #expect(throws: CancellationError.self) { try await early.value }
                #expect(semaphore.available == 0 && semaphore.waiting == 0)
                // Cancelled while it waits, first in line: who wants less goes on.
                let large = start { try await semaphore.acquire(2) }
                await settle()
                let small = start { try await semaphore.acquire() }
                await settle()
                semaphore.release()
                #expect(semaphore.waiting == 2)
                large.cancel()
                try await small.value
                await #expect(throws: CancellationError.self) { try await large.value }
                // Cancelled after it was given the permit, before it runs: it has it.
                let late = start { try await semaphore.acquire() }
                await settle()
                semaphore.release()
                late.cancel()
                try await late.value
                #expect(semaphore.available == 0 && semaphore.waiting == 0)
            }
        }

        // MARK: Mutex

        @Test(arguments: World.allCases) func oneAtATimeAndInOrder(world: World) throws {
            try world.run {
                let order = AsyncMutex([Int]())
                let isFree = Gate()
                let holder = start { try await order.withLock { _ in await isFree.wait() } }
                await settle()
                #expect(order.isLocked)
                #expect(order.withLockIfAvailable { $0.count } == nil)
                let tasks = (0..<100).map { number in
                    start {
                        try await order.withLock { order in
                            let before = order
                            await EventLoop.yield()
                            #expect(order == before)
                            order.append(number)
                        }
                    }
                }
                await until { order.waiting == 100 }
                tasks[50].cancel()
                isFree.open()
                try await holder.value
                for (number, task) in tasks.enumerated() where number != 50 { try await task.value }
                await #expect(throws: CancellationError.self) { try await tasks[50].value }
                #expect(order.withLockIfAvailable { $0 } == Array(0..<50) + Array(51..<100))
                await #expect(throws: Failure.self) { try await order.withLock { _ in throw Failure() } }
                #expect(!order.isLocked)
            }
        }

        // MARK: Event and notify

        @Test(arguments: World.allCases) func anEventWakesAllAndForGood(world: World) throws {
            try world.run {
                let event = AsyncEvent()
                let cancelled = start { try await event.wait() }
                let tasks = (0..<10).map { _ in start { try await event.wait() } }
                await until { event.waiting == 11 }
                cancelled.cancel()
                await #expect(throws: CancellationError.self) { try await cancelled.value }
                #expect(event.waiting == 10 && !event.isSet)
                event.set()
                event.set()
                for task in tasks { try await task.value }
                try await event.wait()
                #expect(event.isSet)
                let early = start { try await AsyncEvent().wait() }
                early.cancel()
                await #expect(throws: CancellationError.self) { try await early.value }
            }
        }

        @Test(arguments: World.allCases) func oneNotificationIsKept(world: World) throws {
            try world.run {
                let news = Notify()
                let journal = Journal<Int>()
                news.notifyAll()
                news.notifyOne()
                news.notifyOne()
                try await news.wait()
                let tasks = (0..<4).map { number in
                    start {
                        try await news.wait()
                        journal.add(number)
                    }
                }
                await until { news.waiting == 4 }
                news.notifyOne()
                await settle()
                #expect(journal.all == [0])
                tasks[1].cancel()
                await #expect(throws: CancellationError.self) { try await tasks[1].value }
                // Cancelled after it was notified: the notification is its own, not lost and not given twice.
                news.notifyOne()
                tasks[2].cancel()
                try await tasks[2].value
                #expect(news.waiting == 1)
                news.notifyAll()
                try await tasks[3].value
                #expect(journal.all == [0, 2, 3])
                let last = start { try await news.wait() }
                await settle()
                #expect(news.waiting == 1, "notifyAll left something behind")
                last.cancel()
                await #expect(throws: CancellationError.self) { try await last.value }
            }
        }

        // MARK: Once

        @Test(arguments: World.allCases) func theFirstMakesItForAll(world: World) throws {
            try world.run {
                let attempts = Counter()
                let once = OnceValue {
                    await EventLoop.yield()
                    return attempts.add()
                }
                #expect(once.valueIfMade == nil)
                let tasks = (0..<20).map { _ in start { try await once.value } }
                for task in tasks {
                    let value = try await task.value
                    #expect(value == 1)
                }
                #expect(once.valueIfMade == 1)
                let firstAnswer = try await once.value
                #expect(firstAnswer == 1)
            }
        }

        @Test(arguments: World.allCases) func ifOneFailsTheNextTries(world: World) throws {
            try world.run {
                let attempts = Counter()
                let isFree = Gate()
                let once = OnceValue {
                    let attempt = attempts.add()
                    await isFree.wait()
                    if attempt == 1 { throw Failure() }
                    if attempt == 2 { try Task.checkCancellation() }
                    return attempt
                }
                let tasks = (0..<5).map { _ in start { try await once.value } }
                await until { once.waiting == 4 }
                // The second is cancelled when it makes the value; the fourth while it waits for others.
                tasks[3].cancel()
                await #expect(throws: CancellationError.self) { try await tasks[3].value }
                #expect(attempts.value == 1)
                isFree.open()
                await #expect(throws: Failure.self) { try await tasks[0].value }
                tasks[1].cancel()
                _ = await tasks[1].result
                let (third, fifth) = (try await tasks[2].value, try await tasks[4].value)
                #expect(third == fifth && third == attempts.value && (2...3).contains(third))
                #expect(once.waiting == 0)
            }
        }

        @Test(arguments: World.allCases) func whenNobodyWaitsTheNextWhoAsksTries(world: World) throws {
            try world.run {
                let attempts = Counter()
                let once = OnceValue {
                    if attempts.add() < 3 { throw Failure() }
                    return 7
                }
                for _ in 0..<2 { await #expect(throws: Failure.self) { try await once.value } }
                let firstAnswer = try await once.value
                #expect(firstAnswer == 7)
                #expect(attempts.value == 3)
            }
        }

        // MARK: The loop

        /// What is always ready must not keep the loop.
        @Test(arguments: World.allCases) func whatIsReadyCountsAgainstTheBudget(world: World) throws {
            try world.run {
                $0.operationBudget = 16
            } _: {
                let channel = BoundedChannel<Int>(capacity: 4)
                let (semaphore, mutex, event) = (AsyncSemaphore(permits: 1), AsyncMutex(0), AsyncEvent())
                let (watch, limiter) = (Watch(0), RateLimiter(rate: 1, per: .seconds(1), burst: 1600))
                let broadcast = Broadcast<Int>(capacity: 1)
                let subscription = broadcast.subscribe()
                let (news, once) = (Notify(), OnceValue { 7 })
                event.set()
                let hogs: [@Sendable () async throws -> Void] = [
                    {
                        try await channel.send(7); _ = channel.tryReceive()
                    },
                    {
                        _ = channel.trySend(7); _ = try await channel.receive()
                    },
                    {
                        try await semaphore.acquire(); semaphore.release()
                    },
                    { try await mutex.withLock { $0 += 1 } },
                    { try await event.wait() },
                    {
                        news.notifyOne(); try await news.wait()
                    },
                    {
                        watch.update(1); for try await _ in watch.subscribe() { return }
                    },
                    {
                        try broadcast.send(7); _ = try await subscription.receive()
                    },
                    { _ = try await once.value },
                    { try await limiter.acquire() },
                ]
                for (number, hog) in hogs.enumerated() {
                    let (turns, isOver) = (Counter(), Counter())
                    let other = start { while isOver.value == 0 { turns.add(); await EventLoop.yield() } }
                    await settle()
                    let before = turns.value
                    for _ in 0..<160 { try await hog() }
                    #expect((9...12).contains(turns.value - before), "hog \(number)")
                    isOver.add()
                    try await other.value
                }
            }
        }
    }
}

/// Lets others run until something has happened.
func until(_ condition: () -> Bool) async {
    while !condition() { await EventLoop.yield() }
}
