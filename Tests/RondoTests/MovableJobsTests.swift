import Testing

@testable import Rondo

@Suite struct MovableJobsTests {
    @Test func oldestFirst() {
        let jobs = FakeJobs(count: 3)
        let movable = MovableJobs()
        #expect(movable.take() == nil)
        for number in 0..<3 { #expect(movable.push(jobs[number])) }
        #expect(movable.count == 3)
        for number in 0..<3 { #expect(movable.take().map(jobs.number) == number) }
        #expect(movable.take() == nil && movable.count == 0)
    }

    @Test func aFullRingRefuses() {
        let jobs = FakeJobs(count: 1)
        let movable = MovableJobs()
        var count = 0
        while movable.push(jobs[0]) { count += 1 }
        #expect(count == 1024 && movable.count == 1024)
        #expect(movable.take() != nil)
        #expect(movable.push(jobs[0]) && !movable.push(jobs[0]))
    }

    /// One thread pushes and takes, others take: every job comes out once, and none that was not put in.
    @Test func everyJobIsTakenOnce() {
        let count = 200_000
        let jobs = FakeJobs(count: count)
        let movable = MovableJobs()
        let taken = Counter()
        // SAFETY: the ring says who may touch a job.
        nonisolated(unsafe) let shared = jobs
        let seen = Lock([UInt8](repeating: 0, count: count))
        let takers = (0..<3).map { _ in
            Thread.start {
                while taken.value < count {
                    var numbers: [Int] = []
                    while numbers.count < 100, let job = movable.take() {
                        numbers.append(unsafe shared.number(of: job))
                    }
                    if numbers.isEmpty { continue }
                    seen.withLock { seen in for number in numbers { seen[number] += 1 } }
                    taken.add(numbers.count)
                }
            }
        }
        for number in 0..<count {
            while !movable.push(jobs[number]) {
                guard let job = movable.take() else { continue }
                seen.withLock { $0[jobs.number(of: job)] += 1 }
                taken.add()
            }
        }
        for taker in takers { taker.join() }
        #expect(seen.withLock { $0.allSatisfy { $0 == 1 } })
    }
}
