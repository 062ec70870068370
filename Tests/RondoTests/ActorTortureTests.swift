// Actors of several loops, called by tasks of all kinds: whatever the way there and back, an actor's code runs on its
// loop's thread, one job at a time, and nothing is lost.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct ActorTortureTests {
        @Test(arguments: World.real, [1, 3]) func actorsStayAtHome(world: World, loops: Int) throws {
            let freed = Counter()
            let steps = Counter()
            try world.run(loops: loops) { runtime in
                let stations = runtime.loops.map { Station($0, steps, freed) }
                for station in stations { await station.meet(stations) }
                var tasks: [Task<Void, Never>] = []
                for number in 0..<120 {
                    let station = stations[number % loops]
                    let other = runtime.loops[(number / 3) % loops]
                    let priority: TaskPriority = [.background, .medium, .high][number / 7 % 3]
                    let body: @Sendable () async -> Void = {
                        for round in 0..<6 { await station.visit(seed: number &* 7 &+ round, depth: 3) }
                    }
                    switch number % 5 {
                    case 0: tasks.append(runtime.startTask(on: other, priority: priority) { await body() })
                    case 1: tasks.append(Task(executorPreference: other.executor, priority: priority) { await body() })
                    case 2: tasks.append(Task.detached(priority: priority) { await body() })
                    case 3: tasks.append(Task.immediate(priority: priority) { await body() })
                    default:
                        tasks.append(
                            Task(executorPreference: globalConcurrentExecutor, priority: priority) {
                                await withDiscardingTaskGroup { group in
                                    for _ in 0..<2 { group.addTask { await body() } }
                                }
                            })
                    }
                    if number % 11 == 10 { tasks[number].cancel() }
                }
                for task in tasks { await task.value }
                for station in stations { await station.leave() }
                // Those that are freed elsewhere come home for it.
                while freed.value < steps.value { await EventLoop.yield() }
            }
            #expect(steps.value >= 120 * 6)
        }
    }
}

/// An actor of a loop.
private actor Station {
    nonisolated let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
    private var others: [Station] = []
    private var isInside = false
    private let steps: Counter
    private let freed: Counter

    init(_ loop: EventLoop, _ steps: Counter, _ freed: Counter) {
        self.loop = loop
        (self.steps, self.freed) = (steps, freed)
    }

    func meet(_ others: [Station]) { self.others = others }
    func leave() { others = [] }

    /// Fails if it is not at home, or not alone there.
    private func check() {
        preconditionIsolated()
        precondition(loop.isOnOwnThread && !isInside)
        isInside = true
        for _ in 0..<10 { precondition(isInside) }
        isInside = false
        assumeIsolated { $0.isInside = false }
    }

    func visit(seed: Int, depth: Int) async {
        check()
        steps.add()
        let guest = Guest(loop, freed)
        let other = others[seed % others.count]
        switch (seed &* 31 &+ depth) % 9 {
        case 0: await EventLoop.yield()
        case 1: try? await Task.sleep(for: .microseconds(seed % 50))
        case 2: await Task.yield()
        case 3: _ = try? await withTimeout(.milliseconds(seed % 3)) { try await Task.sleep(for: .seconds(1000)) }
        case 4:
            let gate = Gate()
            Task.detached { gate.open() }
            await gate.wait()
        case 5:
            await withTaskGroup(of: Void.self) { group in
                for child in 0..<3 where depth > 0 {
                    group.addTask { await other.visit(seed: seed &+ child, depth: depth - 1) }
                }
            }
        case 6:
            async let first: Void = pass(to: other, seed, depth)
            async let second: Void = wander()
            _ = await (first, second)
        case 7: await Task.immediate { [self] in await pass(to: other, seed, depth) }.value
        default:
            await withTaskExecutorPreference(other.loop.executor) { @concurrent () async -> Void in
                precondition(other.loop.isOnOwnThread)
                await other.visit(seed: seed &+ 1, depth: 0)
                precondition(other.loop.isOnOwnThread)
            }
        }
        check()
        await guest.greet(freed)
        check()
    }

    private func pass(to other: Station, _ seed: Int, _ depth: Int) async {
        check()
        if depth > 0 { await other.visit(seed: seed &+ 3, depth: depth - 1) }
        check()
    }

    @concurrent private func wander() async { await EventLoop.yield() }
}

/// An actor that lives as long as a visit, and is freed on its loop.
private actor Guest {
    private let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
    private let freed: Counter

    init(_ loop: EventLoop, _ freed: Counter) { (self.loop, self.freed) = (loop, freed) }

    isolated deinit {
        precondition(loop.isOnOwnThread)
        preconditionIsolated()
        freed.add()
    }

    func greet(_ freed: Counter) { precondition(loop.isOnOwnThread && self.freed === freed) }
}
