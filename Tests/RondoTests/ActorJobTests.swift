// What an actor of a loop costs in jobs.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct ActorJobTests {
        /// To the actor's own functions and back, and to what has no actor of its own, an actor goes within its job.
        @Test(arguments: World.allCases) func anActorsCallsStayInItsJob(world: World) throws {
            try world.run {
                let count = try await jobs(of: Kitchen(loop).cook)
                #expect(count < 10, "\(count) jobs")
            }
        }

        @Test(arguments: World.real) func alsoWithSeveralLoops(world: World) throws {
            try world.run(loops: 2) { _ in
                let own = try #require(EventLoop.current)
                let kitchen = Kitchen(own)
                let count = try await jobs(of: kitchen.cook)
                #expect(count < 10, "\(count) jobs")
            }
        }

        /// Where it waits, the runtime makes the task ready as one of no actor, and it goes on to the actor from there.
        @Test(arguments: World.allCases) func aWaitIsTwoJobsAtMost(world: World) throws {
            try world.run {
                let count = try await jobs(of: Kitchen(loop).wait)
                #expect((100..<210).contains(count), "\(count) jobs for 100 waits")
            }
        }

        /// The jobs that the current loop runs meanwhile.
        private func jobs(of body: () async -> Void) async throws -> UInt64 {
            // Jobs are counted by the batch: a sleep ends one.
            try await Task.sleep(for: .microseconds(1))
            let before = await loop.statistics.jobs
            await body()
            try await Task.sleep(for: .microseconds(1))
            return await loop.statistics.jobs - before
        }

        private actor Kitchen {
            nonisolated let loop: EventLoop
            nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
            private var dishes = 0

            init(_ loop: EventLoop) { self.loop = loop }

            func cook() async {
                for _ in 0..<100 { await peel() }
                precondition(dishes == 100)
            }

            func wait() async {
                for _ in 0..<100 { await EventLoop.yield() }
            }

            private func peel() async {
                await rinse()
                dishes += 1
            }

            private func rinse() async { await helpOut() }
        }
    }
}

/// Of no actor: it runs where it is called.
private func helpOut() async { await helpOutMore() }
private func helpOutMore() async {}
