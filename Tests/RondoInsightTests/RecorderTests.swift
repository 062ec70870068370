// What the loop notes, and what a reader makes of it: in all worlds.

import RondoTesting
import Testing

@testable import Rondo
@testable import RondoInsight

extension InsightSuites {
    @Suite struct RecorderTests {
        @Test(arguments: TestWorld.allCases) func aTaskIsKnownByNameAndParent(world: TestWorld) throws {
            let trace = try world.record {
                let loop = EventLoop.current!
                let outer = Task(name: "outer", executorPreference: loop.executor) {
                    await withTaskGroup { group in
                        group.addTask(name: "child") { await EventLoop.yield() }
                    }
                    await Task(name: "made by outer", executorPreference: loop.executor) {}.value
                }
                await outer.value
                let long = String(repeating: "x", count: 50)
                await Task(name: long, executorPreference: loop.executor) {}.value
            }
            let model = TraceModel(trace)
            let outer = try model.task("outer")
            for (name, isChild) in [("child", true), ("made by outer", false)] {
                let task = model.tasks[try model.task(name)]
                #expect(task.parent == outer)
                #expect(task.isChild == isChild)
            }
            #expect(model.tasks.contains { $0.name == String(repeating: "x", count: 44) + "…" })
        }

        @Test func virtualTimeIsExact() throws {
            let trace = try TestWorld.simulated.record {
                let loop = EventLoop.current!
                let sleeper = Task(name: "sleeper", executorPreference: loop.executor) {
                    try await Task.sleep(for: .seconds(3))
                }
                try await sleeper.value
            }
            let model = TraceModel(trace)
            let stretches = model.stretches(of: try model.task("sleeper"))
            let waits = stretches.filter { $0.state == .waiting && !$0.isOpen }
            #expect(waits.map(\.duration) == [3_000_000_000])
            #expect(waits.map(\.wait) == [.sleep])
        }

        /// A recorded run takes the same steps as another: looking changes nothing.
        @Test(arguments: 1..<20 as Range<UInt64>) func recordingChangesNoOrder(seed: UInt64) throws {
            func journal(recorded: Bool) throws -> [Int] {
                let memory = try EventMemory(eventCapacity: 4096)
                return try Simulation.run(seed: seed) { _ in
                    let loop = EventLoop.current!
                    if recorded { await loop.record(into: memory) } else { _ = await unsafe loop.perform(.nothing) }
                    let journal = Lock<[Int]>([])
                    await withTaskGroup { group in
                        for number in 0..<40 {
                            group.addTask {
                                await EventLoop.yield()
                                if number % 3 == 0 { try? await Task.sleep(for: .milliseconds(number % 5)) }
                                journal.withLock { $0.append(number) }
                            }
                        }
                    }
                    loop.recording = nil
                    return journal.withLock { $0 }
                }
            }
            #expect(try journal(recorded: true) == journal(recorded: false))
        }

        @Test(arguments: TestWorld.allCases) func waitsSayWhatFor(world: TestWorld) throws {
            let trace = try world.record {
                let loop = EventLoop.current!
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let server = Task(name: "server", executorPreference: loop.executor) {
                    let stream = try await listener.accept()
                    while let chunk = try await stream.read() { try await stream.write(chunk) }
                }
                let stream = try await TCPStream.connect(to: listener.localAddress)
                for _ in 0..<3 {
                    try await Task.sleep(for: .milliseconds(1))
                    try await stream.write("hello")
                    _ = try await stream.read()
                }
                await stream.close()
                try await server.value
                await listener.close()
            }
            let model = TraceModel(trace)
            let server = model.stretches(of: try model.task("server"))
            let reads = server.filter {
                if case .operation(.receive, let descriptor) = $0.wait { return descriptor >= 0 }
                return false
            }
            #expect(reads.count >= 3)
            #expect(reads.contains { $0.result == 5 })
            #expect(model.operations[.accept, default: 0] >= 1)
            // A task does one thing at a time, and never two.
            for task in model.tasks.indices {
                let stretches = model.stretches(of: task).sorted { ($0.start, $0.end) < ($1.start, $1.end) }
                for (one, next) in zip(stretches, stretches.dropFirst()) { #expect(one.end <= next.start) }
            }
        }

        @Test(arguments: [TestWorld.machine, .epoll]) func callsOfThePoolAreTimed(world: TestWorld) throws {
            let trace = try world.record {
                let loop = EventLoop.current!
                await Task(name: "caller", executorPreference: loop.executor) {
                    for _ in 0..<3 { try? await offload { () } }
                }.value
            }
            let model = TraceModel(trace)
            let caller = try model.task("caller")
            let calls = model.offloads.filter { $0.task == caller }
            #expect(calls.count == 3)
            let waits = model.stretches(of: caller).filter { $0.wait == .operation(.offload, descriptor: -1) }
            #expect(waits.count == 3)
            for (call, wait) in zip(calls, waits) {
                #expect(call.start <= call.end)
                #expect(call.end <= wait.end)
            }
        }

        @Test func aWaitForATaskNamesIt() throws {
            let trace = try TestWorld.machine.record {
                let loop = EventLoop.current!
                let worker = Task(name: "worker", executorPreference: loop.executor) { await EventLoop.yield() }
                await Task(name: "waiter", executorPreference: loop.executor) { await worker.value }.value
            }
            let model = TraceModel(trace)
            let (worker, waiter) = (try model.task("worker"), try model.task("waiter"))
            #expect(model.stretches(of: waiter).contains { $0.wait == .task(worker) && $0.waker == worker })
            let yields = model.stretches(of: worker).map(\.state)
            #expect(yields.prefix(4) == [.ready, .running, .ready, .running])
        }

        @Test func theRingSaysWhatItDropped() throws {
            let trace = try TestWorld.machine.record(capacity: 1024) {
                for _ in 0..<2000 { await EventLoop.yield() }
            }
            let ring = trace.rings[0]
            #expect(ring.events.count == 1024)
            #expect(ring.recorded > 4000)
            #expect(ring.dropped == ring.recorded - 1024)
            #expect(TraceModel(trace).dropped == ring.dropped)
        }

        @Test func severalLoopsRecordIntoOneFile() throws {
            let memory = try EventMemory(EventMemoryLayout(loops: 3, eventCapacity: 5000), file: nil)
            try Runtime.run(RuntimeConfiguration(loops: 3)) { runtime in
                for loop in runtime.loops {
                    await runtime.startTask(on: loop, name: "attach") {
                        await EventLoop.current!.record(into: memory)
                    }.value
                }
                let tasks = runtime.loops.indices.map { number in
                    runtime.startTask(on: runtime.loops[number], name: "on \(number)") {
                        for _ in 0..<10 { await EventLoop.yield() }
                    }
                }
                for task in tasks { await task.value }
                for loop in runtime.loops {
                    await runtime.startTask(on: loop) { EventLoop.current!.recording = nil }.value
                }
            }
            let trace = try TraceFile(memory.bytes)
            #expect(trace.rings.map(\.loop) == [0, 1, 2])
            let model = TraceModel(trace)
            for number in 0..<3 { #expect(model.tasks[try model.task("on \(number)")].jobs == 11) }
        }

        /// Spans of two tasks cross, one is ended by another task, one by nobody; there are more names than room.
        @Test(arguments: TestWorld.allCases) func spansHaveTheirNamesTasksAndTimes(world: TestWorld) throws {
            let trace = try world.record {
                let loop = EventLoop.current!
                let first = Task(name: "first", executorPreference: loop.executor) {
                    await withTraceSpan("outer") {
                        await EventLoop.yield()
                        await withTraceSpan("inner") { try? await Task.sleep(for: .milliseconds(2)) }
                    }
                    return TraceSpan.begin("handed over")
                }
                let second = Task(name: "second", executorPreference: loop.executor) {
                    await withTraceSpan("outer") { await EventLoop.yield() }
                    _ = TraceSpan.begin("never ended")
                }
                await first.value.end()
                await second.value
                let long = String(repeating: "x", count: 100)
                await withTraceSpan(long) {}
                for number in 0..<300 { await withTraceSpan("name \(number)") {} }
            }
            let model = TraceModel(trace)
            func spans(_ task: String) throws -> [TraceSpanRecord] {
                let task = try model.task(task)
                return model.spans.filter { $0.task == task }
            }
            let (first, second) = (try spans("first"), try spans("second"))
            #expect(first.map(\.name) == ["outer", "inner", "handed over"])
            #expect(second.map(\.name) == ["outer", "never ended"])
            #expect((first + second).map(\.isOpen) == [false, false, false, false, true])
            #expect(first[1].duration >= 2_000_000 && first[0].duration >= first[1].duration)
            #expect(first[0].start <= first[1].start && first[1].end <= first[0].end && first[0].end <= first[2].start)
            let rest = model.spans.dropFirst(5)
            #expect(rest.first?.name == String(repeating: "x", count: 62) + "…")
            #expect(rest.count == 301 && rest.allSatisfy { !$0.isOpen })
            #expect(rest.filter { $0.name == "span" }.count == 301 - (256 - 4), "names beyond the room for them")
        }

        @Test func aSpanMayEndOnAForeignThread() throws {
            let trace = try TestWorld.machine.record {
                let span = TraceSpan.begin("elsewhere")
                await Task.detached { span.end() }.value
                await EventLoop.current!.record(into: EventLoop.current!.recording!)  // a turn, with what was sent
            }
            #expect(TraceModel(trace).spans.map(\.isOpen) == [false])
        }

        @Test(arguments: TestWorld.allCases) func marksAreTheRunningTasks(world: TestWorld) throws {
            let trace = try world.record {
                let loop = EventLoop.current!
                await Task(name: "marker", executorPreference: loop.executor) { loop.mark(42) }.value
            }
            let mark = try #require(trace.rings[0].events.first { $0.kind == .mark })
            #expect(mark.operation == 42)
            #expect(trace.rings[0].tasks.contains { $0.name == "marker" && $0.number == mark.task })
        }
    }
}
