// What becomes of tasks that are not done when their loop ends.

import Glibc
import RondoTesting
import Synchronization
import Testing

@testable import Rondo

@Suite struct LoopClosingTests {
    @Test func aTaskThatOutlivesItsLoopGoesOn() async throws {
        let (stream, source) = AsyncStream.makeStream(of: Void.self)
        try Simulation.run(seed: 1) { _ in
            let loop = EventLoop.current!
            _ = Task(executorPreference: loop.executor) {
                try? await Task.sleep(for: .microseconds(1))
                // From here on it runs on Swift's own threads, and sleeps there.
                for _ in 0..<10 { try? await Task.sleep(for: .zero) }
                await Task.yield()
                source.finish()
            }
            while loop.currentStatistics.timers == 0 { await EventLoop.yield() }
        }
        for await _ in stream {}
    }

    @Test func aTaskThatOnlyYieldsDoesNotKeepTheLoop() async throws {
        let isOver = Flag()
        let (stream, source) = AsyncStream.makeStream(of: Void.self)
        try Simulation.run(seed: 1) { _ in
            _ = Task(executorPreference: EventLoop.current!.executor) {
                while !isOver.value.load(ordering: .relaxed) { await EventLoop.yield() }
                source.finish()
            }
        }
        isOver.value.store(true, ordering: .relaxed)
        for await _ in stream {}
    }

    @Test func whatIsBegunWhileTheLoopClosesEnds() throws {
        let results = Log<Int32>()
        try Simulation.explore(seeds: 0..<20) { simulation in
            let listener = try Raw.listen(80)
            _ = Task(executorPreference: EventLoop.current!.executor) {
                for _ in 0..<3 { results.add(await Raw.accept(listener).answers.next().result) }
            }
            // The body returns while the task waits.
            while Raw.loop.currentStatistics.pendingOperations == 0 { await EventLoop.yield() }
        }
        #expect(results.entries == [Int32](repeating: -ECANCELED, count: 60))
    }

    /// However long the loop takes to close, a task whose operation has ended stays to clean up.
    @Test func aTaskCleansUpAfterALongShutdown() throws {
        var options = SimulationOptions()
        options.loop.batchJobs = 1  // a turn for each job
        let simulation = try Simulation.run(seed: 1, options: options) { simulation in
            simulation.files.write("/f", "x")
            let loop = EventLoop.current!
            let file = await Raw.open("/f", O_RDONLY).descriptor
            _ = Task(executorPreference: loop.executor) {
                // Time stands still while somebody is ready, so the read is pending for all these turns.
                _ = await Raw.read(file, 1)
                await Raw.close(file)
            }
            while loop.currentStatistics.pendingOperations == 0 { await EventLoop.yield() }
            _ = Task(executorPreference: loop.executor) {
                for _ in 0..<3000 { await EventLoop.yield() }
            }
            return simulation
        }
        #expect(simulation.openDescriptors.isEmpty)
    }

    @Test func operationsOfATaskAreRefusedWhileTheLoopCloses() throws {
        let results = Log<Int32>()
        try Simulation.run(seed: 1) { simulation in
            simulation.files.write("/f", "x")
            _ = Task(executorPreference: EventLoop.current!.executor) {
                for _ in 0..<3 { results.add(await Raw.open("/f", O_RDONLY)) }
            }
            while Raw.loop.currentStatistics.pendingOperations == 0 { await EventLoop.yield() }
        }
        #expect(results.entries.dropFirst() == [-ECANCELED, -ECANCELED])
    }
}

private final class Flag: Sendable {
    let value = Atomic<Bool>(false)
}
