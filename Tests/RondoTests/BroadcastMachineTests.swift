// A broadcast's state machine against a log of all that was sent, and a rate limiter's against a bucket that is filled
// nanosecond by nanosecond.

import RondoTesting
import Testing

@testable import Rondo

@Suite struct BroadcastMachineTests {
    private static let seeds = Array(1...20) + [Simulation.environmentSeed ?? 21]

    private struct BroadcastModel: WaitModel {
        let capacity: Int
        /// Values that were sent while somebody subscribed; they are numbered.
        var sent: UInt64 = 0
        /// The number of the next value, by the subscriber's place.
        var subscribers: [Int: UInt64] = [:]
        var isFinished = false
        /// The values in the machine's slots.
        var slots: [Int: UInt64] = [:]
        var queue = NaiveQueue<Void, BroadcastAnswer>()

        mutating func cancel(_ id: Int) -> [Woken<BroadcastAnswer>] { queue.leave(id, .cancelled)?.woken ?? [] }

        var oldest: UInt64 { sent - min(sent, UInt64(capacity)) }
        /// What somebody must still see.
        var kept: Int { subscribers.isEmpty ? 0 : Int(sent - max(oldest, subscribers.values.min()!)) }
    }

    private typealias BroadcastTrial = WaitTrial<BroadcastMachine<Int>, BroadcastModel>

    private static func broadcastTrial(capacity: Int, ends: Bool) -> BroadcastTrial {
        func agrees(_ trial: BroadcastTrial) -> Bool {
            trial.machine.kept.count == trial.model.kept && trial.model.slots.count == trial.model.kept
                && trial.machine.subscriberCount == trial.model.subscribers.count
                && trial.machine.waiting == trial.model.queue.waiting.count
        }
        func look(_ place: Int) -> (inout BroadcastTrial) -> Bool {
            { trial in
                guard let next = trial.model.subscribers[place] else { return true }
                let oldest = trial.model.oldest
                switch trial.machine.look(place) {
                case .missed(let count):
                    trial.model.subscribers[place] = oldest
                    return next < oldest && UInt64(count) == oldest - next && agrees(trial)
                case .value(let slot, let isLast):
                    let value = trial.model.slots[slot]
                    if isLast { trial.model.slots[slot] = nil }
                    trial.model.subscribers[place] = next + 1
                    return next >= oldest && value == next && agrees(trial)
                case .finished: return next == trial.model.sent && trial.model.isFinished
                case .empty:
                    return next == trial.model.sent && !trial.model.isFinished
                        && trial.join(trial.machine.wait(), ())
                }
            }
        }
        func leave(_ place: Int) -> (inout BroadcastTrial) -> Bool {
            { trial in
                guard trial.model.subscribers.removeValue(forKey: place) != nil else { return true }
                for slot in trial.machine.unsubscribe(place) where trial.model.slots.removeValue(forKey: slot) == nil {
                    return false
                }
                return agrees(trial)
            }
        }
        let subscribe = { (trial: inout BroadcastTrial) in
            if trial.model.subscribers.count == 3 { return true }
            let place = trial.machine.subscribe()
            return trial.model.subscribers.updateValue(trial.model.sent, forKey: place) == nil && agrees(trial)
        }
        let send = { (trial: inout BroadcastTrial) in
            guard let sending = trial.machine.send() else { return trial.model.isFinished }
            if let dropped = sending.dropped, trial.model.slots.removeValue(forKey: dropped) == nil { return false }
            if trial.model.subscribers.isEmpty { return sending.slot == nil && agrees(trial) }
            guard let slot = sending.slot, trial.model.slots.updateValue(trial.model.sent, forKey: slot) == nil else {
                return false
            }
            trial.model.sent += 1
            return sending.wakes.all == trial.model.queue.answerAll(.look) && agrees(trial)
        }
        let finish = { (trial: inout BroadcastTrial) in
            trial.model.isFinished = true
            let woken = trial.machine.finish().all
            return woken == trial.model.queue.answerAll(.look) && trial.machine.isFinished
        }
        let steps = [subscribe, send, send, look(0), look(1), look(2), leave(0), leave(1)]
        return WaitTrial(
            BroadcastMachine(capacity: capacity), BroadcastModel(capacity: capacity),
            steps: ends ? steps + [finish] : steps)
    }

    @Test(arguments: [1, 2]) func broadcastInAllShortCases(capacity: Int) {
        var trial = Self.broadcastTrial(capacity: capacity, ends: true)
        // Two subscribers to begin with.
        #expect(trial.step(0) && trial.step(0))
        #expect(trial.explore(depth: 4) > 20_000)
    }

    @Test(arguments: seeds) func broadcastInLongRandomCases(seed: UInt64) {
        var trial = Self.broadcastTrial(capacity: Int(seed % 4) + 1, ends: false)
        trial.wander(seed: seed, steps: 5000)
        #expect(trial.model.sent > 100)
    }

    // MARK: Rate

    private struct RateModel: WaitModel {
        let permits: Int
        let cost: Int
        let full: Int
        var level: Int
        var time: UInt64 = 0
        /// What the first wants.
        var first: Int?
        var queue = NaiveQueue<Int, RateAnswer>()

        mutating func cancel(_ id: Int) -> [Woken<RateAnswer>] { queue.leave(id, .cancelled)?.woken ?? [] }

        mutating func advance(_ nanoseconds: Int) {
            for _ in 0..<nanoseconds {
                time += 1
                level = min(full, level + permits)
            }
        }

        mutating func take(_ count: Int) -> Bool {
            if level < count * cost { return false }
            level -= count * cost
            return true
        }

        /// When there will be `count` permits.
        func deadline(_ count: Int) -> UInt64 {
            var later = self
            while later.level < count * cost { later.advance(1) }
            return later.time
        }

        mutating func leave() -> [Woken<RateAnswer>] {
            first = queue.waiting.first?.request
            return first == nil ? [] : queue.answer(.first)
        }
    }

    private typealias RateTrial = WaitTrial<RateMachine<Int>, RateModel>

    private static func rateTrial(permits: Int, period: Int, burst: Int) -> RateTrial {
        func acquire(_ count: Int) -> (inout RateTrial) -> Bool {
            { trial in
                let hadFirst = trial.model.first != nil
                switch trial.machine.acquire(count, at: trial.model.time) {
                case .granted: return !hadFirst && trial.model.take(count)
                case .mustSleep(let deadline):
                    trial.model.first = count
                    return !hadFirst && deadline > trial.model.time && deadline == trial.model.deadline(count)
                case .mustWait(let ticket): return hadFirst && trial.join(ticket, count)
                }
            }
        }
        let retry = { (trial: inout RateTrial) in
            guard let count = trial.model.first else { return true }
            switch trial.machine.retry(count, at: trial.model.time) {
            case .granted(let wakes): return trial.model.take(count) && wakes.all == trial.model.leave()
            case .mustSleep(let deadline):
                return deadline > trial.model.time && deadline == trial.model.deadline(count)
            }
        }
        let leave = { (trial: inout RateTrial) in
            if trial.model.first == nil { return true }
            return trial.machine.leave().all == trial.model.leave()
        }
        let tryAcquire = { (trial: inout RateTrial) in
            let isGranted = trial.machine.tryAcquire(1, at: trial.model.time)
            return isGranted == (trial.model.first == nil && trial.model.take(1))
        }
        func advance(_ nanoseconds: Int) -> (inout RateTrial) -> Bool {
            { trial in
                trial.model.advance(nanoseconds)
                return trial.machine.available(at: trial.model.time) == trial.model.level / trial.model.cost
                    && trial.machine.waiting == trial.model.queue.waiting.count + (trial.model.first == nil ? 0 : 1)
            }
        }
        return WaitTrial(
            RateMachine(permits: permits, periodNanoseconds: UInt64(period), burst: burst, time: 0),
            RateModel(permits: permits, cost: period, full: burst * period, level: burst * period),
            steps: [acquire(1), acquire(burst), retry, leave, tryAcquire, advance(1), advance(5)])
    }

    @Test func rateInAllShortCases() {
        #expect(Self.rateTrial(permits: 2, period: 7, burst: 2).explore(depth: 4) > 20_000)
    }

    @Test(arguments: seeds) func rateInLongRandomCases(seed: UInt64) {
        var trial = Self.rateTrial(permits: Int(seed % 7) + 1, period: Int(seed % 11) + 3, burst: Int(seed % 3) + 1)
        trial.wander(seed: seed, steps: 5000)
    }

    /// A clock that goes back, as from one thread to another it may by a little, takes nothing away.
    @Test func timeThatGoesBackTakesNothing() {
        var machine = RateMachine<Int>(permits: 1, periodNanoseconds: 10, burst: 2, time: 100)
        #expect(machine.tryAcquire(2, at: 100) == true)
        #expect(machine.available(at: 110) == 1)
        #expect(machine.available(at: 90) == 1)
        #expect(machine.tryAcquire(1, at: 90) == true)
        #expect(machine.available(at: 119) == 0)
        #expect(machine.available(at: 120) == 1)
    }
}
