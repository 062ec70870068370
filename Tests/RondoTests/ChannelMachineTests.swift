// A channel's state machine against a list of values with a note at those whose sender waits.

import RondoTesting
import Testing

@testable import Rondo

@Suite struct ChannelMachineTests {
    private static let seeds = Array(1...20) + [Simulation.environmentSeed ?? 21]

    @Test(arguments: [0, 1, 2]) func allShortCases(capacity: Int) {
        #expect(ChannelTrial(capacity: capacity).explore(depth: 4) > 20_000)
    }

    @Test(arguments: seeds) func longRandomCases(seed: UInt64) {
        var trial = ChannelTrial(capacity: Int(seed % 5))
        trial.wander(seed: seed, steps: 5000)
    }

    /// Without the steps that end a channel, which long cases reach soon.
    @Test(arguments: seeds) func longRandomCasesThatGoOn(seed: UInt64) {
        var trial = ChannelTrial(capacity: Int(seed % 5), ends: false)
        trial.wander(seed: seed, steps: 20_000)
        #expect(trial.delivered > 500)
    }

    /// Cells are used again, so a channel that is used for long does not grow.
    @Test func cellsAreUsedAgain() {
        var machine = ChannelMachine<Int, Int>(capacity: 3)
        for _ in 0..<1000 {
            for _ in 0..<3 { _ = machine.send(mayWait: false) }
            for _ in 0..<3 { _ = machine.receive(mayWait: false) }
        }
        #expect(machine.cellCount == 3)
        #expect(machine.count == 0)
    }
}

/// What a receiver gets, with the value instead of its cell.
private enum Received: Equatable {
    case value(Int)
    case finished, cancelled
    /// A value that is not where the machine says.
    case lost
}

private struct ChannelTrial: Trial {
    private var machine: ChannelMachine<Int, Int>
    private let ends: Bool
    /// The values in the machine's cells.
    private var cells: [Int32: Int] = [:]
    /// Cells of receivers that were woken and have not taken their value.
    private var uncollected: [Int32] = []
    private var nextValue = 0
    private(set) var delivered = 0

    // The model: values in order, with the waiting sender of each; and who waits.
    private var line: [(value: Int, sender: Int?)] = []
    private var senders = NaiveQueue<Int, SendAnswer>()
    private var receivers = NaiveQueue<Void, Received>()
    private var isClosed = false

    private var tickets: [(isSender: Bool, ticket: WaitTicket)] = []
    private var unparked: [Int] = []

    init(capacity: Int, ends: Bool = true) {
        machine = ChannelMachine(capacity: capacity)
        self.ends = ends
    }

    var choices: Int { ends ? 13 : 11 }

    mutating func step(_ choice: Int) -> Bool {
        let isRight =
            switch choice {
            case 0: send(mayWait: true)
            case 1: send(mayWait: false)
            case 2: receive(mayWait: true)
            case 3: receive(mayWait: false)
            case 4: unparked.isEmpty || park(unparked.removeFirst())
            case 5: unparked.isEmpty || park(unparked.removeLast())
            case 6: collect()
            case 7: cancel(senders.waiting.first?.id ?? 0)
            case 8: cancel(receivers.waiting.first?.id ?? 0)
            case 9: cancel(tickets.count - 1)
            case 10: cancel(tickets.count - 2)
            case 11: finish()
            default: close()
            }
        return isRight && agrees
    }

    private var agrees: Bool {
        machine.waitingSenders == senders.waiting.count && machine.waitingReceivers == receivers.waiting.count
            && machine.count == line.count { $0.sender == nil } && machine.isClosed == isClosed
            && machine.isFinished == (isClosed && line.isEmpty)
            && machine.filledCells.map { cells[$0] } == line.map { $0.value }
            && cells.count == line.count + uncollected.count + cellsOfUnparked.count
    }

    // MARK: Steps

    private mutating func send(mayWait: Bool) -> Bool {
        nextValue += 1
        let sending = machine.send(mayWait: mayWait)
        if isClosed { if case .refused = sending { return true } else { return false } }
        if !receivers.waiting.isEmpty {
            guard case .accepted(let cell, let wake) = sending, put(cell) else { return false }
            delivered += 1
            let woken = receivers.answer(.value(nextValue))
            // One that has not parked yet finds the value when it does.
            if wake != nil { uncollected.append(cell) } else { cellsOfUnparked.insert(cell) }
            return [wake].compactMap { $0 }.map(translated) == woken
        }
        if machine.capacity > line.count {
            line.append((nextValue, nil))
            if case .accepted(let cell, nil) = sending { return put(cell) } else { return false }
        }
        if !mayWait { if case .refused = sending { return true } else { return false } }
        guard case .mustWait(let cell, let ticket) = sending, put(cell) else { return false }
        senders.join(tickets.count, nextValue)
        line.append((nextValue, tickets.count))
        join(ticket, isSender: true)
        return true
    }

    private mutating func receive(mayWait: Bool) -> Bool {
        switch machine.receive(mayWait: mayWait) {
        case .value(let cell, let wake):
            if line.isEmpty { return false }
            delivered += 1
            let value = line.removeFirst().value
            var woken: [Woken<SendAnswer>] = []
            if let first = senders.waiting.first {
                // Its value has room now, or was the one that was received.
                if let index = line.firstIndex(where: { $0.sender == first.id }) { line[index].sender = nil }
                woken = senders.answer(.accepted)
            }
            return cells.removeValue(forKey: cell) == value && [wake].compactMap { $0?.woken } == woken
        case .finished: return line.isEmpty && isClosed
        case .empty: return line.isEmpty && !isClosed && !mayWait
        case .mustWait(let ticket):
            receivers.join(tickets.count, ())
            join(ticket, isSender: false)
            return line.isEmpty && !isClosed && mayWait
        }
    }

    /// Cells of values for receivers that had not parked when they were given one.
    private var cellsOfUnparked: Set<Int32> = []

    private mutating func park(_ id: Int) -> Bool {
        let (isSender, ticket) = tickets[id]
        if isSender { return machine.park(sender: id, at: ticket) == senders.park(id) }
        let answer = machine.park(receiver: id, at: ticket)
        if case .value(let cell) = answer {
            cellsOfUnparked.remove(cell)
            uncollected.append(cell)
        }
        return answer.map(received) == receivers.park(id)
    }

    private mutating func collect() -> Bool {
        if uncollected.isEmpty { return true }
        let cell = uncollected.removeFirst()
        machine.collect(cell: cell)
        return cells.removeValue(forKey: cell) != nil
    }

    private mutating func cancel(_ id: Int) -> Bool {
        guard tickets.indices.contains(id) else { return true }
        let (isSender, ticket) = tickets[id]
        if !isSender {
            let woken = [machine.cancelReceiver(ticket)].compactMap { $0 }.map(translated)
            return woken == receivers.leave(id, .cancelled)?.woken ?? []
        }
        let left = machine.cancelSender(ticket)
        guard let expected = senders.leave(id, .cancelled) else { return left == nil }
        line.removeAll { $0.sender == id }
        guard let left else { return false }
        return cells.removeValue(forKey: left.cell) == expected.request
            && [left.wake].compactMap { $0?.woken } == expected.woken
    }

    private mutating func finish() -> Bool {
        isClosed = true
        var woken: [Woken<Received>] = []
        machine.finish().forEach { woken.append(translated($0)) }
        return woken == receivers.answerAll(.finished)
    }

    private mutating func close() -> Bool {
        isClosed = true
        let closing = machine.close()
        let dropped = closing.cells.map { cells.removeValue(forKey: $0) }
        let expected = line.map { Optional($0.value) }
        line = []
        var woken: [Woken<Received>] = []
        closing.receivers.forEach { woken.append(translated($0)) }
        return dropped == expected && woken == receivers.answerAll(.finished)
            && closing.senders.all == senders.answerAll(.closed)
    }

    // MARK: Cells

    /// Puts the newest value where the machine says; false if there is one already.
    private mutating func put(_ cell: Int32) -> Bool {
        guard Int(cell) < machine.cellCount else { return false }
        return cells.updateValue(nextValue, forKey: cell) == nil
    }

    private mutating func join(_ ticket: WaitTicket, isSender: Bool) {
        unparked.append(tickets.count)
        tickets.append((isSender, ticket))
    }

    private func received(_ answer: ReceiveAnswer) -> Received {
        switch answer {
        case .value(let cell): cells[cell].map { .value($0) } ?? .lost
        case .finished: .finished
        case .cancelled: .cancelled
        }
    }

    private func translated(_ wake: Wake<Int, ReceiveAnswer>) -> Woken<Received> {
        Woken(id: wake.token, answer: received(wake.answer))
    }
}
