// Several loops that share a program's tasks.

import CRondo
import Glibc
import Testing

@testable import Rondo

extension World {
    /// Runs `body` on several new loops, the first of which is the calling thread's, and checks that they leave no
    /// descriptor behind.
    func run<T: Sendable>(
        loops: Int, _ adjust: (inout LoopConfiguration) -> Void = { _ in },
        sourceLocation: SourceLocation = #_sourceLocation, _ body: sending @escaping (Runtime) async throws -> T
    ) throws -> T {
        var configuration = configuration
        adjust(&configuration)
        let before = KernelObjects()
        // SAFETY: sent to this function, which sends it on to the one task.
        nonisolated(unsafe) let body = body
        let result = Result {
            try Runtime.run(RuntimeConfiguration(loops: loops, loop: configuration)) { try await unsafe body($0) }
        }
        before.check(ignoring: [], sourceLocation)
        return try result.get()
    }
}

/// Waits until a loop of the runtime has nothing to do.
private func waitForIdleLoop(_ runtime: Runtime) async {
    while !runtime.group.hasIdle { await EventLoop.yield() }
}

extension LoopSuites {
    @Suite struct RuntimeTests {
        // MARK: Placing

        @Test(arguments: World.real) func everyLoopHasAThreadAndADriver(world: World) throws {
            try world.run(loops: 3) { runtime in
                #expect(runtime.loops.count == 3)
                #expect(Runtime.current?.loops.map(ObjectIdentifier.init) == runtime.loops.map(ObjectIdentifier.init))
                let threads = Journal(Int32.self)
                for own in runtime.loops {
                    #expect(own.driverName == world.driver?.rawValue)
                    let isThere = await Task(executorPreference: own.executor) {
                        threads.add(rondo_thread_id())
                        return EventLoop.current === own
                    }.value
                    #expect(isThere)
                }
                #expect(Set(threads.all).count == 3)
            }
        }

        @Test(arguments: World.real) func aNewTaskBeginsWhereItIsMade(world: World) throws {
            try world.run(loops: 2) { runtime in
                for own in runtime.loops {
                    let began = await Task(executorPreference: own.executor) {
                        await Task(executorPreference: runtime.executor) { EventLoop.current === own }.value
                    }.value
                    #expect(began)
                }
                let fresh = await runtime.startTask(on: runtime.loops[1]) { EventLoop.current === runtime.loops[1] }
                    .value
                #expect(fresh)
            }
        }

        /// The first task holds its thread until the second has run: on one loop they would wait for ever.
        @Test(arguments: World.real) func tasksThatPileUpAreMoved(world: World) throws {
            try world.run(loops: 2) { runtime in
                await waitForIdleLoop(runtime)
                let hasRun = ThreadSemaphore()
                await withTaskGroup { group in
                    group.addTask { hasRun.wait() }
                    for _ in 0..<3 { group.addTask { hasRun.signal() } }
                }
            }
        }

        /// What stood ready on a busy loop before another fell idle is moved too, at the end of a turn.
        @Test(arguments: World.real) func anOldBacklogIsMoved(world: World) throws {
            try world.run(loops: 2, { $0.batchJobs = 1 }) { runtime in
                // The other loop is held while the backlog comes up.
                let isHeld = Gate()
                let mayGoOn = ThreadSemaphore()
                let holder = Task(executorPreference: runtime.loops[1].executor) {
                    isHeld.open()
                    mayGoOn.wait()
                }
                // A wait would go on where the gate is opened: behind the holder.
                while !isHeld.isOpen { await EventLoop.yield() }
                // Who runs here holds the loop until one has run there.
                let hasRunThere = ThreadSemaphore()
                let tasks = (0..<64).map { _ in
                    Task(executorPreference: runtime.executor) {
                        if EventLoop.current === runtime.loops[0] { return hasRunThere.wait() }
                        for _ in 0..<64 { hasRunThere.signal() }
                    }
                }
                mayGoOn.signal()
                while !runtime.group.hasIdle { sched_yield() }
                for task in tasks { await task.value }
                await holder.value
            }
        }

        /// An `async let` can't be told from what waits deeper: it stays.
        @Test func aChildOfAsyncLetIsNotMovable() throws {
            try EventLoop.run {
                async let child: Void = {}()
                var kinds: [Bool] = []
                _ = loop.scheduler.remove(limit: 1) { job in
                    kinds.append(JobReference(job).isMovable)
                    return false
                }
                #expect(kinds == [false])
                await child
            }
        }

        @Test(arguments: World.real) func pinnedTasksAreNotMoved(world: World) throws {
            try world.run(loops: 3) { runtime in
                await waitForIdleLoop(runtime)
                await withTaskGroup { group in
                    for number in 0..<300 {
                        let own = runtime.loops[number % 3]
                        group.addTask(executorPreference: own.executor) {
                            for _ in 0..<20 {
                                #expect(EventLoop.current === own)
                                await EventLoop.yield()
                                await Task.yield()
                            }
                        }
                    }
                }
            }
        }

        /// A task that waits inside of a function may count on its thread; one that has not begun can't.
        @Test func onlyTasksInTheirOutermostFunctionAreMovable() throws {
            try EventLoop.run {
                let fresh = Task(executorPreference: loop.executor) {}
                #expect(reference(to: fresh).isMovable)
                let named = Task(name: "named", executorPreference: loop.executor) {}
                #expect(reference(to: named).isMovable)
                let gate = Gate()
                let inside = Task(executorPreference: loop.executor) { await waitDeeper(gate) }
                let immediate = Task.immediate { await waitDeeper(gate) }
                await settle()
                #expect(gate.waiting == 2)
                #expect(!reference(to: inside).isMovable)
                #expect(!reference(to: immediate).isMovable)
                gate.open()
                for task in [fresh, named, inside, immediate] { await task.value }
            }
        }

        // MARK: Streams and timers from everywhere

        @Test(arguments: World.real) func streamsMayBeUsedFromEveryLoop(world: World) throws {
            try world.run(loops: 3) { runtime in
                var pairs: [Pair] = []
                for own in runtime.loops {
                    let task = Task(executorPreference: own.executor) { try await connectedPair() }
                    pairs.append(try await task.value)
                }
                // Each pair's two ends are driven by tasks of the other loops, and by an actor of nobody's.
                try await withThrowingTaskGroup { group in
                    for (number, pair) in pairs.enumerated() {
                        let reads = runtime.loops[(number + 1) % 3].executor
                        let writes = runtime.loops[(number + 2) % 3].executor
                        group.addTask(executorPreference: writes) {
                            for round in 0..<200 { try await pair.client.write([UInt8(round)]) }
                            try await pair.client.finishWriting()
                        }
                        group.addTask(executorPreference: reads) {
                            let all = try await Relay(pair.server).readAll()
                            #expect(all == (0..<200).map { UInt8($0) })
                        }
                    }
                    try await group.waitForAll()
                }
                for pair in pairs { await pair.close() }
            }
        }

        private actor Relay {
            private let stream: TCPStream
            init(_ stream: TCPStream) { self.stream = stream }
            func readAll() async throws -> [UInt8] {
                var all: [UInt8] = []
                while let chunk = try await stream.read(upTo: 3) { all.append(copying: chunk.bytes) }
                return all
            }
        }

        /// The timer is freed on its own loop, though the sleeper goes on where it was cancelled.
        @Test(arguments: World.real) func aSleepIsCancelledFromAnotherLoop(world: World) throws {
            try world.run(loops: 2) { runtime in
                let first = runtime.loops[0]
                let second = runtime.loops[1]
                for _ in 0..<20 {
                    let sleepers = (0..<10).map { _ in
                        runtime.startTask(on: first) { try? await Task.sleep(for: .seconds(3600)) }
                    }
                    while await first.statistics.timers < 10 { await EventLoop.yield() }
                    let cancel = Task(executorPreference: second.executor) {
                        for sleeper in sleepers { sleeper.cancel() }
                    }
                    await cancel.value
                    for sleeper in sleepers { await sleeper.value }
                    while await first.statistics.timers > 0 { await EventLoop.yield() }
                }
            }
        }

        @Test(arguments: World.real) func timeLimitsHoldOnEveryLoop(world: World) throws {
            try world.run(loops: 3) { runtime in
                await withTaskGroup { group in
                    for number in 0..<60 {
                        group.addTask(executorPreference: number % 2 == 0 ? runtime.loops[number % 3].executor : nil) {
                            await #expect(throws: TimeoutError(limit: .milliseconds(2))) {
                                try await withTimeout(.milliseconds(2)) { try await Task.sleep(for: .seconds(3600)) }
                            }
                        }
                    }
                }
            }
        }

        // MARK: Serving

        @Test(arguments: World.real) func connectionsGoToTheLoopsInTurn(world: World) throws {
            try world.run(loops: 3) { runtime in
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let places = Journal(ObjectIdentifier.self)
                let serving = Task(executorPreference: runtime.executor) {
                    await ioError {
                        try await listener.serve(over: runtime) { stream in
                            places.add(ObjectIdentifier(stream.loop))
                            #expect(EventLoop.current === stream.loop)
                            while let chunk = try await stream.read() { try await stream.write(chunk) }
                        }
                    }
                }
                try await withThrowingTaskGroup { group in
                    for number in 0..<30 {
                        group.addTask {
                            let stream = try await TCPStream.connect(to: listener.localAddress)
                            for round in 0..<50 {
                                let message = [UInt8(number), UInt8(round)]
                                try await stream.write(message)
                                let answer = try await stream.readExactly(2)
                                #expect(answer == message)
                            }
                            await stream.close()
                        }
                    }
                    try await group.waitForAll()
                }
                for own in runtime.loops {
                    #expect(places.all.count { $0 == ObjectIdentifier(own) } == 10)
                }
                serving.cancel()
                #expect(await serving.value?.isCancellation == true)
                await listener.close()
            }
        }

        @Test(arguments: World.real) func handlersEndWithTheServer(world: World) throws {
            try world.run(loops: 3) { runtime in
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let began = Counter()
                let ended = Counter()
                let serving = Task(executorPreference: runtime.executor) {
                    _ = await ioError {
                        try await listener.serve(over: runtime) { stream in
                            began.add()
                            _ = try? await stream.read()
                            ended.add()
                        }
                    }
                    return ended.value
                }
                var clients: [TCPStream] = []
                for _ in 0..<7 { clients.append(try await TCPStream.connect(to: listener.localAddress)) }
                while began.value < 7 { await EventLoop.yield() }
                serving.cancel()
                #expect(await serving.value == 7)
                for client in clients { await client.close() }
                await listener.close()
            }
        }

        // MARK: Life

        /// Loops start and end again and again, while every task that was started is run to its end.
        @Test(arguments: World.real) func noTaskIsLostWhileLoopsComeAndGo(world: World) throws {
            let ended = Counter()
            for _ in 0..<20 {
                try world.run(loops: 3) { runtime in
                    await withTaskGroup { group in
                        for number in 0..<200 {
                            group.addTask {
                                if number % 3 == 0 { await EventLoop.yield() }
                                if number % 5 == 0 { try? await Task.sleep(for: .microseconds(10)) }
                                ended.add()
                            }
                        }
                    }
                }
            }
            #expect(ended.value == 20 * 200)
        }

        @Test func tasksOutliveTheirRuntime() async throws {
            let gate = Gate()
            let tasks = try await World.epoll.runtimeElsewhere(loops: 2) { runtime in
                let tasks = (0..<20).map { number in
                    runtime.startTask(on: runtime.loops[number % 2]) {
                        await gate.wait()
                        await Task.yield()
                        return number
                    }
                }
                while gate.waiting < 20 { await EventLoop.yield() }
                return tasks
            }
            gate.open()
            for (number, task) in tasks.enumerated() { #expect(await task.value == number) }
        }

        @Test func numbersOfLoopsThatMakeNoSense() {
            for count in [0, -1, 65] {
                let error = #expect(throws: IOError.self) {
                    try Runtime.run(RuntimeConfiguration(loops: count)) { _ in }
                }
                #expect(error.map { "\($0)" } == "start \(count) event loops: there may be 1 to 64 of them")
            }
        }

        @Test func limitsOfCgroupsAreRead() {
            #expect(Processors.limit(inSetting: "150000 100000\n") == 1.5)
            #expect(Processors.limit(inSetting: "max 100000\n") == nil)
            for nonsense in ["", "1", "a b", "1 0", "-1 5", "1 2 3"] {
                #expect(Processors.limit(inSetting: nonsense) == nil)
            }
            #expect((1...1024).contains(Processors.available))
        }
    }
}

extension World {
    /// As `run(loops:)`, on a thread of its own.
    fileprivate func runtimeElsewhere<T: Sendable>(
        loops: Int, _ body: sending @escaping (Runtime) async throws -> T
    ) async throws -> T {
        // SAFETY: sent to this function, which sends it on to the one thread.
        nonisolated(unsafe) let body = body
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detach {
                continuation.resume(
                    with: Result {
                        try Runtime.run(RuntimeConfiguration(loops: loops, loop: configuration)) {
                            try await unsafe body($0)
                        }
                    })
            }
        }
    }
}

private func waitDeeper(_ gate: Gate) async {
    await gate.wait()
    withExtendedLifetime(gate) {}
}

/// A task as the loop sees it.
private func reference<T, E: Error>(to task: Task<T, E>) -> JobReference {
    JobReference(bits: unsafe unsafeBitCast(task, to: UInt.self))!
}
