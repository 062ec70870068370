// How a loop ends: operations are cancelled, and no task is lost, whatever it waits for.

import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct LoopLifeTests {
        @Test(arguments: World.real) func answersWhatItsBodyAnswers(world: World) throws {
            #expect(try world.run { 7 } == 7)
            #expect(throws: TimeoutError(limit: .zero)) { try world.run { throw TimeoutError(limit: .zero) } }
            #expect(EventLoop.current == nil)
        }

        @Test(arguments: World.real) func unfinishedOperationsAreCancelled(world: World) throws {
            let outcomes = Journal<IOError.Cause?>()
            try world.run {
                let pair = try await connectedPair()
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                start { outcomes.add(await ioError { try await pair.server.readToEnd(limit: 1) }?.cause) }
                start { outcomes.add(await ioError { try await listener.accept() }?.cause) }
                await settle()
            }
            #expect(outcomes.all == [.cancelled, .cancelled])
        }

        /// What a task does after its operation was cancelled is still done on the loop.
        @Test(arguments: World.real) func tasksCleanUpWhileTheLoopCloses(world: World) throws {
            let steps = Journal<String>()
            try world.run {
                let pair = try await connectedPair()
                start {
                    _ = await ioError { try await pair.server.readToEnd(limit: 1) }
                    for step in 1...3 {
                        steps.add("\(step) on a loop: \(EventLoop.current != nil)")
                        await EventLoop.yield()
                    }
                    await pair.close()
                    steps.add("closed")
                }
                await settle()
            }
            #expect(steps.all == ["1 on a loop: true", "2 on a loop: true", "3 on a loop: true", "closed"])
        }

        // MARK: Tasks that outlive their loop go on on Swift's own executor

        @Test(arguments: World.real) func aSleepingTaskOutlivesItsLoop(world: World) async throws {
            let task = try await world.runElsewhere {
                start {
                    try await Task.sleep(for: .milliseconds(5))
                    return EventLoop.current == nil
                }
            }
            #expect(try await task.value)
        }

        @Test(arguments: World.real) func aTaskThatNeverWaitsOutlivesItsLoop(world: World) async throws {
            let isOver = Gate()
            let task = try await world.runElsewhere {
                start { while !isOver.isOpen { await EventLoop.yield() } }
            }
            isOver.open()
            try await task.value
        }

        @Test(arguments: World.real) func aContinuationOutlivesItsLoop(world: World) async throws {
            let gates = (0..<100).map { _ in Gate() }
            let tasks = try await world.runElsewhere {
                defer { Thread.detach { for gate in gates { gate.open() } } }
                return gates.map { gate in start { await gate.wait() } }
            }
            for task in tasks { try await task.value }
        }

        /// An actor of the loop goes on, too: one step at a time, each of which may be a job.
        @Test(arguments: World.real) func anActorOutlivesItsLoop(world: World) async throws {
            let gates = (0..<20).map { _ in Gate() }
            let (counter, tasks) = try await world.runElsewhere {
                let counter = StepCounter(loop: EventLoop.current!)
                defer { Thread.detach { for gate in gates { gate.open() } } }
                return (counter, gates.map { gate in start { await counter.count(after: gate) } })
            }
            for task in tasks { try await task.value }
            #expect(await counter.count == 2000)
        }

        @Test(arguments: World.real) func aTimeLimitOutlivesItsLoop(world: World) async throws {
            let gate = Gate()
            let (inTime, late) = try await world.runElsewhere {
                (
                    start {
                        try await withTimeout(.seconds(3600)) {
                            await gate.wait()
                            return 7
                        }
                    },
                    start { try await withTimeout(.milliseconds(5)) { try await Task.sleep(for: .seconds(3600)) } }
                )
            }
            gate.open()
            #expect(try await inTime.value == 7)
            await #expect(throws: TimeoutError(limit: .milliseconds(5))) { try await late.value }
        }

        /// They go on when the loop's thread is through with closing it: until then all that belongs to the loop is
        /// that thread's.
        @Test(arguments: World.real) func nothingOfALoopRunsElsewhereWhileItCloses(world: World) async throws {
            let gate = Gate()
            let closing = Closing(gate)
            let task = try await world.runElsewhere {
                _ = loop.timers.add(deadline: .max - 1, target: .callback(closing))
                return start {
                    await gate.wait()
                    closing.hasRun.signal()
                    return closing.isOver.value
                }
            }
            #expect(try await task.value == 1, "it ran on another thread while the loop closed")
        }

        /// Streams and files of a closed loop say so, and can be closed.
        @Test(arguments: World.real) func objectsOutliveTheirLoop(world: World) async throws {
            let folder = TemporaryFolder()
            let gate = Gate()
            let before = KernelObjects.count()
            let task = try await world.runElsewhere(objectsOutliveIt: true) {
                let pair = try await connectedPair()
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let file = try await File.open(FilePath("\(folder.path)/file"), .replace())
                await pair.client.close()
                // Not closed when the loop ends: it closes with the last use.
                return start {
                    await gate.wait()
                    var causes: [IOError.Cause?] = []
                    causes.append(await ioError { try await pair.server.write("late") }?.cause)
                    causes.append(await ioError { try await pair.server.readToEnd(limit: 1) }?.cause)
                    causes.append(await ioError { try await listener.accept() }?.cause)
                    causes.append(await ioError { try await file.write([1]) }?.cause)
                    await pair.server.close()
                    await listener.close()
                    await file.close()
                    return causes
                }
            }
            gate.open()
            let causes = try await task.value
            let after = KernelObjects.count()
            // What earlier tests have dropped may close late.
            #expect(after["socket:", default: 0] <= before["socket:", default: 0])
            #expect(openFiles(in: folder) == 0)
            #expect(causes == Array(repeating: IOError.Cause.cancelled, count: 4))
        }

        // MARK: Misuse

        @Test func aLoopInALoopCrashes() async throws {
            let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                try EventLoop.run { try EventLoop.run {} }
            }
            expect(result, says: "this thread already runs an event loop")
        }

        @Test func anOperationOutsideOfALoopCrashes() async throws {
            let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                _ = try await TCPStream.connect(to: .loopback(port: 1))
            }
            expect(result, says: "TCPStream.connect was called outside of an event loop")
        }

        @Test func theExecutorOfAClosedLoopCrashes() async throws {
            let result = await #expect(processExitsWith: .failure, observing: [\.standardErrorContent]) {
                let closed = try EventLoop.run { EventLoop.current! }
                _ = closed.executor
            }
            expect(result, says: "this event loop is closed")
        }

        private func expect(
            _ result: ExitTest.Result?, says text: String, sourceLocation: SourceLocation = #_sourceLocation
        ) {
            let output = String(decoding: result?.standardErrorContent ?? [], as: UTF8.self)
            #expect(output.contains(text), "\(output)", sourceLocation: sourceLocation)
        }
    }
}

/// Makes a task ready while its loop closes, and gives other threads a while to run it.
private final class Closing: TimerCallback, @unchecked Sendable {
    // SAFETY: all that it has may be used by any thread.
    let gate: Gate
    let hasRun = ThreadSemaphore()
    let isOver = Counter()

    init(_ gate: Gate) { self.gate = gate }

    override func loopCloses(nanosecondsLeft: UInt64) {
        Thread.start { [gate] in gate.open() }.join()
        _ = hasRun.wait(until: monotonicNanoseconds() + 50_000_000)
        isOver.add()
    }
}

/// An actor of a loop.
private actor StepCounter {
    private let loop: EventLoop
    private(set) var count = 0
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }

    init(loop: EventLoop) { self.loop = loop }

    func count(after gate: Gate) async {
        await gate.wait()
        for _ in 0..<100 { await step() }
    }

    private func step() async {
        preconditionIsolated()
        count += 1
        await Task.yield()
    }
}
