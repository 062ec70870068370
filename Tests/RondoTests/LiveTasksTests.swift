// A loop that is looked at knows which tasks are alive: none is forgotten while it lives, none is kept when it has
// ended.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct LiveTasksTests {
        /// Ids of the tasks that the current loop knows.
        private var known: Set<UInt64> {
            Set(loop.liveTasks!.notes().notes.map { JobReference(bits: $0.task)!.taskID })
        }

        @Test(arguments: World.allCases) func tasksAreKnownFromTheirFirstStepToTheirEnd(world: World) throws {
            try world.run { configuration in
                configuration.tracksTasks = true
            } _: {
                let before = known
                let gate = Gate()
                let tasks = (0..<100).map { _ in start { await gate.wait() } }
                await settle()
                #expect(known.subtracting(before).count == 100)
                await withDiscardingTaskGroup { group in
                    for _ in 0..<50 { group.addTask { await gate.wait() } }
                    await settle()
                    #expect(known.subtracting(before).count == 150)
                    gate.open()
                }
                for task in tasks { try await task.value }
                await settle()
                #expect(known.subtracting(before).count <= 100, "tasks that somebody holds are there until he lets go")
            }
        }

        @Test func slotsAreUsedAgain() throws {
            var configuration = LoopConfiguration()
            configuration.tracksTasks = true
            try EventLoop.run(configuration: configuration) {
                for _ in 0..<20 {
                    await withDiscardingTaskGroup { group in
                        for _ in 0..<1000 { group.addTask { await EventLoop.yield() } }
                    }
                    let (notes, next) = loop.liveTasks!.notes()
                    #expect(notes.count < 20)
                    #expect(next == nil)
                }
                #expect(loop.liveTasks!.missed == 0)
            }
        }

        /// Tasks begin on one loop, wander, and end on another.
        @Test func tasksMayEndOnOtherLoops() throws {
            var configuration = RuntimeConfiguration(loops: 3)
            configuration.loop.tracksTasks = true
            try Runtime.run(configuration) { runtime in
                for _ in 0..<10 {
                    await withDiscardingTaskGroup { group in
                        for number in 0..<300 {
                            group.addTask {
                                await EventLoop.yield()
                                await runtime.startTask(on: runtime.loops[number % 3]) { await EventLoop.yield() }.value
                            }
                        }
                    }
                }
                for other in runtime.loops {
                    let count = await withCheckedContinuation { continuation in
                        other.whenFree { continuation.resume(returning: other.liveTasks!.notes().notes.count) }
                    }
                    #expect(count < 50)
                }
            }
        }

        /// Those that another loop was offered are known, too, though they wait for ever after their first step.
        @Test func tasksThatMayMoveAreKnown() throws {
            var configuration = RuntimeConfiguration(loops: 2)
            configuration.loop.tracksTasks = true
            try Runtime.run(configuration) { runtime in
                for _ in 0..<50 {
                    let gate = Gate()
                    let tasks = Journal<UInt>()
                    await withDiscardingTaskGroup { group in
                        for _ in 0..<200 {
                            group.addTask {
                                tasks.add(currentTaskReference()!.bits)
                                await gate.wait()
                            }
                        }
                        while gate.waiting < 200 { await EventLoop.yield() }
                        var known: Set<UInt> = []
                        for other in runtime.loops {
                            known.formUnion(
                                await withCheckedContinuation { continuation in
                                    other.whenFree {
                                        continuation.resume(returning: other.liveTasks!.notes().notes.map(\.task))
                                    }
                                })
                        }
                        let unknown = Set(tasks.all).subtracting(known).count
                        #expect(unknown == 0, "of 200 tasks")
                        gate.open()
                    }
                }
            }
        }

        @Test func aTaskMayOutliveItsLoop() async throws {
            let gate = Gate()
            var configuration = LoopConfiguration()
            configuration.tracksTasks = true
            let task = try EventLoop.run(configuration: configuration) {
                let task = start { await gate.wait() }
                await settle()
                return task
            }
            // The next loop has the list now.
            try EventLoop.run(configuration: configuration) { await settle() }
            gate.open()
            try await task.value
        }
    }
}
