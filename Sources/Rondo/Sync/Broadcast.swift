/// Why nothing can be sent: the receiving side, or this program, has ended it.
public struct ClosedError: Error, Hashable, Sendable, CustomStringConvertible {
    public var description: String { "send: the broadcast is finished (do not send after finish())" }
}

/// Values that every subscriber sees, each at its own pace.
///
/// ```
/// let room = Broadcast<String>(capacity: 64)
/// try room.send("hello")                                  // never waits
/// for try await delivery in room.subscribe() {
///     switch delivery {
///     case .value(let line): try await stream.write(line)
///     case .missed(let count): try await stream.write("(\(count) lines were lost)")
///     }
/// }
/// ```
///
/// A sender never waits, so one slow subscriber can't hold up the others: the last `capacity` values are kept for those
/// who have not seen them, and who falls behind further misses the oldest and is told how many. (Where nothing may be
/// lost use a ``BoundedChannel`` for each receiver: its sender waits.) A value is dropped as soon as all have seen it.
///
/// When the broadcast is finished, or dropped, its subscribers see what is kept for them and then the end. It may be
/// used by any task on any loop or thread.
public final class Broadcast<Value: Sendable>: Sendable {
    private let storage: BroadcastStorage<Value>

    /// A broadcast that keeps the last `capacity` values, at least one.
    public init(capacity: Int) {
        require(capacity > 0, "a broadcast can't keep \(capacity) values")
        storage = BroadcastStorage(capacity: capacity)
    }

    deinit { storage.finish() }

    /// How many there are to see what is sent.
    public var subscriberCount: Int { storage.room.withMachine { $0.subscriberCount } }

    /// Subscribers that wait for a value now.
    public var waiting: Int { storage.room.withMachine { $0.waiting } }

    /// Values that are kept for somebody.
    public var count: Int { storage.room.withMachine { $0.kept.count } }

    /// Sends a value to all who subscribe now.
    ///
    /// - Throws: `ClosedError` after ``finish()``.
    public func send(_ value: Value) throws(ClosedError) {
        if !storage.send(value) { throw ClosedError() }
    }

    /// Ends it: subscribers see what is kept for them, and then the end. A second call changes nothing.
    public func finish() { storage.finish() }

    /// Sees whatever is sent from now on, until it is dropped.
    public func subscribe() -> Subscription { Subscription(storage) }

    /// What a subscriber gets.
    public enum Delivery: Sendable {
        /// The next value.
        case value(Value)
        /// The subscriber was too slow: so many values are lost for it. What comes next is the oldest that is kept.
        case missed(Int)
    }

    /// One who sees everything that is sent. If several tasks share it each value goes to one of them.
    public final class Subscription: Sendable, AsyncSequence {
        private let storage: BroadcastStorage<Value>
        private let place: Int

        fileprivate init(_ storage: BroadcastStorage<Value>) {
            self.storage = storage
            place = storage.room.withMachine { $0.subscribe() }
        }

        deinit { storage.unsubscribe(place) }

        /// Waits for the next value.
        ///
        /// - Returns: the value, or how many were missed; nil at the end.
        /// - Throws: `CancellationError` if the task was cancelled while it waited. It has taken nothing then.
        public func receive() async throws(CancellationError) -> Delivery? { try await storage.receive(place) }

        /// Receives, each time as ``Subscription/receive()`` does.
        public struct AsyncIterator: AsyncIteratorProtocol {
            fileprivate let subscription: Subscription

            /// The next value, or how many were missed; nil at the end.
            public func next() async throws(CancellationError) -> Delivery? { try await subscription.receive() }

            /// The next value, or how many were missed; nil at the end.
            public func next(isolation actor: isolated (any Actor)?) async throws(CancellationError) -> Delivery? {
                try await subscription.receive()
            }
        }

        /// An iterator that shares the subscription.
        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(subscription: self) }
    }
}

extension Broadcast.Delivery: Equatable where Value: Equatable {}

/// A broadcast's values, and the machine that says where they are.
@safe
private final class BroadcastStorage<Value: Sendable>: @unchecked Sendable {
    // SAFETY: the slots are touched under the machine's lock only. The machine says which hold a value: one is written
    // when the machine gives it out, and emptied once, when the machine says so.
    let room: Waiting<BroadcastMachine<Waiter<BroadcastAnswer>>>
    private let slots: UnsafeMutablePointer<Value>

    init(capacity: Int) {
        room = Waiting(BroadcastMachine(capacity: capacity))
        unsafe slots = .allocate(capacity: capacity)
    }

    deinit {
        // Every subscriber keeps this, so none is left, and no value is kept for anybody.
        unsafe slots.deallocate()
    }

    func send(_ value: Value) -> Bool {
        // What somebody has missed is dropped after the lock: its end may run any code.
        var dropped: Value?
        let sending = room.withMachine { machine -> BroadcastMachine<Waiter<BroadcastAnswer>>.Sending? in
            let sending = machine.send()
            if let slot = sending?.dropped { unsafe dropped = (slots + slot).move() }
            if let slot = sending?.slot { unsafe (slots + slot).initialize(to: value) }
            return sending
        }
        sending?.wakes.perform()
        withExtendedLifetime(dropped) {}
        return sending != nil
    }

    func finish() { room.wake { $0.finish() } }

    func unsubscribe(_ place: Int) {
        var dropped: [Value] = []
        room.withMachine { machine in
            for slot in machine.unsubscribe(place) { unsafe dropped.append((slots + slot).move()) }
        }
        dropped.removeAll()
    }

    private enum Attempt: Sendable { case done(Broadcast<Value>.Delivery?), mustWait(WaitTicket) }

    func receive(_ place: Int) async throws(CancellationError) -> Broadcast<Value>.Delivery? {
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        while true {
            switch attempt(place) {
            case .done(let delivery): return delivery
            case .mustWait(let ticket): if await room.wait(ticket) == .cancelled { throw CancellationError() }
            }
        }
    }

    private func attempt(_ place: Int) -> Attempt {
        room.withMachine { machine in
            switch machine.look(place) {
            case .value(let slot, let isLast):
                return .done(.value(isLast ? unsafe (slots + slot).move() : unsafe slots[slot]))
            case .missed(let count): return .done(.missed(count))
            case .finished: return .done(nil)
            case .empty: return .mustWait(machine.wait())
            }
        }
    }
}
