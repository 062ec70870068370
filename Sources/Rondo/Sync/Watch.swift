import Synchronization

/// A value whose latest state many tasks follow: a configuration, a connection's state, a shutdown flag.
///
/// ```
/// let level = Watch(Level.info)
/// level.update(.debug)                                   // never waits
/// for try await level in level.subscribe() { apply(level) }
/// ```
///
/// A subscriber that is slow sees fewer states, never an older one: those in between are skipped. Nobody is held up.
/// When the watch is finished, or dropped, its subscribers see the last value and then the end. It may be used by any
/// task on any loop or thread.
public final class Watch<Value: Sendable>: Sendable {
    private let storage: WatchStorage<Value>

    /// A watch that begins with `value`.
    public init(_ value: Value) { storage = WatchStorage(value) }

    deinit { storage.finish() }

    /// The latest value.
    public var value: Value { storage.current().value }

    /// Tasks that wait for a change now.
    public var waiting: Int { storage.room.withMachine { $0.waiting } }

    /// Sets a new value, and wakes all who wait for one. It counts as a change even if it is equal to the old one.
    ///
    /// - Returns: whether it was set; false after ``finish()``.
    @discardableResult
    public func update(_ value: Value) -> Bool { storage.update { $0 = value } }

    /// Changes the value in place, and wakes all who wait for a change. `body` must be short, and must not come here
    /// again.
    ///
    /// - Returns: whether it was changed; false after ``finish()``.
    @discardableResult
    public func update(with body: (inout Value) -> Void) -> Bool { storage.update(body) }

    /// There will be no other value. A second call changes nothing.
    public func finish() { storage.finish() }

    /// Follows the value from now on.
    ///
    /// As a sequence it begins with the current value; ``Subscription/changed()`` waits for the first newer one.
    public func subscribe() -> Subscription { Subscription(storage) }

    /// One follower of a value. Let one task use it: two would each see some of the changes.
    public final class Subscription: Sendable, AsyncSequence {
        private let storage: WatchStorage<Value>
        private let seen: Atomic<UInt64>

        fileprivate init(_ storage: WatchStorage<Value>) {
            self.storage = storage
            seen = Atomic(storage.room.withMachine { $0.version })
        }

        /// The latest value, which counts as seen.
        public var value: Value {
            let current = storage.current()
            seen.max(current.version, ordering: .relaxed)
            return current.value
        }

        /// Waits for a value that this subscription has not seen.
        ///
        /// - Returns: the latest value; nil if there will be none, and the last one was seen.
        /// - Throws: `CancellationError` if the task was cancelled while it waited. It has missed nothing then.
        public func changed() async throws(CancellationError) -> Value? {
            guard let current = try await storage.next(seen: seen.load(ordering: .relaxed)) else { return nil }
            seen.max(current.version, ordering: .relaxed)
            return current.value
        }

        /// The current value, and then each latest one.
        public struct AsyncIterator: AsyncIteratorProtocol {
            fileprivate let storage: WatchStorage<Value>
            fileprivate var seen: UInt64 = 0

            /// The latest value that was not seen; nil if there will be none.
            public mutating func next() async throws(CancellationError) -> Value? {
                guard let current = try await storage.next(seen: seen) else { return nil }
                seen = current.version
                return current.value
            }

            /// The latest value that was not seen; nil if there will be none.
            public mutating func next(
                isolation actor: isolated (any Actor)?
            ) async throws(CancellationError) -> Value? {
                try await next()
            }
        }

        /// An iterator of its own: it begins with the current value.
        public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(storage: storage) }
    }
}

/// A watched value, and the machine that knows its version.
@safe
private final class WatchStorage<Value: Sendable>: @unchecked Sendable {
    // SAFETY: the value is touched under the machine's lock only, and its memory lives as long as this.
    let room = Waiting(WatchMachine<Waiter<WatchAnswer>>())
    private let value: UnsafeMutablePointer<Value>

    init(_ value: Value) {
        unsafe self.value = .allocate(capacity: 1)
        unsafe self.value.initialize(to: value)
    }

    deinit {
        unsafe value.deinitialize(count: 1)
        unsafe value.deallocate()
    }

    func current() -> (value: Value, version: UInt64) {
        room.withMachine { machine in unsafe (value.pointee, machine.version) }
    }

    func update(_ body: (inout Value) -> Void) -> Bool {
        // What was there is dropped after the lock: its end may run any code.
        var previous: Value?
        let wakes = room.withMachine { machine in
            let wakes = machine.update()
            if wakes != nil {
                previous = unsafe value.pointee
                unsafe body(&value.pointee)
            }
            return wakes
        }
        wakes?.perform()
        withExtendedLifetime(previous) {}
        return wakes != nil
    }

    func finish() { room.wake { $0.finish() } }

    /// The latest value, when it is newer than what was seen; nil if there will be none.
    func next(seen: UInt64) async throws(CancellationError) -> (value: Value, version: UInt64)? {
        if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
        switch room.withMachine({ $0.look(seen: seen) }) {
        case .changed: return current()
        case .finished: return nil
        case .mustWait(let ticket):
            switch await room.wait(ticket) {
            case .changed: return current()
            case .finished: return nil
            case .cancelled: throw CancellationError()
            }
        }
    }
}
