import RondoTesting
import Testing

@testable import Rondo

@Suite struct SchedulerTests {
    /// A priority of each class, the most urgent first.
    private static let priorities: [UInt8] = [33, 25, 21, 17, 9]

    @Test func prioritiesFallIntoClasses() {
        let classes = [33, 25, 21, 17, 9].map { Scheduler.priorityClass(JobPriority(rawValue: $0)) }
        #expect(classes == [0, 1, 2, 3, 4])
        #expect(Scheduler.priorityClass(JobPriority(rawValue: 0)) == 2)
        for raw in 0...255 as ClosedRange<UInt8> {
            #expect((0..<Scheduler.classCount).contains(Scheduler.priorityClass(JobPriority(rawValue: raw))))
        }
    }

    @Test func firstInFirstOutWithinAClass() {
        let jobs = FakeJobs(count: 1000)
        let scheduler = Scheduler()
        for number in 0..<1000 { scheduler.push(jobs[number]) }
        #expect(scheduler.count == 1000)
        #expect(drain(scheduler, jobs) == Array(0..<1000))
        #expect(scheduler.isEmpty && scheduler.count == 0)
    }

    @Test func urgentClassesGoFirst() {
        // Few enough that no lower class has its turn before.
        let jobs = FakeJobs(count: 15) { Self.priorities[4 - $0 / 3] }
        let scheduler = Scheduler()
        for number in 0..<15 { scheduler.push(jobs[number]) }
        #expect(drain(scheduler, jobs) == [12, 13, 14, 9, 10, 11, 6, 7, 8, 3, 4, 5, 0, 1, 2])
    }

    @Test func everyLowerClassGetsItsShare() {
        // All classes always have a job: each job that is taken is pushed again.
        let jobs = FakeJobs(count: 10) { Self.priorities[$0 / 2] }
        let scheduler = Scheduler()
        for number in 0..<10 { scheduler.push(jobs[number]) }
        var picks = [Int](repeating: 0, count: 5)
        let rounds = Scheduler.lowerShare * 4 * 100
        for _ in 0..<rounds {
            let job = scheduler.pop()!
            picks[jobs.number(of: job) / 2] += 1
            scheduler.push(job)
        }
        #expect(picks[0] == rounds - rounds / Scheduler.lowerShare)
        for lower in 1..<5 { #expect(picks[lower] == rounds / Scheduler.lowerShare / 4) }
    }

    @Test(arguments: 1..<5)
    func aSingleLowerClassGetsTheWholeShare(lower: Int) {
        let jobs = FakeJobs(count: 2) { $0 == 0 ? Self.priorities[0] : Self.priorities[lower] }
        let scheduler = Scheduler()
        scheduler.push(jobs[0])
        scheduler.push(jobs[1])
        var longestWait = 0
        var wait = 0
        for _ in 0..<10_000 {
            let job = scheduler.pop()!
            wait = jobs.number(of: job) == 1 ? 0 : wait + 1
            longestWait = max(longestWait, wait)
            scheduler.push(job)
        }
        #expect(longestWait == Scheduler.lowerShare - 1)
    }

    @Test(arguments: 0..<20 as Range<UInt64>)
    func nothingIsLostOrRunTwice(seed: UInt64) {
        var numbers = SeededGenerator(seed: seed)
        let jobs = FakeJobs(count: 500) { _ in Self.priorities[Int(numbers.next() % 5)] }
        let scheduler = Scheduler()
        if seed % 2 == 1 {
            var choices = SeededGenerator(seed: seed)
            scheduler.tieBreak = { Int(choices.next() % UInt64($0)) }
        }
        var waiting = Array(0..<500)
        var ready: Set<Int> = []
        for _ in 0..<5000 {
            if numbers.next() % 2 == 0, !waiting.isEmpty {
                waiting.swapAt(Int(numbers.next() % UInt64(waiting.count)), waiting.count - 1)
                let number = waiting.removeLast()
                ready.insert(number)
                scheduler.push(jobs[number])
            } else if let job = scheduler.pop() {
                let number = jobs.number(of: job)
                #expect(ready.remove(number) != nil, "seed \(seed)")
                waiting.append(number)
            } else {
                #expect(ready.isEmpty, "seed \(seed)")
            }
            #expect(scheduler.count == ready.count && scheduler.isEmpty == ready.isEmpty, "seed \(seed)")
        }
    }

    @Test func theTieBreakNamesTheJob() {
        let jobs = FakeJobs(count: 6)
        let scheduler = Scheduler()
        var asked: [Int] = []
        scheduler.tieBreak = {
            asked.append($0)
            return $0 - 1
        }
        for number in 0..<5 { scheduler.push(jobs[number]) }
        #expect(scheduler.pop().map(jobs.number(of:)) == 4)
        scheduler.push(jobs[5])
        #expect(drain(scheduler, jobs) == [5, 3, 2, 1, 0])
        #expect(asked == [5, 5, 4, 3, 2, 1])
    }

    private func drain(_ scheduler: Scheduler, _ jobs: FakeJobs) -> [Int] {
        var order: [Int] = []
        while let job = scheduler.pop() { order.append(jobs.number(of: job)) }
        return order
    }
}
