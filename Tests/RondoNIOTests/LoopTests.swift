// A loop's NIO face: closures, scheduled tasks, futures, groups.

import Dispatch
import NIOCore
import Rondo
import RondoNIO
import Synchronization
import Testing

private func fail() { Issue.record("a cancelled task ran") }

@Suite struct LoopTests {
    @Test(arguments: drivers) func closuresRunInOrderOnTheLoop(_ driver: DriverKind) throws {
        try run(driver) {
            let loop = Loop.current!.nio
            #expect(loop === Loop.current!.nio && loop === NIOLoop.current)
            #expect(loop.inEventLoop)
            let order = Mutex<[Int]>([])
            for number in 0..<100 {
                loop.execute {
                    loop.preconditionInEventLoop()
                    order.withLock { $0.append(number) }
                }
            }
            #expect(order.withLock { $0.isEmpty }, "never at once")
            try await loop.submit {}.get()
            #expect(order.withLock { $0 } == Array(0..<100))
        }
    }

    @Test(arguments: drivers) func otherThreadsHandOver(_ driver: DriverKind) throws {
        try run(driver) {
            let loop = Loop.current!.nio
            let sum = try await withCheckedThrowingContinuation { continuation in
                DispatchQueue.global().async {
                    #expect(!loop.inEventLoop)
                    var last = loop.makeSucceededFuture(0)
                    for number in 1...1000 {
                        let next = loop.submit {
                            #expect(loop.inEventLoop)
                            return number
                        }
                        last = last.and(next).map { $0 + $1 }
                    }
                    last.whenComplete { continuation.resume(with: $0) }
                }
            }
            #expect(sum == 500_500)
        }
    }

    @Test(arguments: drivers) func aClosureThatAddsClosuresKeepsNobodyWaiting(_ driver: DriverKind) throws {
        try run(driver) {
            let loop = Loop.current!.nio
            let rounds = Mutex(0)
            @Sendable func again() {
                let round = rounds.withLock {
                    $0 += 1
                    return $0
                }
                if round < 1_000_000 { loop.execute { again() } }
            }
            again()
            for _ in 0..<10 { await Loop.yield() }
            #expect(rounds.withLock { $0 } < 1000)
            rounds.withLock { $0 = 1_000_000 }
        }
    }

    @Test(arguments: drivers) func scheduledTasksRunByDeadline(_ driver: DriverKind) throws {
        try run(driver) {
            let loop = Loop.current!.nio
            let order = Mutex<[Int]>([])
            let start = NIODeadline.now()
            let delays = [7, 1, 5, 3, 1, 9, 0, 3]
            let all = delays.enumerated().map { index, delay in
                loop.scheduleTask(deadline: start + .milliseconds(Int64(delay))) {
                    #expect(NIODeadline.now() >= start + .milliseconds(Int64(delay)))
                    order.withLock { $0.append(index) }
                }.futureResult
            }
            try await EventLoopFuture.andAllSucceed(all, on: loop).get()
            #expect(order.withLock { $0 } == [6, 1, 4, 3, 7, 2, 0, 5])
        }
    }

    @Test(arguments: drivers) func cancelledTasksDoNotRun(_ driver: DriverKind) throws {
        try run(driver) {
            let loop = Loop.current!.nio
            let far = loop.scheduleTask(in: .hours(1)) { fail() }
            let near = loop.scheduleTask(in: .hours(2)) { fail() }
            let kept = loop.scheduleTask(in: .milliseconds(3)) { 3 }
            far.cancel()
            await withCheckedContinuation { continuation in
                DispatchQueue.global().async {
                    near.cancel()
                    continuation.resume()
                }
            }
            #expect(await failure { try await far.futureResult.get() } as? EventLoopError == .cancelled)
            #expect(await failure { try await near.futureResult.get() } as? EventLoopError == .cancelled)
            let value = try await kept.futureResult.get()
            #expect(value == 3)
        }
    }

    @Test(arguments: drivers) func aTaskCancelsItsNeighbour(_ driver: DriverKind) throws {
        try run(driver) {
            let loop = Loop.current!.nio
            let deadline = NIODeadline.now() + .milliseconds(1)
            let other = Mutex<Scheduled<Void>?>(nil)
            let first = loop.scheduleTask(deadline: deadline) { other.withLock { $0 }!.cancel() }
            let second = loop.scheduleTask(deadline: deadline) { fail() }
            other.withLock { $0 = second }
            try await first.futureResult.get()
            #expect(await failure { try await second.futureResult.get() } as? EventLoopError == .cancelled)
            other.withLock { $0 = nil }
        }
    }

    @Test(arguments: drivers) func repeatedTasksAndFailures(_ driver: DriverKind) throws {
        struct Trouble: Error {}
        try run(driver) {
            let loop = Loop.current!.nio
            let count = Mutex(0)
            let done = loop.makePromise(of: Void.self)
            let repeated = loop.scheduleRepeatedTask(initialDelay: .zero, delay: .milliseconds(1)) { task in
                let count = count.withLock {
                    $0 += 1
                    return $0
                }
                if count == 5 { task.cancel(promise: done) }
            }
            try await done.futureResult.get()
            #expect(count.withLock { $0 } == 5)
            withExtendedLifetime(repeated) {}
            let failed = loop.scheduleTask(in: .zero) { throw Trouble() }
            #expect(await failure { try await failed.futureResult.get() } is Trouble)
        }
    }

    @Test(arguments: drivers) func manyTimersComeAndGo(_ driver: DriverKind) throws {
        try run(driver) {
            let loop = Loop.current!.nio
            var generator = SystemRandomNumberGenerator()
            var kept: [EventLoopFuture<NIODeadline>] = []
            for _ in 0..<2000 {
                let deadline = NIODeadline.now() + .microseconds(Int64.random(in: 0..<5000, using: &generator))
                let timer = loop.scheduleTask(deadline: deadline) {
                    #expect(NIODeadline.now() >= deadline)
                    return deadline
                }
                if Bool.random(using: &generator) { kept.append(timer.futureResult) } else { timer.cancel() }
            }
            let fired = try await EventLoopFuture.whenAllSucceed(kept, on: loop).get()
            #expect(fired.count == kept.count)
        }
    }

    @Test(arguments: drivers) func anActorLivesOnIt(_ driver: DriverKind) throws {
        actor Counter {
            let loop: NIOLoop
            nonisolated var unownedExecutor: UnownedSerialExecutor { unsafe loop.asUnownedSerialExecutor() }
            var count = 0
            init(_ loop: NIOLoop) { self.loop = loop }
            func add() -> Bool {
                count += 1
                return loop.inEventLoop
            }
        }
        try run(driver) {
            let counter = Counter(Loop.current!.nio)
            #expect(await counter.add())
            let isThere = try await withEventLoop { _ in await counter.add() }
            #expect(isThere)
            #expect(await counter.count == 2)
        }
    }

    @Test(arguments: drivers) func promisesOutliveTheLoop(_ driver: DriverKind) async throws {
        let promises = Mutex<[EventLoopPromise<Int>]>([])
        let timer = Mutex<Scheduled<Int>?>(nil)
        try run(driver) {
            let loop = Loop.current!.nio
            promises.withLock { $0 = [loop.makePromise(), loop.makePromise()] }
            timer.withLock { $0 = loop.scheduleTask(in: .milliseconds(20)) { 3 } }
        }
        let sum = promises.withLock { $0[0].futureResult.and($0[1].futureResult).map { $0 + $1 } }
        promises.withLock {
            $0[0].succeed(1)
            $0[1].succeed(2)
        }
        #expect(try await sum.get() == 3)
        let late = timer.withLock { $0!.futureResult }
        #expect(try await late.get() == 3)
        timer.withLock { $0 = nil }
        promises.withLock { $0 = [] }
    }

    @Test(arguments: drivers) func shuttingDownEndsWhatIsThere(_ driver: DriverKind) throws {
        try run(driver) {
            let loop = Loop.current!.nio
            let recorder = Recorder()
            let (channel, peer) = try await pair { try $0.pipeline.syncOperations.addHandler(recorder) }
            let timer = loop.scheduleTask(in: .hours(1)) {}
            try await loop.shutdownGracefully()
            #expect(await failure { try await timer.futureResult.get() } as? EventLoopError == .shutdown)
            #expect(!channel.isActive)
            #expect(recorder.events.contains("inactive"))
            #expect(try await peer.read() == nil)
            await peer.close()
            let late = loop.scheduleTask(in: .zero) {}
            #expect(await failure { try await late.futureResult.get() } as? EventLoopError == .shutdown)
        }
    }

    @Test func aGroupIsTheRuntimesLoops() throws {
        var configuration = RuntimeConfiguration(loops: 2)
        configuration.isInspectable = false
        try Runtime.run(configuration) { runtime in
            let group = NIOLoopGroup(runtime)
            #expect(group.loops.map { ObjectIdentifier($0.loop) } == runtime.loops.map { ObjectIdentifier($0) })
            #expect(group.next() !== group.next())
            let own = group.any()
            #expect(own.inEventLoop)
            let other = try #require(group.loops.first { !$0.inEventLoop })
            let isThere = try await other.submit { other.inEventLoop && !own.inEventLoop }.get()
            #expect(isThere)
            #expect(Array(group.makeIterator()).count == 2)
        }
    }
}
