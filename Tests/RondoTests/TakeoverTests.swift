// A whole program on one loop: everything that Swift can run, runs on the loop's thread. The program is TakeoverProbe,
// a process of its own, as the takeover is for a process's whole life.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TakeoverTests {
        private static let checks = [
            "run", "Task", "Task of every priority", "Task.detached", "Task.immediate", "task group",
            "throwing task group", "discarding task group", "throwing discarding task group", "async let", "Task.yield",
            "EventLoop.yield", "concurrent function", "withTaskExecutorPreference", "withTaskExecutorPreference nil",
            "cancellation handler", "actor", "contended actor", "global actor", "MainActor function", "MainActor.run",
            "Task on MainActor", "detached to MainActor", "MainActor.assumeIsolated", "AsyncStream",
            "Task.sleep continuous", "Task.sleep suspending", "Task.sleep until", "Task.sleep nanoseconds",
            "ContinuousClock.sleep", "SuspendingClock.sleep", "withTimeout",
            "debounce", "throttle", "merge", "combineLatest", "timer sequence", "one thread",
            "continuation from a thread", "offload", "a loop of its own",
        ]

        @Test(arguments: World.real) func everythingRunsOnTheLoop(world: World) throws {
            let result = try probe(world)
            #expect(result.lines.sorted() == Self.checks.map { "ok \($0)" }.sorted())
            #expect(result.status == 0)
        }

        @Test(arguments: World.real) func aProgramEndsWithItsStatus(world: World) throws {
            let returns = try probe(world, "returns")
            #expect(returns.output.isEmpty)
            #expect(returns.status == 0)
            let throwing = try probe(world, "throws")
            #expect(throwing.lines == ["error: it was not to be"])
            #expect(throwing.status == 1)
        }

        @Test(arguments: World.real, ["memory", "memory-in-scope"]) func cancelledSleepsLeaveNoMemoryBehind(
            world: World, way: String
        ) throws {
            let result = try probe(world, way)
            #expect(result.lines.count == 1)
            #expect(result.output.hasPrefix("ok memory of cancelled sleeps"), "\(result.output)")
        }

        @Test func aDriverThatDoesNotExistSaysSo() throws {
            let result = try runProgram("TakeoverProbe", environment: ["RONDO_DRIVER": "kqueue"])
            let text = "error: choose driver RONDO_DRIVER=kqueue: no such driver: use io_uring, epoll or auto"
            #expect(result.lines == [text])
            #expect(result.status == 1)
        }

        private func probe(_ world: World, _ arguments: String...) throws -> ProgramResult {
            try runProgram(
                "TakeoverProbe", arguments, environment: ["RONDO_DRIVER": try #require(world.driver).rawValue])
        }
    }
}
