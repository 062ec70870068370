// What a loop says of itself: counts that can be checked against what was done.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct LoopStatisticsTests {
        @Test(arguments: World.real) func countsWhatWasDone(world: World) throws {
            try world.run {
                let before = await loop.statistics
                for _ in 0..<500 { await EventLoop.yield() }
                // Jobs are counted by the batch: the sleep ends this one.
                try await Task.sleep(for: .microseconds(1))
                let after = await loop.statistics
                #expect(after.jobs - before.jobs >= 500)
                #expect(after.jobs - before.jobs < 510)
                #expect(after.turns >= before.turns)
                #expect(after.lag.count == after.turns || after.lag.count == after.turns + 1)
                #expect(after.busyNanoseconds >= before.busyNanoseconds)
                #expect(after.operations == before.operations)
            }
        }

        @Test(arguments: World.real) func countsWhatIsUnfinished(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let reader = start { try await pair.server.read() == nil }
                let sleeper = start { try await Task.sleep(for: .seconds(3600)) }
                await settle()
                #expect(statistics.pendingOperations == 1)
                #expect(statistics.timers == 1)
                #expect(statistics.readyJobs == 0)
                start {}
                #expect(statistics.readyJobs == 1)
                sleeper.cancel()
                await pair.close()
                #expect(await ioError(of: reader)?.cause == .closed)
                _ = await sleeper.result
                #expect(statistics.pendingOperations == 0)
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.real) func countsCallsInTheOffloadPool(world: World) throws {
            try world.run {
                let end = Semaphore()
                let call = start { try await offload { end.wait() } }
                await settle()
                #expect(statistics.offloadDepth == 1)
                end.signal()
                try await call.value
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func timersTellHowLateTheyWere(world: World) throws {
            try world.run {
                let fired = Journal(Int.self)
                let before = statistics.timerLateness.count
                // Nothing else runs between setting the timer and its firing, late.
                let deadline = loop.driver.now
                _ = loop.timers.add(deadline: deadline, target: .callback(NotingCallback(fired)))
                while loop.driver.now < deadline + 60_000_000 {}
                while fired.all.isEmpty { await EventLoop.yield() }
                #expect(statistics.timerLateness.count == before + 1)
                #expect(statistics.timerLateness.maxNanoseconds >= 60_000_000)
            }
        }

        /// All operations of a turn share its one system call.
        @Test(arguments: World.withRing) func anEchoNeedsAtMostOneSystemCallATurn(world: World) throws {
            try world.run {
                let pairs = try await connectedPairs(10)
                let servers = pairs.map { pair in
                    start { while let chunk = try await pair.server.read() { try await pair.server.write(chunk) } }
                }
                await settle()
                let before = statistics
                let clients = pairs.map { pair in
                    start {
                        for _ in 0..<100 {
                            try await pair.client.write("ping")
                            _ = try await pair.client.read()
                        }
                        try await pair.client.finishWriting()
                    }
                }
                for task in clients + servers { try await task.value }
                let after = statistics
                #expect(after.operations - before.operations >= 2000)
                #expect(after.systemCalls - before.systemCalls <= after.turns - before.turns)
                for pair in pairs { await pair.close() }
            }
        }

        @Test func lagIsExactToWithinAHalf() {
            var lag = LagHistogram()
            #expect(lag.nanoseconds(at: 0.5) == 0)
            for value: UInt64 in [10, 1000, 1000, 5_000_000] { lag.record(value) }
            #expect(lag.count == 4)
            #expect(lag.maxNanoseconds == 5_000_000)
            #expect((1000...1500).contains(lag.nanoseconds(at: 0.5)))
            #expect((10...15).contains(lag.nanoseconds(at: 0.25)))
            #expect(lag.nanoseconds(at: 1) == 5_000_000)
        }

        private func connectedPairs(_ count: Int) async throws -> [Pair] {
            var pairs: [Pair] = []
            for _ in 0..<count { pairs.append(try await connectedPair()) }
            return pairs
        }
    }
}

private final class NotingCallback: TimerCallback {
    private let log: Journal<Int>
    init(_ log: Journal<Int>) { self.log = log }
    override func fire() { log.add(1) }
}
