// Time limits.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TimeoutTests {
        private struct Failure: Error, Equatable {}

        @Test(arguments: World.allCases) func aResultInTimeIsAnswered(world: World) throws {
            try world.run {
                let value = try await withTimeout(.seconds(3600)) {
                    await EventLoop.yield()
                    return 7
                }
                #expect(value == 7)
                #expect(statistics.timers == 0)
                let sameValue = try await withDeadline(.now + .seconds(3600)) { 7 }
                #expect(sameValue == 7)
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.allCases) func whatIsLateIsCancelled(world: World) throws {
            try world.run {
                await #expect(throws: TimeoutError(limit: .milliseconds(1))) {
                    try await withTimeout(.milliseconds(1)) { try await Task.sleep(for: .seconds(3600)) }
                }
                await settle()
                #expect(statistics.timers == 0)
                #expect("\(TimeoutError(limit: .milliseconds(1)))" == "no result within 0.001 seconds")
            }
        }

        @Test(arguments: World.allCases) func noTimeAtAllCancelsAtTheFirstWait(world: World) throws {
            try world.run {
                for limit in [Duration.zero, .seconds(-1)] {
                    await #expect(throws: TimeoutError(limit: limit)) {
                        try await withTimeout(limit) { try await Task.sleep(for: .seconds(3600)) }
                    }
                }
                await #expect(throws: TimeoutError(limit: .zero)) {
                    try await withDeadline(.now - .seconds(1)) { try await Task.sleep(for: .seconds(3600)) }
                }
                let value = try await withTimeout(.seconds(Int64.max)) { 7 }
                #expect(value == 7)
                await settle()
                #expect(statistics.timers == 0)
            }
        }

        /// Cancellation is a request: a result that comes all the same is answered.
        @Test(arguments: World.real) func aLateResultIsAnswered(world: World) throws {
            try world.run {
                let value = try await withTimeout(.milliseconds(1)) {
                    while !Task.isCancelled { await EventLoop.yield() }
                    return 7
                }
                #expect(value == 7)
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.allCases) func anErrorPassesThrough(world: World) throws {
            try world.run {
                await #expect(throws: Failure()) { try await withTimeout(.seconds(3600)) { throw Failure() } }
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.allCases) func theNearestLimitOfSeveralCounts(world: World) throws {
            try world.run {
                await #expect(throws: TimeoutError(limit: .milliseconds(1))) {
                    try await withTimeout(.seconds(3600)) {
                        try await withTimeout(.milliseconds(1)) { try await Task.sleep(for: .seconds(3600)) }
                    }
                }
                await #expect(throws: TimeoutError(limit: .milliseconds(1))) {
                    try await withTimeout(.milliseconds(1)) {
                        try await withTimeout(.seconds(3600)) { try await Task.sleep(for: .seconds(3600)) }
                    }
                }
                await settle()
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.allCases) func cancellationFromOutsideIsNoTimeout(world: World) throws {
            try world.run {
                let task = start { try await withTimeout(.seconds(3600)) { try await Task.sleep(for: .seconds(7200)) } }
                await settle()
                #expect(statistics.timers == 2)
                task.cancel()
                await #expect(throws: CancellationError.self) { try await task.value }
                #expect(statistics.timers == 0)
            }
        }

        @Test(arguments: World.allCases) func limitsInputAndOutput(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                await #expect(throws: TimeoutError(limit: .milliseconds(1))) {
                    try await withTimeout(.milliseconds(1)) { try await pair.server.readToEnd(limit: 100) }
                }
                // The stream is none the worse for it.
                try await pair.client.write("hello")
                #expect(try await pair.server.readExactly(5) == Array("hello".utf8))
                await pair.close()
            }
        }

        @Test(arguments: World.allCases) func manyLimitsAtOnce(world: World) throws {
            try world.run {
                let late = Counter()
                await withDiscardingTaskGroup { group in
                    for number in 0..<2000 {
                        group.addTask {
                            do {
                                try await withTimeout(number % 2 == 0 ? .milliseconds(1) : .seconds(3600)) {
                                    if number % 2 == 0 { try await Task.sleep(for: .seconds(3600)) }
                                }
                            } catch {
                                if error is TimeoutError { late.add() }
                            }
                        }
                    }
                }
                #expect(late.value == 1000)
                await settle()
                #expect(statistics.timers == 0)
            }
        }

        @Test func worksOutsideOfALoop() async throws {
            #expect(try await withTimeout(.seconds(3600)) { 7 } == 7)
            await #expect(throws: TimeoutError(limit: .milliseconds(1))) {
                try await withTimeout(.milliseconds(1)) { try await Task.sleep(for: .seconds(3600)) }
            }
            await #expect(throws: Failure()) { try await withTimeout(.seconds(3600)) { throw Failure() } }
            let task = Task { try await withTimeout(.seconds(3600)) { try await Task.sleep(for: .seconds(3600)) } }
            task.cancel()
            await #expect(throws: CancellationError.self) { try await task.value }
        }
    }
}
