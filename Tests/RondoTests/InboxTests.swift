// How other threads reach a loop.

import Synchronization
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct InboxTests {
        @Test(arguments: World.allCases) func anotherThreadResumesATask(world: World) throws {
            try world.run {
                let gate = Gate()
                let task = start {
                    await gate.wait()
                    return EventLoop.current === loop
                }
                await settle()
                Thread.start { gate.open() }
                let isOnLoop = try await task.value
                #expect(isOnLoop)
            }
        }

        /// A loop that waits is woken once, however much arrives before it is awake.
        @Test(arguments: World.allCases) func aBurstWakesTheLoopOnce(world: World) throws {
            let report = SpyDriver.Report()
            try world.run {
                $0.spy(report)
            } _: {
                let gates = (0..<1000).map { _ in Gate() }
                let tasks = gates.map { gate in start { await gate.wait() } }
                await settle()
                let before = report.wakes.value
                report.beforeWait = { Thread.run { for gate in gates { gate.open() } } }
                for task in tasks { try await task.value }
                #expect(report.wakes.value - before == 1)
            }
        }

        /// A loop that runs looks into its inbox by itself.
        @Test(arguments: World.allCases) func aRunningLoopNeedsNoWaking(world: World) throws {
            let report = SpyDriver.Report()
            try world.run {
                $0.spy(report)
            } _: {
                let gate = Gate()
                let task = start { await gate.wait() }
                await settle()
                Thread.run { gate.open() }
                try await task.value
                #expect(report.wakes.value == 0)
            }
        }

        /// 100,000 continuations, resumed by four threads at once.
        @Test(arguments: World.allCases) func noResumeIsLost(world: World) throws {
            try world.run {
                let mailboxes = (0..<4).map { _ in Mailbox() }
                let threads = mailboxes.map { mailbox in
                    Thread.start { for _ in 0..<25_000 { mailbox.take().resume() } }
                }
                let resumed = Counter()
                let tasks = (0..<400).map { number in
                    start {
                        for _ in 0..<250 {
                            await withCheckedContinuation { mailboxes[number % 4].put($0) }
                            resumed.add()
                        }
                    }
                }
                for task in tasks { try await task.value }
                for thread in threads { thread.join() }
                #expect(resumed.value == 100_000)
            }
        }

        /// Work for a loop comes from threads that know only its executor.
        @Test(arguments: World.allCases) func anotherThreadStartsTasks(world: World) throws {
            try world.run {
                let executor = loop.executor
                let home = loop
                let (tasks, feed) = AsyncStream<Task<Bool, Never>>.makeStream()
                Thread.start {
                    for _ in 0..<100 {
                        feed.yield(Task(executorPreference: executor) { EventLoop.current === home })
                    }
                    feed.finish()
                }
                var count = 0
                for await task in tasks {
                    #expect(await task.value)
                    count += 1
                }
                #expect(count == 100)
            }
        }

        /// Continuations that one thread takes and resumes.
        private final class Mailbox: Sendable {
            private let waiting = Mutex<[CheckedContinuation<Void, Never>]>([])
            private let semaphore = Semaphore()

            func put(_ continuation: CheckedContinuation<Void, Never>) {
                waiting.withLock { $0.append(continuation) }
                semaphore.signal()
            }

            func take() -> CheckedContinuation<Void, Never> {
                semaphore.wait()
                return waiting.withLock { $0.removeLast() }
            }
        }
    }
}
