// The state machines of Sources/Rondo/Sync, without tasks: each against a naive model.

import RondoTesting
import Testing

@testable import Rondo

@Suite struct SyncMachineTests {
    /// The seeds of random steps; `RONDO_SEED` is one more.
    private static let seeds = Array(1...20) + [Simulation.environmentSeed ?? 21]

    // MARK: Semaphore

    private struct SemaphoreModel: WaitModel {
        var available: Int
        var queue = NaiveQueue<Int, Bool>()

        mutating func tryAcquire(_ count: Int) -> Bool {
            guard queue.waiting.isEmpty, available >= count else { return false }
            available -= count
            return true
        }

        mutating func serve() -> [Woken<Bool>] {
            var woken: [Woken<Bool>] = []
            while let first = queue.waiting.first, first.request <= available {
                available -= first.request
                woken += queue.answer(true)
            }
            return woken
        }

        mutating func cancel(_ id: Int) -> [Woken<Bool>] {
            guard let left = queue.leave(id, false) else { return [] }
            return left.woken + serve()
        }
    }

    private typealias SemaphoreTrial = WaitTrial<SemaphoreMachine<Int>, SemaphoreModel>

    private static func semaphoreTrial(permits: Int) -> SemaphoreTrial {
        func acquire(_ count: Int) -> (inout SemaphoreTrial) -> Bool {
            { trial in
                let isGranted = trial.model.tryAcquire(count)
                guard let ticket = trial.machine.acquire(count) else { return isGranted }
                return !isGranted && trial.join(ticket, count)
            }
        }
        func release(_ count: Int) -> (inout SemaphoreTrial) -> Bool {
            { trial in
                let woken = trial.machine.release(count).all
                trial.model.available += count
                return woken == trial.model.serve() && agrees(trial)
            }
        }
        func agrees(_ trial: SemaphoreTrial) -> Bool {
            trial.machine.available == trial.model.available
                && trial.machine.waiting == trial.model.queue.waiting.count
        }
        let tryAcquire = { (trial: inout SemaphoreTrial) in
            trial.machine.tryAcquire(1) == trial.model.tryAcquire(1) && agrees(trial)
        }
        return WaitTrial(
            SemaphoreMachine(permits: permits), SemaphoreModel(available: permits),
            steps: [acquire(1), acquire(2), acquire(3), release(1), release(3), tryAcquire])
    }

    @Test func semaphoreInAllShortCases() {
        #expect(Self.semaphoreTrial(permits: 1).explore(depth: 5) > 100_000)
    }

    @Test(arguments: seeds) func semaphoreInLongRandomCases(seed: UInt64) {
        var trial = Self.semaphoreTrial(permits: 3)
        trial.wander(seed: seed, steps: 5000)
    }

    // MARK: Event and notify

    private struct EventModel: WaitModel {
        var isSet = false
        var queue = NaiveQueue<Void, Bool>()
        mutating func cancel(_ id: Int) -> [Woken<Bool>] { queue.leave(id, false)?.woken ?? [] }
    }

    private typealias EventTrial = WaitTrial<EventMachine<Int>, EventModel>

    @Test func eventInAllShortCases() {
        let wait = { (trial: inout EventTrial) in
            guard let ticket = trial.machine.wait() else { return trial.model.isSet }
            return !trial.model.isSet && trial.join(ticket, ())
        }
        let set = { (trial: inout EventTrial) in
            trial.model.isSet = true
            let woken = trial.machine.set().all
            return woken == trial.model.queue.answerAll(true) && trial.machine.isSet && trial.machine.waiting == 0
        }
        let trial = WaitTrial(EventMachine<Int>(), EventModel(), steps: [wait, set])
        #expect(trial.explore(depth: 6) > 100_000)
    }

    private typealias NotifyTrial = WaitTrial<NotifyMachine<Int>, EventModel>

    private static func notifyTrial() -> NotifyTrial {
        let wait = { (trial: inout NotifyTrial) in
            let wasNotified = trial.model.isSet
            trial.model.isSet = false
            guard let ticket = trial.machine.wait() else { return wasNotified }
            return !wasNotified && trial.join(ticket, ())
        }
        let notifyOne = { (trial: inout NotifyTrial) in
            let woken = trial.machine.notifyOne().all
            if !trial.model.queue.waiting.isEmpty { return woken == trial.model.queue.answer(true) }
            trial.model.isSet = true
            return woken.isEmpty && trial.machine.isNotified
        }
        let notifyAll = { (trial: inout NotifyTrial) in
            let woken = trial.machine.notifyAll().all
            return woken == trial.model.queue.answerAll(true) && trial.machine.isNotified == trial.model.isSet
        }
        return WaitTrial(NotifyMachine<Int>(), EventModel(), steps: [wait, wait, notifyOne, notifyAll])
    }

    @Test func notifyInAllShortCases() { #expect(Self.notifyTrial().explore(depth: 5) > 100_000) }

    @Test(arguments: seeds) func notifyInLongRandomCases(seed: UInt64) {
        var trial = Self.notifyTrial()
        trial.wander(seed: seed, steps: 5000)
    }

    // MARK: Watch

    private struct WatchModel: WaitModel {
        var version: UInt64 = 1
        var isFinished = false
        var queue = NaiveQueue<Void, WatchAnswer>()
        mutating func cancel(_ id: Int) -> [Woken<WatchAnswer>] { queue.leave(id, .cancelled)?.woken ?? [] }
    }

    private typealias WatchTrial = WaitTrial<WatchMachine<Int>, WatchModel>

    @Test func watchInAllShortCases() {
        func look(behind: UInt64) -> (inout WatchTrial) -> Bool {
            { trial in
                let seen = trial.model.version - min(behind, trial.model.version)
                switch trial.machine.look(seen: seen) {
                case .changed: return behind > 0
                case .finished: return behind == 0 && trial.model.isFinished
                case .mustWait(let ticket): return behind == 0 && !trial.model.isFinished && trial.join(ticket, ())
                }
            }
        }
        let update = { (trial: inout WatchTrial) in
            let woken = trial.machine.update()?.all
            if trial.model.isFinished { return woken == nil && trial.machine.version == trial.model.version }
            trial.model.version += 1
            return woken == trial.model.queue.answerAll(.changed) && trial.machine.version == trial.model.version
        }
        let finish = { (trial: inout WatchTrial) in
            trial.model.isFinished = true
            let woken = trial.machine.finish().all
            return woken == trial.model.queue.answerAll(.finished) && trial.machine.isFinished
        }
        let trial = WaitTrial(
            WatchMachine<Int>(), WatchModel(), steps: [look(behind: 0), look(behind: 1), update, finish])
        #expect(trial.explore(depth: 5) > 100_000)
    }

    // MARK: Once

    private struct OnceModel: WaitModel {
        var makers = 0
        var isMade = false
        var queue = NaiveQueue<Void, OnceAnswer>()
        mutating func cancel(_ id: Int) -> [Woken<OnceAnswer>] { queue.leave(id, .cancelled)?.woken ?? [] }
    }

    private typealias OnceTrial = WaitTrial<OnceMachine<Int>, OnceModel>

    @Test func onceInAllShortCases() {
        let look = { (trial: inout OnceTrial) in
            switch trial.machine.look() {
            case .made: return trial.model.isMade
            case .tryNow:
                trial.model.makers += 1
                return trial.model.makers == 1 && !trial.model.isMade
            case .mustWait(let ticket):
                return trial.model.makers == 1 && !trial.model.isMade && trial.join(ticket, ())
            }
        }
        let succeed = { (trial: inout OnceTrial) in
            if trial.model.makers == 0 || trial.model.isMade { return true }
            trial.model.makers = 0
            trial.model.isMade = true
            let woken = trial.machine.succeed().all
            return woken == trial.model.queue.answerAll(.made) && trial.machine.isMade && trial.machine.waiting == 0
        }
        let fail = { (trial: inout OnceTrial) in
            if trial.model.makers == 0 || trial.model.isMade { return true }
            let woken = trial.machine.fail().all
            // Whoever waits first makes it now: there is one maker as before.
            if !trial.model.queue.waiting.isEmpty { return woken == trial.model.queue.answer(.tryNow) }
            trial.model.makers = 0
            return woken.isEmpty
        }
        let trial = WaitTrial(OnceMachine<Int>(), OnceModel(), steps: [look, look, succeed, fail])
        #expect(trial.explore(depth: 5) > 100_000)
    }

    // MARK: Queue

    /// Tickets of waits that are over hit nobody, though their places are used again.
    @Test func lateTicketsHitNobody() {
        var queue = WaitQueue<Int, Void, Bool>()
        let first = queue.join(())
        #expect(queue.park(1, at: first) == nil)
        #expect(queue.answerFirst(true)?.token == 1)
        let second = queue.join(())
        #expect(queue.leave(first, answer: false) == nil)
        #expect(queue.count == 1)
        #expect(queue.park(2, at: second) == nil)
        #expect(queue.leave(first, answer: false) == nil)
        #expect(queue.leave(second, answer: false)?.wake?.token == 2)
        #expect(queue.isEmpty && queue.firstRequest == nil)
        #expect(queue.answerAll(true).all.isEmpty)
    }
}
