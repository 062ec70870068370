import Synchronization
import Testing

@testable import Rondo

@Suite struct InboxTests {
    @Test func oldestFirst() {
        let inbox = Inbox()
        let jobs = FakeJobs(count: 100)
        #expect(inbox.isEmpty)
        for number in 0..<100 { _ = inbox.push(jobs[number]) }
        var order: [Int] = []
        inbox.drain { entry in
            if case .job(let job) = entry { order.append(jobs.number(of: job)) }
        }
        #expect(order == Array(0..<100))
        #expect(inbox.isEmpty)
    }

    @Test func onlyTheFirstOfABurstWakes() {
        let inbox = Inbox()
        let jobs = FakeJobs(count: 4)
        #expect(inbox.push(jobs[0]) == .pushed)
        #expect(!inbox.prepareToSleep())
        inbox.drain { _ in }
        #expect(inbox.prepareToSleep())
        #expect(inbox.push(jobs[1]) == .pushedAndMustWake)
        #expect(inbox.push(jobs[2]) == .pushed)
        inbox.wakeUp()
        inbox.drain { _ in }
        #expect(inbox.push(jobs[3]) == .pushed)
        inbox.drain { _ in }
    }

    @Test func aClosedInboxRefuses() {
        let inbox = Inbox()
        let jobs = FakeJobs(count: 3)
        _ = inbox.push(jobs[0])
        _ = inbox.push(.perform {})
        var found = 0
        inbox.close { _ in found += 1 }
        #expect(found == 2)
        #expect(inbox.push(jobs[1]) == .closed)
        #expect(inbox.push(.perform {}) == .closed)
        inbox.close { _ in found += 1 }
        #expect(found == 2)
    }

    @Test func whoVisitsMayPushAgain() {
        let inbox = Inbox()
        let jobs = FakeJobs(count: 2)
        var order: [Int] = []
        _ = inbox.push(jobs[0])
        for _ in 0..<2 {
            inbox.drain { entry in
                guard case .job(let job) = entry else { return }
                order.append(jobs.number(of: job))
                if order.count == 1 { _ = inbox.push(jobs[1]) }
            }
        }
        #expect(order == [0, 1])
    }

    /// Many threads push jobs and messages while the owner drains, sleeps and is woken as a loop is.
    @Test(arguments: 0..<5)
    func nothingIsLostAndEachProducerKeepsItsOrder(round: Int) {
        let (producers, each) = (8, 5000)
        let inbox = Inbox()
        let jobs = SendableJobs(count: producers * each)
        let bell = TestSemaphore()
        let finished = TestSemaphore()
        for producer in 0..<producers {
            ForeignThread.run {
                defer { finished.post() }
                for number in 0..<each {
                    let item = producer * each + number
                    let outcome =
                        item % 5 == 0
                        ? inbox.push(.cancel(OperationID(rawValue: UInt64(item)))) : inbox.push(jobs.all[item])
                    if outcome == .pushedAndMustWake { bell.post() }
                }
            }
        }
        var next = (0..<producers).map { $0 * each }
        var total = 0
        while total < producers * each {
            inbox.drain { entry in
                let item: Int
                switch entry {
                case .job(let job): item = jobs.all.number(of: job)
                case .message(let message):
                    guard case .cancel(let id) = message.content else { crash("another message") }
                    item = Int(id.rawValue)
                }
                if next[item / each] != item { Issue.record("\(item) instead of \(next[item / each])") }
                next[item / each] = item + 1
                total += 1
            }
            // A lost wake-up would hang here.
            if total < producers * each, inbox.prepareToSleep() {
                bell.wait()
                inbox.wakeUp()
            }
        }
        for _ in 0..<producers { finished.wait() }
        #expect(inbox.isEmpty)
    }

    /// What is pushed while the owner closes is either visited or refused.
    @Test(arguments: 0..<20)
    func closingLosesNothing(round: Int) {
        let (producers, each) = (4, 500)
        let inbox = Inbox()
        let jobs = SendableJobs(count: producers * each)
        let refused = RefusedCount()
        let finished = TestSemaphore()
        for producer in 0..<producers {
            ForeignThread.run {
                defer { finished.post() }
                for number in 0..<each where inbox.push(jobs.all[producer * each + number]) == .closed {
                    refused.value.add(1, ordering: .relaxed)
                }
            }
        }
        var visited = 0
        while visited < round * 50 { inbox.drain { _ in visited += 1 } }
        inbox.close { _ in visited += 1 }
        for _ in 0..<producers { finished.wait() }
        #expect(visited + refused.value.load(ordering: .relaxed) == producers * each)
    }
}

@safe
private final class SendableJobs: @unchecked Sendable {
    // SAFETY: each job is pushed by one thread and visited by one.
    let all: FakeJobs
    init(count: Int) { all = FakeJobs(count: count) }
}

private final class RefusedCount: Sendable {
    let value = Atomic<Int>(0)
}
