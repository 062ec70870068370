import RondoTesting
import Testing

@testable import Rondo

@Suite struct TimerWheelTests {
    /// A timer that notes when it fires.
    private final class Note: TimerCallback {
        let number: Int
        let log: Log<Int>
        var then: (() -> Void)?
        init(_ number: Int, _ log: Log<Int>) {
            self.number = number
            self.log = log
        }
        override func fire() {
            log.add(number)
            then?()
        }
    }

    /// What the wheel must do: a list sorted by deadline, then by age.
    private struct Model {
        var timers: [(deadline: UInt64, number: Int, index: TimerWheel.Index)] = []

        mutating func takeDue(at now: UInt64) -> [Int] {
            let due = timers.filter { $0.deadline <= now }
            timers.removeAll { $0.deadline <= now }
            return due.enumerated().sorted { ($0.element.deadline, $0.offset) < ($1.element.deadline, $1.offset) }
                .map(\.element.number)
        }
    }

    @Test func whatFiresLateIsCounted() {
        let wheel = TimerWheel(time: 1000)
        let log = Log<Int>()
        func set(_ deadline: UInt64) -> TimerWheel.Index {
            wheel.add(deadline: deadline, target: .callback(Note(0, log)))
        }
        _ = [900, 1100, 1200].map(set)
        wheel.remove(set(1001))
        wheel.advance(to: 1100) { _ in }
        #expect(wheel.lateness.count == 2)
        #expect(wheel.lateness.maxNanoseconds == 200)
        #expect(wheel.lateness.count(upTo: 0) == 1)
        wheel.advance(to: 5200) { _ in }
        #expect(wheel.lateness.count == 3)
        #expect(wheel.lateness.maxNanoseconds == 4000)
    }

    @Test(arguments: 0..<40 as Range<UInt64>)
    func itIsASortedList(seed: UInt64) {
        var numbers = SeededGenerator(seed: seed)
        var now = numbers.next() >> 20
        let wheel = TimerWheel(time: now)
        var model = Model()
        let log = Log<Int>()
        var total = 0
        var fired = 0
        /// A span of up to some nanoseconds, microseconds, …, days.
        func span() -> UInt64 { numbers.next() >> (18 + numbers.next() % 44) }
        for _ in 0..<3000 {
            switch numbers.next() % 8 {
            case 0...3:
                // A few are past already, many are equal.
                let deadline =
                    numbers.next() % 10 == 0 ? now - min(now, span()) : model.timers.last?.deadline ?? now
                let chosen = numbers.next() % 3 == 0 ? deadline : now + span()
                let index = wheel.add(deadline: chosen, target: .callback(Note(total, log)))
                model.timers.append((chosen, total, index))
                total += 1
            case 4...5:
                if model.timers.isEmpty { continue }
                let victim = model.timers.remove(at: Int(numbers.next() % UInt64(model.timers.count)))
                guard case .callback(let callback) = wheel.remove(victim.index) else { crash("no callback") }
                #expect((callback as? Note)?.number == victim.number)
            case 6:
                now += span()
                wheel.advance(to: now) { fire($0) }
            default:
                // To the very moment at which the loop would look again.
                let earliest = wheel.earliest
                if earliest == .max { continue }
                #expect(earliest <= model.timers.map(\.deadline).min() ?? 0, "seed \(seed)")
                now = max(now, earliest)
                wheel.advance(to: now) { fire($0) }
            }
            // Past deadlines are due at once, whatever their order among themselves is: by deadline.
            let expected = log.entries.count > fired ? model.takeDue(at: now) : []
            #expect(Array(log.entries[fired...]) == expected, "seed \(seed)")
            fired = log.entries.count
            #expect(wheel.count == model.timers.count, "seed \(seed)")
        }
        wheel.advance(to: .max - 1) { fire($0) }
        #expect(Array(log.entries[fired...]) == model.takeDue(at: .max), "seed \(seed)")
        #expect(wheel.count == 0 && wheel.earliest == .max)
    }

    private func fire(_ target: TimerWheel.Target) {
        if case .callback(let callback) = target { callback.fire() }
    }

    @Test func nothingFiresBeforeItsTimeOrLate() {
        for seed in 0..<40 as Range<UInt64> {
            var numbers = SeededGenerator(seed: seed)
            let wheel = TimerWheel(time: 1000)
            let log = Log<Int>()
            var deadlines: [UInt64] = []
            for number in 0..<200 {
                let deadline = 1000 + numbers.next() >> (24 + numbers.next() % 38)
                deadlines.append(deadline)
                _ = wheel.add(deadline: deadline, target: .callback(Note(number, log)))
            }
            // As a loop does: from one announced time to the next.
            var rounds = 0
            while wheel.count > 0 {
                let now = wheel.earliest
                let before = log.entries.count
                wheel.advance(to: now) { fire($0) }
                for number in log.entries[before...] { #expect(deadlines[number] == now, "seed \(seed)") }
                rounds += 1
            }
            #expect(rounds == Set(deadlines).count, "seed \(seed)")
        }
    }

    @Test func equalsKeepTheirOrder() {
        let wheel = TimerWheel(time: 5)
        let log = Log<Int>()
        // Set at different times, so that they come down through different levels.
        for number in 0..<3000 {
            _ = wheel.add(deadline: 1_000_000_000, target: .callback(Note(number, log)))
            wheel.advance(to: 5 + UInt64(number) * 333_333) { fire($0) }
        }
        #expect(log.entries.isEmpty)
        wheel.advance(to: 1_000_000_000) { fire($0) }
        #expect(log.entries == Array(0..<3000))
    }

    @Test func aTimerMayRemoveOthersThatAreDue() {
        let wheel = TimerWheel(time: 0)
        let log = Log<Int>()
        let first = Note(0, log)
        _ = wheel.add(deadline: 10, target: .callback(first))
        let second = wheel.add(deadline: 10, target: .callback(Note(1, log)))
        _ = wheel.add(deadline: 11, target: .callback(Note(2, log)))
        let fourth = wheel.add(deadline: 12, target: .callback(Note(3, log)))
        first.then = {
            wheel.remove(second)
            wheel.remove(fourth)
            // The slots of the removed must not be taken before the round is over.
            _ = wheel.add(deadline: 5, target: .callback(Note(4, log)))
            _ = wheel.add(deadline: 100, target: .callback(Note(5, log)))
        }
        wheel.advance(to: 20) { fire($0) }
        #expect(log.entries == [0, 2])
        #expect(wheel.count == 2)
        #expect(wheel.earliest <= 20)
        wheel.advance(to: 20) { fire($0) }
        #expect(log.entries == [0, 2, 4])
        wheel.advance(to: 100) { fire($0) }
        #expect(log.entries == [0, 2, 4, 5])
        #expect(wheel.count == 0)
    }

    @Test func theSleeperIsKnownUntilItsTimerFires() {
        let wheel = TimerWheel(time: 0)
        let jobs = FakeJobs(count: 3)
        let sleeper = JobReference(jobs[0])
        let timer = wheel.add(deadline: 7, target: .job(jobs[1]), sleeper: sleeper)
        let generation = wheel.generation(of: timer)
        #expect(wheel.isSet(timer, generation: generation, sleeper: sleeper))
        #expect(!wheel.isSet(timer, generation: generation, sleeper: JobReference(jobs[2])))
        #expect(!wheel.isSet(timer + 1, generation: generation, sleeper: sleeper))
        #expect(!wheel.isSet(.max, generation: generation, sleeper: sleeper))
        wheel.advance(to: 7) { target in
            guard case .job(let job) = target else { crash("no job") }
            #expect(jobs.number(of: job) == 1)
            #expect(!wheel.isSet(timer, generation: generation, sleeper: sleeper))
        }
        #expect(!wheel.isSet(timer, generation: generation, sleeper: sleeper))
        // Another timer of the same task in the same place is another one.
        #expect(wheel.add(deadline: 9, target: .job(jobs[1]), sleeper: sleeper) == timer)
        #expect(!wheel.isSet(timer, generation: generation, sleeper: sleeper))
        #expect(wheel.isSet(timer, generation: wheel.generation(of: timer), sleeper: sleeper))
    }

    @Test func removeAllAnswersEverything() {
        let wheel = TimerWheel(time: 0)
        let log = Log<Int>()
        for number in 0..<2500 { _ = wheel.add(deadline: UInt64(number) * 77, target: .callback(Note(number, log))) }
        wheel.advance(to: 77 * 999) { fire($0) }
        var removed: [Int] = []
        wheel.removeAll { target, deadline in
            guard case .callback(let callback) = target, let note = callback as? Note else { return }
            #expect(deadline == UInt64(note.number) * 77)
            removed.append(note.number)
        }
        #expect(removed.sorted() == Array(1000..<2500))
        #expect(wheel.count == 0 && wheel.earliest == .max)
    }

    /// What is left over at the limit stays in order, can be removed, and fires before what is set meanwhile.
    @Test func aLimitLeavesTheRestForNextTime() {
        let wheel = TimerWheel(time: 0)
        let log = Log<Int>()
        let indices = (0..<10).map { wheel.add(deadline: UInt64($0), target: .callback(Note($0, log))) }
        wheel.advance(to: 100, limit: 4) { fire($0) }
        #expect(log.entries == [0, 1, 2, 3])
        #expect(wheel.count == 6 && wheel.earliest == 0)
        wheel.remove(indices[5])
        _ = wheel.add(deadline: 50, target: .callback(Note(10, log)))
        wheel.advance(to: 101, limit: 4) { fire($0) }
        #expect(log.entries == [0, 1, 2, 3, 4, 6, 7])
        wheel.advance(to: 102, limit: 100) { fire($0) }
        #expect(log.entries == [0, 1, 2, 3, 4, 6, 7, 8, 9])
        wheel.advance(to: 103, limit: 100) { fire($0) }
        #expect(log.entries == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10])
        #expect(wheel.count == 0 && wheel.earliest == .max)
    }

    /// Those that were due and had not fired are among what `removeAll` answers, once.
    @Test func removeAllAnswersWhatIsLeftOver() {
        let wheel = TimerWheel(time: 0)
        let log = Log<Int>()
        let indices = (0..<10).map { wheel.add(deadline: UInt64($0), target: .callback(Note($0, log))) }
        wheel.advance(to: 100, limit: 4) { fire($0) }
        wheel.remove(indices[8])
        #expect(wheel.callbacks.count == 5)
        var removed: [Int] = []
        wheel.removeAll { target, _ in
            if case .callback(let callback) = target, let note = callback as? Note { removed.append(note.number) }
        }
        #expect(removed.sorted() == [4, 5, 6, 7, 9])
        #expect(wheel.count == 0 && wheel.earliest == .max)
        _ = wheel.add(deadline: 200, target: .callback(Note(11, log)))
        wheel.advance(to: 200) { fire($0) }
        #expect(log.entries == [0, 1, 2, 3, 11])
    }

    @Test func manyTimers() {
        var numbers = SeededGenerator(seed: 1)
        let wheel = TimerWheel(time: 0)
        let jobs = FakeJobs(count: 1)
        var indices: [TimerWheel.Index] = []
        for _ in 0..<100_000 {
            indices.append(wheel.add(deadline: numbers.next() >> 24, target: .job(jobs[0])))
        }
        for number in stride(from: 0, to: indices.count, by: 2) { wheel.remove(indices[number]) }
        #expect(wheel.count == 50_000)
        var fired = 0
        var now: UInt64 = 0
        while wheel.count > 0 {
            now += 1 << 33
            wheel.advance(to: now) { _ in fired += 1 }
        }
        #expect(fired == 50_000)
    }
}
