// The ways into a loop, and what runs on it.

import CTestSupport
import Glibc
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct WaysTests {
        private struct Failure: Error {}

        // MARK: In scope

        @Test(arguments: World.real) func childTasksRunOnTheLoop(world: World) throws {
            try world.run {
                let home = loop
                @Sendable func isHome() -> Bool { EventLoop.current === home }
                #expect(isHome())
                async let child = isHome()
                #expect(await child)
                let all = await withTaskGroup { group in
                    for _ in 0..<100 {
                        group.addTask {
                            await Task.yield()
                            return isHome()
                        }
                    }
                    return await group.reduce(true) { $0 && $1 }
                }
                #expect(all)
                let away = Counter()
                try await withThrowingDiscardingTaskGroup { group in
                    for _ in 0..<100 {
                        group.addTask {
                            try await Task.sleep(for: .microseconds(10))
                            if !isHome() { away.add() }
                        }
                    }
                }
                #expect(away.value == 0)
            }
        }

        @Test(arguments: World.real) func sleepersWakeOnTheLoop(world: World) throws {
            try world.run {
                let home = loop
                let thread = test_thread_id()
                try await Task.sleep(for: .microseconds(1))
                #expect(EventLoop.current === home)
                try await Task.sleep(for: .microseconds(1), clock: .suspending)
                #expect(EventLoop.current === home)
                try await Task.sleep(nanoseconds: 1000)
                #expect(EventLoop.current === home)
                await Task.yield()
                #expect(EventLoop.current === home)
                #expect(test_thread_id() == thread)
            }
        }

        /// Neither the sleeper nor what wakes it takes a detour over another thread.
        @Test(arguments: World.real) func sleepersAreWokenByTheLoop(world: World) throws {
            let report = SpyDriver.Report()
            try world.run {
                $0.spy(report)
            } _: {
                for _ in 0..<10 { try await Task.sleep(for: .microseconds(10)) }
                let sleeper = start { try await Task.sleep(for: .seconds(3600)) }
                await settle()
                sleeper.cancel()
                _ = await sleeper.result
                #expect(report.wakes.value == 0)
            }
        }

        @Test(arguments: World.real) func anAsyncStreamIsReadOnTheLoop(world: World) throws {
            try world.run {
                let home = loop
                let (numbers, feed) = AsyncStream<Int>.makeStream()
                start {
                    for number in 0..<100 {
                        feed.yield(number)
                        await EventLoop.yield()
                    }
                    feed.finish()
                }
                var sum = 0
                for await number in numbers {
                    sum += number
                    #expect(EventLoop.current === home)
                }
                #expect(sum == 4950)
            }
        }

        @Test(arguments: World.real) func actorsRunOnTheLoopOfWhoCallsThem(world: World) throws {
            try world.run {
                let home = loop
                let counter = PlainActor()
                for _ in 0..<10 { #expect(await counter.isOn(home)) }
                await withDiscardingTaskGroup { group in
                    for _ in 0..<100 { group.addTask { #expect(await counter.isOnAfterYield(home)) } }
                }
            }
        }

        // MARK: From async code

        @Test(arguments: World.real) func anAsyncCallerGetsALoopOfItsOwn(world: World) async throws {
            let (isOnIt, name) = try await withEventLoop(configuration: world.configuration) { loop in
                (EventLoop.current === loop, threadName())
            }
            #expect(isOnIt)
            #expect(name == "rondo-loop")
            await #expect(throws: Failure.self) {
                try await withEventLoop(configuration: world.configuration) { _ in throw Failure() }
            }
        }

        @Test(arguments: World.real) func aLoopWaitsForAnotherAndGoesOnMeanwhile(world: World) throws {
            try world.run {
                let home = loop
                let jobs = Counter()
                let isOver = Gate()
                let busy = start { while !isOver.isOpen { jobs.add(); await EventLoop.yield() } }
                let jobsSeen = try await withEventLoop(configuration: world.configuration) { other in
                    #expect(other !== home)
                    let before = jobs.value
                    while jobs.value == before { await EventLoop.yield() }
                    return jobs.value
                }
                #expect(jobsSeen > 0)
                #expect(EventLoop.current === home)
                isOver.open()
                try await busy.value
            }
        }

        // MARK: Actors that live on a loop

        @Test(arguments: World.real) func aPinnedActorRunsOnItsLoop(world: World) async throws {
            try await world.runElsewhere {
                let actor = PinnedActor(loop)
                let isOnLoop = await actor.isOnLoop()
                #expect(isOnLoop)

                // Called from one of Swift's own threads, by tasks that prefer no executor.
                let task = Task.detached {
                    #expect(EventLoop.current == nil)
                    let isOnLoop = await actor.isOnLoop()
                    return isOnLoop && EventLoop.current == nil
                }
                #expect(await task.value)

                let echo = Task.detached { try await actor.echo("hello") }
                let answer = try await echo.value
                #expect(answer == Array("hello".utf8))

                let limited = Task.detached { try await actor.limitedSleep() }
                await #expect(throws: TimeoutError(limit: .milliseconds(1))) { try await limited.value }

                let offloaded = Task.detached { try await actor.offloaded() }
                let isElsewhere = try await offloaded.value
                #expect(isElsewhere)
            }
        }

        /// An actor that is no loop's goes on wherever it is entered: what it reads is read on the loop all the same.
        @Test(arguments: World.real) func anActorOfOtherThreadsReadsOnTheLoop(world: World) async throws {
            try await world.runElsewhere {
                let pair = try await connectedPair()
                let reader = SharedReader(pair.server)
                let isOver = Gate()
                let visitors = (0..<2).map { _ in
                    Task.detached { while !isOver.isOpen { await reader.visit() } }
                }
                let reading = start { try await reader.readToEnd() }
                for _ in 0..<300 {
                    try await pair.client.write([1, 2, 3])
                    await EventLoop.yield()
                }
                try await pair.client.finishWriting()
                #expect(try await reading.value == 900)
                isOver.open()
                for visitor in visitors { await visitor.value }
                await pair.close()
            }
        }

        private actor SharedReader {
            private let stream: TCPStream
            private var visits = 0
            init(_ stream: TCPStream) { self.stream = stream }

            func visit() { visits += 1 }

            func readToEnd() async throws -> Int {
                var count = 0
                while let chunk = try await stream.read(upTo: 2) { count += chunk.count }
                return count
            }
        }

        private actor PlainActor {
            func isOn(_ loop: EventLoop) -> Bool { EventLoop.current === loop }
            func isOnAfterYield(_ loop: EventLoop) async -> Bool {
                await Task.yield()
                return EventLoop.current === loop
            }
        }

        private actor PinnedActor {
            nonisolated let loop: EventLoop
            nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
            init(_ loop: EventLoop) { self.loop = loop }

            func isOnLoop() -> Bool {
                loop.preconditionCurrent()
                return EventLoop.current === loop
            }

            func echo(_ text: String) async throws -> [UInt8] {
                let pair = try await connectedPair()
                try await pair.client.write(text)
                let answer = try await pair.server.readExactly(text.utf8.count)
                await pair.close()
                return answer
            }

            func limitedSleep() async throws {
                try await withTimeout(.milliseconds(1)) { try await Task.sleep(for: .seconds(3600)) }
            }

            func offloaded() async throws -> Bool { try await offload { EventLoop.current == nil } }
        }
    }
}

extension EventLoop {
    /// Asks the runtime whether the caller is isolated to this loop.
    fileprivate func preconditionCurrent() { serialFace.preconditionIsolated() }
}

/// The name of the calling thread.
private func threadName() -> String {
    let name = contents(ofFile: "/proc/thread-self/comm") ?? []
    return String(decoding: name.dropLast(), as: UTF8.self)
}
