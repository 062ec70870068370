/// A value that is made when somebody needs it for the first time, by async code, once.
///
/// ```
/// let pool = OnceValue { try await ConnectionPool.open(address) }
/// let connection = try await pool.value.connection()
/// ```
///
/// The first task that asks makes the value, and all others that ask meanwhile wait for it. If making it throws, also
/// because that task was cancelled, that task gets the error, and the next who waits tries in its turn. It may be used
/// by any task on any loop or thread. The code that makes the value must not ask for it.
public final class OnceValue<Value: Sendable>: Sendable {
    private let room = Waiting(OnceMachine<Waiter<OnceAnswer>>())
    private let result = Lock<Value?>(nil)
    private let make: @Sendable () async throws -> Value

    /// A value that `make` makes, in the task that asks first.
    public init(_ make: @escaping @Sendable () async throws -> Value) { self.make = make }

    /// The value, if it was made.
    public var valueIfMade: Value? { result.withLock { $0 } }

    /// Tasks that wait for the one that makes it.
    public var waiting: Int { room.withMachine { $0.waiting } }

    /// The value, which is made if nobody has done so.
    ///
    /// - Throws: what `make` throws, if it was this task's turn to make it; `CancellationError` if the task was
    ///   cancelled while it waited for another one.
    public var value: Value {
        get async throws {
            if EventLoop.spendOperationHere() { await EventLoop.yieldInTurn() }
            if let value = valueIfMade { return value }
            switch room.withMachine({ $0.look() }) {
            case .made: break
            case .tryNow: return try await makeNow()
            case .mustWait(let ticket):
                switch await room.wait(ticket) {
                case .made: break
                case .tryNow: return try await makeNow()
                case .cancelled: throw CancellationError()
                }
            }
            guard let value = valueIfMade else { crash("a value that was made is not there") }
            return value
        }
    }

    private func makeNow() async throws -> Value {
        do {
            let value = try await make()
            result.withLock { $0 = value }
            room.wake { $0.succeed() }
            return value
        } catch {
            room.wake { $0.fail() }
            throw error
        }
    }
}
