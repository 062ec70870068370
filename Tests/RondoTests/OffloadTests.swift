// Blocking calls, off the loop.

import Glibc
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct OffloadTests {
        private struct Failure: Error, Equatable {}
        private final class NotSendable { var value = 7 }

        @Test(arguments: World.allCases) func answersWhatTheCallAnswers(world: World) throws {
            try world.run {
                let home = loop
                let value = try await offload { 7 }
                #expect(value == 7)
                await #expect(throws: Failure()) { try await offload { throw Failure() } }
                let object = try await offload { NotSendable() }
                #expect(object.value == 7)
                #expect(EventLoop.current === home)
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func runsOnAnotherThread(world: World) throws {
            try world.run {
                let isElsewhere = try await offload { EventLoop.current == nil }
                #expect(isElsewhere)
            }
        }

        /// The loop goes on while a call blocks: here it is the loop that lets the call return.
        @Test(arguments: World.allCases) func theLoopGoesOnMeanwhile(world: World) throws {
            try world.run {
                let end = Semaphore()
                let call = start {
                    try await offload {
                        end.wait()
                        return 7
                    }
                }
                for _ in 0..<1000 { await EventLoop.yield() }
                try await Task.sleep(for: .microseconds(1))
                end.signal()
                let value = try await call.value
                #expect(value == 7)
            }
        }

        @Test(arguments: World.real) func usesNoMoreThreadsThanItMay(world: World) throws {
            try world.run {
                $0.offloadThreads = 3
            } _: {
                let (running, most, end) = (Counter(), Counter(), Semaphore())
                let calls = (0..<20).map { _ in
                    start {
                        try await offload {
                            most.raise(to: running.add())
                            end.wait()
                            running.add(-1)
                        }
                    }
                }
                while running.value < 3 { await EventLoop.yield() }
                #expect(statistics.offloadDepth == 20)
                for _ in calls { end.signal() }
                for call in calls { try await call.value }
                #expect(most.value == 3)
            }
        }

        @Test(arguments: World.real) func callsWaitInLine(world: World) throws {
            try world.run {
                $0.offloadThreads = 1
            } _: {
                let journal = Journal<Int>()
                let calls = (0..<1000).map { number in start { try await offload { journal.add(number) } } }
                for call in calls { try await call.value }
                #expect(journal.all == Array(0..<1000))
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func aCallThatIsCancelledInTimeNeverRuns(world: World) throws {
            try world.run {
                $0.offloadThreads = 1
            } _: {
                let (end, ran) = (Semaphore(), Counter())
                let blocking = start { try await offload { end.wait() } }
                let waiting = start { _ = try await offload { ran.add() } }
                let cancelledBefore = start { _ = try await offload { ran.add() } }
                cancelledBefore.cancel()
                await settle()
                waiting.cancel()
                // Both end while the pool's one thread is still blocked.
                await #expect(throws: CancellationError.self) { try await waiting.value }
                await #expect(throws: CancellationError.self) { try await cancelledBefore.value }
                #expect(statistics.pendingOperations == 1)
                end.signal()
                try await blocking.value
                #expect(ran.value == 0)
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.real) func aCallThatHasBegunAnswersThoughCancelled(world: World) throws {
            try world.run {
                let (began, end) = (Gate(), Semaphore())
                let call = start {
                    try await offload {
                        began.open()
                        end.wait()
                        return 7
                    }
                }
                await began.wait()
                call.cancel()
                await settle()
                end.signal()
                let value = try await call.value
                #expect(value == 7)
            }
        }

        @Test(arguments: World.real) func anotherThreadCancelsACall(world: World) throws {
            try world.run {
                $0.offloadThreads = 1
            } _: {
                let (end, ran) = (Semaphore(), Counter())
                let blocking = start { try await offload { end.wait() } }
                let calls = (0..<100).map { _ in start { _ = try await offload { ran.add() } } }
                await settle()
                Thread.detach {
                    for call in calls { call.cancel() }
                    end.signal()
                }
                try await blocking.value
                var cancelled = 0
                for call in calls {
                    if case .failure = await call.result { cancelled += 1 }
                }
                #expect(cancelled + ran.value == 100)
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test func runsInPlaceOutsideOfALoop() async throws {
            #expect(try await offload { 7 } == 7)
            await #expect(throws: Failure()) { try await offload { throw Failure() } }
        }
    }
}
