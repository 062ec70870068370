// Model-based tests of state machines: a machine and a naive model of it do the same steps, all sequences of a few
// steps and random ones of many, and must say the same after each.

import RondoTesting
import Testing

@testable import Rondo

/// A machine beside its model. A value: so that every continuation of a sequence of steps can be tried.
protocol Trial {
    /// How many different steps there are.
    var choices: Int { get }
    /// Does a step with both.
    ///
    /// - Returns: whether they agree.
    mutating func step(_ choice: Int) -> Bool
}

extension Trial {
    /// Tries all sequences of `depth` steps.
    ///
    /// - Returns: how many steps were made.
    @discardableResult
    func explore(depth: Int, path: [Int] = [], sourceLocation: SourceLocation = #_sourceLocation) -> Int {
        if depth == 0 { return 0 }
        var count = 0
        for choice in 0..<choices {
            var next = self
            count += 1
            guard next.step(choice) else {
                Issue.record("machine and model differ after \(path + [choice])", sourceLocation: sourceLocation)
                return count
            }
            count += next.explore(depth: depth - 1, path: path + [choice], sourceLocation: sourceLocation)
        }
        return count
    }

    /// Makes random steps.
    mutating func wander(seed: UInt64, steps: Int, sourceLocation: SourceLocation = #_sourceLocation) {
        var numbers = SeededGenerator(seed: seed)
        for number in 0..<steps where !step(Int(numbers.next() % UInt64(choices))) {
            Issue.record(
                "machine and model differ after step \(number) of seed \(seed)", sourceLocation: sourceLocation)
            return
        }
    }
}

/// Somebody who was woken.
struct Woken<Answer: Equatable>: Equatable {
    var id: Int
    var answer: Answer
}

extension Wakes where Token == Int, Answer: Equatable {
    var all: [Woken<Answer>] {
        var all: [Woken<Answer>] = []
        forEach { all.append(Woken(id: $0.token, answer: $0.answer)) }
        return all
    }
}

extension Wake where Token == Int, Answer: Equatable {
    var woken: Woken<Answer> { Woken(id: token, answer: answer) }
}

/// A queue of waiters as one would write it without a thought for speed.
struct NaiveQueue<Request, Answer: Equatable> {
    var waiting: [(id: Int, request: Request)] = []
    var parked: Set<Int> = []
    /// Answers to those who have not parked.
    var early: [Int: Answer] = [:]

    mutating func join(_ id: Int, _ request: Request) { waiting.append((id, request)) }

    mutating func park(_ id: Int) -> Answer? {
        if let answer = early.removeValue(forKey: id) { return answer }
        parked.insert(id)
        return nil
    }

    mutating func answer(at index: Int = 0, _ answer: Answer) -> [Woken<Answer>] {
        let id = waiting.remove(at: index).id
        if parked.remove(id) != nil { return [Woken(id: id, answer: answer)] }
        early[id] = answer
        return []
    }

    mutating func answerAll(_ answer: Answer) -> [Woken<Answer>] {
        var all: [Woken<Answer>] = []
        while !waiting.isEmpty { all += self.answer(answer) }
        return all
    }

    /// - Returns: nil if this one does not wait any more.
    mutating func leave(_ id: Int, _ answer: Answer) -> (request: Request, woken: [Woken<Answer>])? {
        guard let index = waiting.firstIndex(where: { $0.id == id }) else { return nil }
        return (waiting[index].request, self.answer(at: index, answer))
    }
}

/// The model of a machine that tasks wait at.
protocol WaitModel {
    associatedtype Answer: Equatable
    associatedtype Request
    var queue: NaiveQueue<Request, Answer> { get set }
    mutating func cancel(_ id: Int) -> [Woken<Answer>]
}

/// A machine with one queue beside its model, with steps of their own; parking and cancelling are steps too.
struct WaitTrial<Machine: WaitMachine, Model: WaitModel>: Trial
where Machine.Token == Int, Machine.Answer == Model.Answer {
    var machine: Machine
    var model: Model
    /// What else may happen; each says whether both agree.
    let steps: [(inout Self) -> Bool]
    /// Of all who have ever waited.
    var tickets: [WaitTicket] = []
    var unparked: [Int] = []

    init(_ machine: Machine, _ model: Model, steps: [(inout Self) -> Bool]) {
        self.machine = machine
        self.model = model
        self.steps = steps
    }

    /// A new waiter, whom the machine has given a ticket.
    mutating func join(_ ticket: WaitTicket, _ request: Model.Request) -> Bool {
        model.queue.join(tickets.count, request)
        unparked.append(tickets.count)
        tickets.append(ticket)
        return true
    }

    /// The steps, parking the first or the last who has not, and cancelling one of four.
    var choices: Int { steps.count + 6 }

    mutating func step(_ choice: Int) -> Bool {
        switch choice - steps.count {
        case ..<0: return steps[choice](&self)
        case 0: return unparked.isEmpty || park(unparked.removeFirst())
        case 1: return unparked.isEmpty || park(unparked.removeLast())
        case 2: return cancel(model.queue.waiting.first?.id ?? 0)
        case let back: return cancel(tickets.count - (back - 2))
        }
    }

    private mutating func park(_ id: Int) -> Bool {
        machine.park(id, at: tickets[id]) == model.queue.park(id)
    }

    /// Cancels one that may have been answered long ago.
    private mutating func cancel(_ id: Int) -> Bool {
        if !tickets.indices.contains(id) { return true }
        return machine.cancel(tickets[id]).all == model.cancel(id)
    }
}
