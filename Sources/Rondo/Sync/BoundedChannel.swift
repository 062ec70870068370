/// Why a value was not sent. The sender still has it.
public enum SendError: Error, Hashable, Sendable, CustomStringConvertible {
    /// The channel was finished or closed by this program.
    case closed
    /// The task was cancelled while it waited.
    case cancelled

    public var description: String {
        switch self {
        case .closed: "send: the channel is closed (do not send after finish() or close())"
        case .cancelled: "send: the task was cancelled while it waited for room in the channel"
        }
    }
}

/// A queue between tasks, with room for so many values: who sends into a full one waits, which is the back-pressure.
///
/// ```
/// let orders = BoundedChannel<Order>(capacity: 16)
/// async let cook: Void = { for try await order in orders { await prepare(order) } }()
/// for order in menu { try await orders.send(order) }
/// orders.finish()
/// try await cook
/// ```
///
/// Each value goes to one receiver. Values come out in the order in which `send` was called, and go to receivers in the
/// order in which they asked. With a capacity of 0 each `send` waits for its receiver (a rendezvous). Any number of
/// tasks may send and receive, on any loop or thread; whoever waits goes on where it ran before. Sending into free room
/// and receiving what is there allocate nothing and wait for nobody.
///
/// Cancellation ends a wait, at once, and loses no value: a send that throws has not sent, one that returns has; a
/// receive that throws has taken nothing. A channel that waits for nobody works in a cancelled task too.
///
/// A waiting task keeps the channel: end it with ``finish()``.
public final class BoundedChannel<Element: Sendable>: Sendable, AsyncSequence {
    private let storage: ChannelStorage<Element>

    /// A channel with room for `capacity` values that nobody has received; 0 for a rendezvous.
    public init(capacity: Int) {
        require(capacity >= 0, "a channel can't have room for \(capacity) values")
        storage = ChannelStorage(capacity: capacity)
    }

    /// How many values have room.
    public var capacity: Int { storage.capacity }
    /// Values that were sent and not received.
    public var count: Int { storage.withMachine { $0.count } }
    /// Senders that wait for room.
    public var waitingSenders: Int { storage.withMachine { $0.waitingSenders } }
    /// Receivers that wait for a value.
    public var waitingReceivers: Int { storage.withMachine { $0.waitingReceivers } }
    /// Whether nothing can be sent any more.
    public var isClosed: Bool { storage.withMachine { $0.isClosed } }
    /// Whether nothing can be sent any more, and all that was sent has been received.
    public var isFinished: Bool { storage.withMachine { $0.isFinished } }

    /// Sends a value, and waits until there is room for it.
    ///
    /// - Throws: `SendError`; the value was not sent then.
    public func send(_ element: Element) async throws(SendError) {
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        switch storage.send(element, mayWait: true) {
        case .done: return
        case .refused: throw .closed
        case .mustWait(let ticket): try await storage.waitForRoom(ticket)
        }
    }

    /// Sends a value if there is room for it, or a receiver waits.
    ///
    /// - Returns: whether it was sent. If not, ``isClosed`` says whether there is hope.
    public func trySend(_ element: Element) -> Bool {
        if case .done = storage.send(element, mayWait: false) { true } else { false }
    }

    /// Receives a value, and waits until there is one.
    ///
    /// - Returns: the value; nil if the channel is finished and empty.
    /// - Throws: `CancellationError` if the task was cancelled while it waited. It has taken no value then.
    public func receive() async throws(CancellationError) -> Element? {
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        switch storage.receive(mayWait: true) {
        case .value(let element): return element
        case .finished, .empty: return nil
        case .mustWait(let ticket): return try await storage.waitForValue(ticket)
        }
    }

    /// Receives a value if there is one.
    ///
    /// - Returns: nil if there is none. ``isFinished`` says whether there will ever be one.
    public func tryReceive() -> Element? {
        if case .value(let element) = storage.receive(mayWait: false) { element } else { nil }
    }

    /// Takes no more values. Those that were sent, senders that wait included, are still received; then the receivers
    /// get nil.
    public func finish() { storage.finish() }

    /// Takes no more values, and drops those that nobody has received: receivers get nil, and senders that wait get
    /// ``SendError/closed``.
    public func close() { storage.close() }

    // MARK: As a sequence

    /// Receives values, each of them as ``BoundedChannel/receive()`` does.
    public struct AsyncIterator: AsyncIteratorProtocol {
        fileprivate let channel: BoundedChannel

        /// The next value; nil if the channel is finished and empty.
        public func next() async throws(CancellationError) -> Element? { try await channel.receive() }

        /// The next value; nil if the channel is finished and empty.
        public func next(isolation actor: isolated (any Actor)?) async throws(CancellationError) -> Element? {
            try await channel.receive()
        }
    }

    /// An iterator that shares the channel's values with all other receivers.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(channel: self) }
}

/// A channel's values, and the machine that says where they are.
@safe
private final class ChannelStorage<Element: Sendable>: WaitingRoom, @unchecked Sendable {
    // SAFETY: the cells and their number are touched under the machine's lock only. The machine says which cells hold a
    // value: one is written when the machine gives it out, and read once, when the machine takes it back. Growing moves
    // all cells, and they all hold a value then, as the machine makes a new one only when none is free.
    fileprivate typealias Machine = ChannelMachine<Waiter<SendAnswer>, Waiter<ReceiveAnswer>>
    private let machine: Lock<Machine>
    private var cells: UnsafeMutablePointer<Element>
    private var room: Int
    let capacity: Int
    /// Marks the numbers of waiting senders.
    private static var senderBit: UInt64 { 1 << 31 }

    init(capacity: Int) {
        self.capacity = capacity
        machine = Lock(ChannelMachine(capacity: capacity))
        room = max(1, min(capacity, 64))
        unsafe cells = .allocate(capacity: room)
    }

    deinit {
        for cell in machine.withLock({ $0.filledCells }) { unsafe (cells + Int(cell)).deinitialize(count: 1) }
        unsafe cells.deallocate()
    }

    fileprivate func withMachine<Result: Sendable>(_ body: (inout Machine) -> Result) -> Result {
        machine.withLock { body(&$0) }
    }

    // MARK: Sending

    enum SendOutcome { case done, refused, mustWait(WaitTicket) }

    @inline(__always)
    func send(_ element: Element, mayWait: Bool) -> SendOutcome {
        let sending = machine.withLock { machine in
            let sending = machine.send(mayWait: mayWait)
            switch sending {
            case .accepted(let cell, _), .mustWait(let cell, _):
                if Int(cell) >= room { grow() }
                unsafe (cells + Int(cell)).initialize(to: element)
            case .refused: break
            }
            return sending
        }
        switch sending {
        case .accepted(_, let wake):
            wake?.perform()
            return .done
        case .mustWait(_, let ticket): return .mustWait(ticket)
        case .refused: return .refused
        }
    }

    func waitForRoom(_ ticket: WaitTicket) async throws(SendError) {
        let answer: SendAnswer = await wait(ticket.rawValue | Self.senderBit) { token in
            if let answer = machine.withLock({ $0.park(sender: token, at: ticket) }) { token.resume(returning: answer) }
        }
        switch answer {
        case .accepted: return
        case .closed: throw .closed
        case .cancelled: throw .cancelled
        }
    }

    // MARK: Receiving

    enum ReceiveOutcome { case value(Element), finished, empty, mustWait(WaitTicket) }

    @inline(__always)
    func receive(mayWait: Bool) -> ReceiveOutcome {
        var wake: Wake<Waiter<SendAnswer>, SendAnswer>?
        let outcome: ReceiveOutcome = machine.withLock { machine in
            switch machine.receive(mayWait: mayWait) {
            case .value(let cell, let sender):
                wake = sender
                return .value(unsafe (cells + Int(cell)).move())
            case .mustWait(let ticket): return .mustWait(ticket)
            case .empty: return .empty
            case .finished: return .finished
            }
        }
        wake?.perform()
        return outcome
    }

    func waitForValue(_ ticket: WaitTicket) async throws(CancellationError) -> Element? {
        let answer: ReceiveAnswer = await wait(ticket.rawValue) { token in
            if let answer = machine.withLock({ $0.park(receiver: token, at: ticket) }) {
                token.resume(returning: answer)
            }
        }
        switch answer {
        case .value(let cell): return collect(cell)
        case .finished: return nil
        case .cancelled: throw CancellationError()
        }
    }

    private func collect(_ cell: Int32) -> Element {
        machine.withLock { machine in
            machine.collect(cell: cell)
            return unsafe (cells + Int(cell)).move()
        }
    }

    // MARK: The end

    override func cancelWait(_ number: UInt64) {
        let ticket = WaitTicket(rawValue: number & ~Self.senderBit)
        if number & Self.senderBit == 0 {
            machine.withLock { $0.cancelReceiver(ticket) }?.perform()
            return
        }
        // The value is dropped here, outside of the lock: its end may run any code.
        var dropped: Element?
        let wake = machine.withLock { machine -> Wake<Waiter<SendAnswer>, SendAnswer>? in
            guard let left = machine.cancelSender(ticket) else { return nil }
            dropped = unsafe (cells + Int(left.cell)).move()
            return left.wake
        }
        wake?.perform()
        _ = dropped
    }

    func finish() { machine.withLock { $0.finish() }.perform() }

    func close() {
        var dropped: [Element] = []
        let closing = machine.withLock { machine in
            let closing = machine.close()
            for cell in closing.cells { unsafe dropped.append((cells + Int(cell)).move()) }
            return closing
        }
        closing.senders.perform()
        closing.receivers.perform()
        dropped.removeAll()
    }

    private func grow() {
        let larger = UnsafeMutablePointer<Element>.allocate(capacity: room * 2)
        unsafe larger.moveInitialize(from: cells, count: room)
        unsafe cells.deallocate()
        unsafe cells = larger
        room *= 2
    }
}
