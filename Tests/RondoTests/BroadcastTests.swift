// Watches, broadcasts and rate limiters as tasks see them.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct BroadcastTests {
        // MARK: Watch

        @Test(arguments: World.allCases) func followersSeeTheLatest(world: World) throws {
            try world.run {
                let watch = Watch(1)
                let follower = watch.subscribe()
                let change = start { try await follower.changed() }
                await until { watch.waiting == 1 }
                watch.update(2)
                watch.update { $0 += 1 }
                let firstAnswer = try await change.value
                #expect(firstAnswer == 3, "what is in between is skipped")
                watch.update(4)
                #expect(watch.value == 4 && follower.value == 4)
                // What was looked at is no news.
                let next = start { try await follower.changed() }
                await until { watch.waiting == 1 }
                next.cancel()
                await #expect(throws: CancellationError.self) { try await next.value }
                watch.update(5)
                let secondAnswer = try await follower.changed()
                #expect(secondAnswer == 5)
                watch.update(6)
                watch.finish()
                #expect(!watch.update(7) && watch.value == 6)
                let thirdAnswer = try await follower.changed()
                #expect(thirdAnswer == 6)
                let fourthAnswer = try await follower.changed()
                #expect(fourthAnswer == nil)
            }
        }

        @Test(arguments: World.allCases) func aWatchIsASequenceThatBeginsNow(world: World) throws {
            try world.run {
                var watch: Watch<Int>? = Watch(0)
                let seen = Journal<Int>()
                let readers = (0..<3).map { _ in watch!.subscribe() }.map { follower in
                    start { for try await value in follower { seen.add(value) } }
                }
                for number in 1...3 {
                    await until { watch!.waiting == 3 }
                    watch!.update(number)
                }
                await until { watch!.waiting == 3 }
                // Dropped: that is the end.
                watch = nil
                for reader in readers { try await reader.value }
                #expect(seen.all.sorted() == [0, 0, 0, 1, 1, 1, 2, 2, 2, 3, 3, 3])
            }
        }

        // MARK: Broadcast

        @Test(arguments: World.allCases) func everySubscriberSeesEveryValue(world: World) throws {
            try world.run {
                let broadcast = Broadcast<Int>(capacity: 4)
                try broadcast.send(-1)
                #expect(broadcast.count == 0, "kept for nobody")
                let readers = (0..<5).map { _ in broadcast.subscribe() }.map { subscription in
                    start {
                        var seen: [Broadcast<Int>.Delivery] = []
                        for try await delivery in subscription { seen.append(delivery) }
                        return seen
                    }
                }
                #expect(broadcast.subscriberCount == 5)
                for number in 0..<100 {
                    if number % 4 == 0 { await until { broadcast.waiting == 5 } }
                    try broadcast.send(number)
                }
                broadcast.finish()
                #expect(throws: ClosedError.self) { try broadcast.send(7) }
                for reader in readers {
                    let seen = try await reader.value
                    #expect(seen == (0..<100).map { .value($0) })
                }
                #expect(broadcast.count == 0)
            }
        }

        @Test(arguments: World.allCases) func whoIsSlowIsToldWhatItMissed(world: World) throws {
            try world.run {
                let broadcast = Broadcast<Int>(capacity: 3)
                var subscription: Broadcast<Int>.Subscription? = broadcast.subscribe()
                for number in 0..<10 { try broadcast.send(number) }
                let firstAnswer = try await subscription!.receive()
                #expect(firstAnswer == .missed(7))
                let secondAnswer = try await subscription!.receive()
                #expect(secondAnswer == .value(7))
                try broadcast.send(10)
                let thirdAnswer = try await subscription!.receive()
                #expect(thirdAnswer == .value(8))
                let late = broadcast.subscribe()
                try broadcast.send(11)
                let fourthAnswer = try await late.receive()
                #expect(fourthAnswer == .value(11))
                #expect(broadcast.count == 3)
                subscription = nil
                #expect(broadcast.count == 0 && broadcast.subscriberCount == 1)
            }
        }

        @Test(arguments: World.allCases) func aCancelledSubscriberHasTakenNothing(world: World) throws {
            try world.run {
                var broadcast: Broadcast<Int>? = Broadcast(capacity: 1)
                let subscription = broadcast!.subscribe()
                let early = start { try await subscription.receive() }
                early.cancel()
                await #expect(throws: CancellationError.self) { try await early.value }
                let waiting = start { try await subscription.receive() }
                await until { broadcast!.waiting == 1 }
                waiting.cancel()
                #expect(broadcast!.waiting == 0)
                await #expect(throws: CancellationError.self) { try await waiting.value }
                let late = start { try await subscription.receive() }
                await until { broadcast!.waiting == 1 }
                try broadcast!.send(7)
                late.cancel()
                let firstAnswer = try await late.value
                #expect(firstAnswer == .value(7))
                let last = start { try await subscription.receive() }
                await until { broadcast!.waiting == 1 }
                broadcast = nil
                let secondAnswer = try await last.value
                #expect(secondAnswer == nil)
            }
        }

        // MARK: Rate limiter

        /// Virtual time shows when each was let through, to the nanosecond.
        @Test func permitsComeEvenly() throws {
            try World.simulated.run {
                let limiter = RateLimiter(rate: 3, per: .seconds(1), burst: 2)
                let begin = ContinuousClock.now
                let times = Journal<Duration>()
                let tasks = (0..<6).map { number in
                    start {
                        try await limiter.acquire(number == 3 ? 2 : 1)
                        times.add(begin.duration(to: .now))
                    }
                }
                for task in tasks { try await task.value }
                let expected = [0, 0, 333_333_334, 1_000_000_000, 1_333_333_334, 1_666_666_667]
                #expect(times.all == expected.map { .nanoseconds($0) })
                try await Task.sleep(for: .seconds(3600))
                #expect(limiter.available == 2 && limiter.waiting == 0)
                #expect(limiter.tryAcquire(2) && !limiter.tryAcquire())
            }
        }

        @Test func whoWaitsForARateAndIsCancelledLosesNoPermit() throws {
            try World.simulated.run {
                let limiter = RateLimiter(rate: 1, per: .seconds(1), burst: 3)
                let begin = ContinuousClock.now
                try await limiter.acquire(3)
                let times = Journal<Duration>()
                // The first sleeps, the others wait for it.
                let tasks = [3, 1, 1, 1].map { count in
                    start {
                        try await limiter.acquire(count)
                        times.add(begin.duration(to: .now))
                    }
                }
                await until { limiter.waiting == 4 }
                try await Task.sleep(for: .milliseconds(1500))
                #expect(!limiter.tryAcquire(), "somebody waits")
                tasks[2].cancel()
                await #expect(throws: CancellationError.self) { try await tasks[2].value }
                tasks[0].cancel()
                await #expect(throws: CancellationError.self) { try await tasks[0].value }
                try await tasks[1].value
                try await tasks[3].value
                #expect(times.all == [.milliseconds(1500), .seconds(2)])
                let early = start { try await limiter.acquire() }
                early.cancel()
                await #expect(throws: CancellationError.self) { try await early.value }
                #expect(limiter.waiting == 0)
            }
        }

        @Test(arguments: World.allCases) func whoWaitsForARateIsServedInOrder(world: World) throws {
            try world.run {
                let limiter = RateLimiter(rate: 100_000, burst: 1)
                let journal = Journal<Int>()
                let tasks = (0..<50).map { number in
                    start {
                        try await limiter.acquire()
                        journal.add(number)
                    }
                }
                let begin = ContinuousClock.now
                for task in tasks { try await task.value }
                #expect(journal.all == Array(0..<50))
                #expect(begin.duration(to: .now) >= .microseconds(480))
            }
        }
    }
}
