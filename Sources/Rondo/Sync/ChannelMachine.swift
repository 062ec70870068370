// The state of a channel: which cells hold values, in order, and who waits. It knows neither the values nor the tasks:
// a value stands in the storage's cell of the number that the machine says.

/// What a sender is told at the end of its wait.
enum SendAnswer: Sendable { case accepted, closed, cancelled }

/// What a receiver is told at the end of its wait.
enum ReceiveAnswer: Sendable, Equatable { case value(cell: Int32), finished, cancelled }

/// A channel's state.
///
/// Waiting senders' values stand in the queue already, behind those that were accepted: so order is that of the calls.
struct ChannelMachine<Sender, Receiver> {
    let capacity: Int
    private var cells = CellList()
    private var senders = WaitQueue<Sender, Int32, SendAnswer>()
    private var receivers = WaitQueue<Receiver, Void, ReceiveAnswer>()
    private(set) var isClosed = false

    init(capacity: Int) { self.capacity = capacity }

    var waitingSenders: Int { senders.count }
    var waitingReceivers: Int { receivers.count }
    /// Values that were accepted and not received.
    var count: Int { cells.filled - senders.count }
    /// Whether no value will ever come out again.
    var isFinished: Bool { isClosed && cells.filled == 0 }
    /// How many cells the storage must have.
    var cellCount: Int { cells.total }
    /// The cells with a value in them, in order: for the end of the storage.
    var filledCells: [Int32] { cells.all }

    // MARK: Sending

    enum Sending {
        /// The value is to be put into this cell.
        case accepted(cell: Int32, wake: Wake<Receiver, ReceiveAnswer>?)
        /// The value is to be put into this cell, and the sender waits.
        case mustWait(cell: Int32, WaitTicket)
        /// The value is not taken.
        case refused
    }

    /// - Parameter mayWait: whether a value is taken for which there is no room now.
    @inline(__always)
    mutating func send(mayWait: Bool) -> Sending {
        if isClosed { return .refused }
        if !receivers.isEmpty {
            let cell = cells.take()
            return .accepted(cell: cell, wake: receivers.answerFirst(.value(cell: cell)))
        }
        if cells.filled < capacity { return .accepted(cell: cells.append(), wake: nil) }
        if !mayWait { return .refused }
        let cell = cells.append()
        return .mustWait(cell: cell, senders.join(cell))
    }

    mutating func park(sender: Sender, at ticket: WaitTicket) -> SendAnswer? { senders.park(sender, at: ticket) }

    /// A waiting sender was cancelled.
    ///
    /// - Returns: the cell whose value is to be taken out, and whom to wake; nil if its value had been accepted before.
    mutating func cancelSender(_ ticket: WaitTicket) -> (cell: Int32, wake: Wake<Sender, SendAnswer>?)? {
        guard let left = senders.leave(ticket, answer: .cancelled) else { return nil }
        cells.remove(left.request)
        return (left.request, left.wake)
    }

    // MARK: Receiving

    enum Receiving {
        /// The value is to be taken from this cell now; a sender may have got its room.
        case value(cell: Int32, wake: Wake<Sender, SendAnswer>?)
        case mustWait(WaitTicket)
        /// There is no value and nobody sends.
        case empty
        case finished
    }

    @inline(__always)
    mutating func receive(mayWait: Bool) -> Receiving {
        if let cell = cells.popFirst() {
            return .value(cell: cell, wake: senders.isEmpty ? nil : senders.answerFirst(.accepted))
        }
        if isClosed { return .finished }
        return mayWait ? .mustWait(receivers.join(())) : .empty
    }

    mutating func park(receiver: Receiver, at ticket: WaitTicket) -> ReceiveAnswer? {
        receivers.park(receiver, at: ticket)
    }

    /// A receiver that was told of a value takes it now.
    mutating func collect(cell: Int32) { cells.free(cell) }

    /// A waiting receiver was cancelled; one that was given a value before is not.
    mutating func cancelReceiver(_ ticket: WaitTicket) -> Wake<Receiver, ReceiveAnswer>? {
        receivers.leave(ticket, answer: .cancelled)?.wake
    }

    // MARK: The end

    /// No more values are taken. Those of waiting senders were taken before.
    mutating func finish() -> Wakes<Receiver, ReceiveAnswer> {
        isClosed = true
        return receivers.answerAll(.finished)
    }

    struct Closing {
        /// The cells whose values are to be taken out.
        var cells: [Int32]
        var senders: Wakes<Sender, SendAnswer>
        var receivers: Wakes<Receiver, ReceiveAnswer>
    }

    /// As `finish`, and drops what nobody has received.
    mutating func close() -> Closing {
        let receivers = finish()
        var dropped: [Int32] = []
        while let cell = cells.popFirst() { dropped.append(cell) }
        return Closing(cells: dropped, senders: senders.answerAll(.closed), receivers: receivers)
    }
}

/// Numbers of cells: those that are free, and those that hold a value, in order.
struct CellList {
    private struct Links {
        var next: Int32
        var previous: Int32
    }
    private var links: [Links] = []
    private var firstFree: Int32 = -1
    private var first: Int32 = -1
    private var last: Int32 = -1
    private(set) var filled = 0

    var total: Int { links.count }

    /// A free cell, for a value that goes past the queue.
    @inline(__always)
    mutating func take() -> Int32 {
        let cell = firstFree
        if cell < 0 {
            links.append(Links(next: -1, previous: -1))
            return Int32(links.count - 1)
        }
        firstFree = links[Int(cell)].next
        return cell
    }

    @inline(__always)
    mutating func free(_ cell: Int32) {
        links[Int(cell)].next = firstFree
        firstFree = cell
    }

    /// A cell for a value behind all others.
    @inline(__always)
    mutating func append() -> Int32 {
        let cell = take()
        links[Int(cell)] = Links(next: -1, previous: last)
        if last >= 0 { links[Int(last)].next = cell } else { first = cell }
        last = cell
        filled += 1
        return cell
    }

    /// The cell of the oldest value, which is free from now on.
    @inline(__always)
    mutating func popFirst() -> Int32? {
        if first < 0 { return nil }
        let cell = first
        remove(cell)
        return cell
    }

    @inline(__always)
    mutating func remove(_ cell: Int32) {
        let link = links[Int(cell)]
        if link.previous >= 0 { links[Int(link.previous)].next = link.next } else { first = link.next }
        if link.next >= 0 { links[Int(link.next)].previous = link.previous } else { last = link.previous }
        filled -= 1
        free(cell)
    }

    /// Cells with a value, in order.
    var all: [Int32] {
        Array(
            sequence(state: first) { cell -> Int32? in
                if cell < 0 { return nil }
                defer { cell = links[Int(cell)].next }
                return cell
            })
    }
}

extension ChannelMachine.Sending: Sendable where Receiver: Sendable {}
extension ChannelMachine.Closing: Sendable where Sender: Sendable, Receiver: Sendable {}
