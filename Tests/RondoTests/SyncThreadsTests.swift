// The same things used from everywhere at once: two loops with threads of their own, and Swift's own executor. Nothing
// is lost, nothing comes twice, and what one task sends arrives in order.

import RondoTesting
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct SyncThreadsTests {
        /// Runs `body` `count` times at once: a third on the caller's loop, a third on another, the rest on Swift's own
        /// threads.
        private static func everywhere(
            _ world: World, _ count: Int, _ body: @escaping @Sendable (Int) async throws -> Void
        ) async throws {
            let tasks = (0..<count).filter { $0 % 3 != 1 }.map { number in
                number % 3 == 0 ? start { try await body(number) } : Task.detached { try await body(number) }
            }
            try await withEventLoop(configuration: world.configuration) { _ in
                let tasks = (0..<count).filter { $0 % 3 == 1 }.map { number in start { try await body(number) } }
                for task in tasks { try await task.value }
            }
            for task in tasks { try await task.value }
        }

        @Test(arguments: World.real, [0, 1, 64]) func valuesGoToOneReceiverEachAndInOrder(
            world: World, capacity: Int
        ) async throws {
            try await world.runElsewhere {
                let (senderCount, each) = (6, 400)
                let channel = BoundedChannel<(sender: Int, number: Int)>(capacity: capacity)
                let sendersLeft = Counter()
                sendersLeft.set(senderCount)
                let received = Journal<[(sender: Int, number: Int)]>()
                try await Self.everywhere(world, senderCount * 2) { task in
                    if task < senderCount {
                        for number in 0..<each { try await channel.send((task, number)) }
                        if sendersLeft.add(-1) == 0 { channel.finish() }
                    } else {
                        var mine: [(sender: Int, number: Int)] = []
                        for try await value in channel { mine.append(value) }
                        received.add(mine)
                    }
                }
                for mine in received.all {
                    for sender in 0..<senderCount {
                        let numbers = mine.filter { $0.sender == sender }.map { $0.number }
                        #expect(numbers == numbers.sorted())
                    }
                }
                let all = received.all.joined().map { $0.sender * each + $0.number }.sorted()
                #expect(all == Array(0..<senderCount * each))
                #expect(channel.isFinished && channel.waitingReceivers == 0 && channel.waitingSenders == 0)
            }
        }

        /// Tasks that are cancelled at any moment, on other threads than their own.
        @Test(arguments: World.real, [0, 3]) func cancellationLosesNoValue(world: World, capacity: Int) async throws {
            try await world.runElsewhere {
                let channel = BoundedChannel<Int>(capacity: capacity)
                let (sent, received) = (Journal<Int>(), Journal<Int>())
                let canceller = BoundedChannel<Task<Void, Never>>(capacity: 4)
                let cancelling = Task.detached {
                    for try await task in canceller { task.cancel() }
                }
                let (count, ended) = (1200, Counter())
                try await Self.everywhere(world, count) { number in
                    let task = Task.detached {
                        if number % 2 == 0 {
                            do throws(SendError) {
                                try await channel.send(number)
                                sent.add(number)
                            } catch { #expect(error == .cancelled) }
                        } else if let value = try? await channel.receive() {
                            received.add(value)
                        }
                        ended.add()
                    }
                    if number % 5 != 0 { try await canceller.send(task) }
                    if number % 3 == 0 { await Task.yield() }
                }
                canceller.finish()
                try await cancelling.value
                // Those whom nobody cancelled may have nobody left to wait for.
                while ended.value < count {
                    if channel.waitingReceivers > 0, channel.trySend(-1) { sent.add(-1) }
                    if channel.waitingSenders > 0, let value = channel.tryReceive() { received.add(value) }
                    await EventLoop.yield()
                }
                while let value = channel.tryReceive() { received.add(value) }
                #expect(channel.waitingReceivers == 0 && channel.waitingSenders == 0)
                #expect(sent.all.sorted() == received.all.sorted())
            }
        }

        @Test(arguments: World.real) func permitsAreConserved(world: World) async throws {
            try await world.runElsewhere {
                let semaphore = AsyncSemaphore(permits: 3)
                let (inside, most, entries, given) = (Counter(), Counter(), Counter(), Counter())
                try await Self.everywhere(world, 300) { number in
                    let count = number % 3 + 1
                    let task = Task.detached {
                        try await semaphore.withPermits(count) {
                            most.raise(to: inside.add(count))
                            if number % 7 == 0 { await Task.yield() }
                            inside.add(-count)
                            entries.add()
                        }
                    }
                    if number % 4 == 0 { task.cancel() }
                    for _ in 0..<5 {
                        try await semaphore.withPermits(count) {
                            most.raise(to: inside.add(count))
                            if number % 5 == 0 { await Task.yield() }
                            inside.add(-count)
                            entries.add()
                        }
                    }
                    do { try await task.value } catch { given.add() }
                }
                #expect(entries.value + given.value == 1800)
                #expect(most.value <= 3)
                #expect(semaphore.available == 3 && semaphore.waiting == 0)
            }
        }

        @Test(arguments: World.real) func aMutexKeepsEverybodyElseOut(world: World) async throws {
            try await world.runElsewhere {
                let mutex = AsyncMutex((count: 0, isBusy: false))
                try await Self.everywhere(world, 60) { number in
                    for _ in 0..<50 {
                        try await mutex.withLock { state in
                            #expect(!state.isBusy)
                            state.isBusy = true
                            if number % 4 == 0 { await Task.yield() }
                            state.count += 1
                            state.isBusy = false
                        }
                    }
                }
                #expect(mutex.withLockIfAvailable { $0.count } == 3000)
            }
        }

        @Test(arguments: World.real) func newsReachesEverybody(world: World) async throws {
            try await world.runElsewhere {
                let (event, made) = (AsyncEvent(), Counter())
                let once = OnceValue {
                    await Task.yield()
                    return made.add()
                }
                let (watch, broadcast) = (Watch(0), Broadcast<Int>(capacity: 1000))
                let subscriptions = (0..<60).map { _ in (watch.subscribe(), broadcast.subscribe()) }
                let updates = Task.detached {
                    for number in 1...500 {
                        watch.update(number)
                        try broadcast.send(number)
                        if number % 50 == 0 { await Task.yield() }
                    }
                    watch.finish()
                    broadcast.finish()
                    event.set()
                }
                try await Self.everywhere(world, 60) { number in
                    let firstAnswer = try await once.value
                    #expect(firstAnswer == 1)
                    var last = -1
                    for try await value in subscriptions[number].0 {
                        #expect(value > last)
                        last = value
                    }
                    #expect(last == 500)
                    var next = 1
                    for try await delivery in subscriptions[number].1 {
                        #expect(delivery == .value(next))
                        next += 1
                    }
                    #expect(next == 501)
                    try await event.wait()
                }
                try await updates.value
                #expect(broadcast.count == 0)
            }
        }

        /// Every notification wakes one task, or is kept for one: none is lost between looking and waiting.
        @Test(arguments: World.real) func noNotificationIsMissed(world: World) async throws {
            try await world.runElsewhere {
                let (work, news, done) = (Lock<[Int]>([]), Notify(), Journal<Int>())
                let count = 2000
                try await Self.everywhere(world, 6) { number in
                    if number < 3 {
                        for item in 0..<count {
                            work.withLock { $0.append(number * count + item) }
                            news.notifyOne()
                            if item % 100 == 0 { await Task.yield() }
                        }
                    } else {
                        while done.count < 3 * count {
                            while let item = work.withLock({ $0.popLast() }) { done.add(item) }
                            if done.count < 3 * count { try await news.wait() }
                        }
                        news.notifyOne()
                    }
                }
                #expect(done.all.sorted() == Array(0..<3 * count))
            }
        }

        @Test(arguments: World.real) func aRateHoldsEverywhere(world: World) async throws {
            try await world.runElsewhere {
                let limiter = RateLimiter(rate: 100, per: .milliseconds(1), burst: 10)
                let begin = ContinuousClock.now
                let cancelled = Counter()
                try await Self.everywhere(world, 300) { number in
                    let task = Task.detached { try await limiter.acquire() }
                    if number % 2 == 0 { task.cancel() }
                    try await limiter.acquire()
                    do { try await task.value } catch { cancelled.add() }
                }
                let passed = 600 - cancelled.value
                #expect(begin.duration(to: .now) >= .microseconds((passed - 10) * 10))
                #expect(limiter.waiting == 0)
            }
        }
    }
}
