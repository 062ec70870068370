// How a task waits at a state machine: the part that knows locks and continuations. The machine says what is to be
// done; it is done here, outside of the lock. A resumed task goes on where it ran before: the runtime sees to that, so
// nothing here belongs to a loop.

import CRondo

/// What wakes a waiting task.
@safe
struct Waiter<Answer: Sendable>: Sendable {
    // SAFETY: a machine gives a token away once, to be resumed: a place is freed with it.
    private let continuation: UnsafeContinuation<Answer, Never>

    @inline(__always)
    init(_ continuation: UnsafeContinuation<Answer, Never>) { unsafe self.continuation = continuation }

    @inline(__always)
    func resume(returning answer: Answer) { unsafe continuation.resume(returning: answer) }
}

extension Wakes {
    /// Wakes them. Not under a lock: whoever is woken may run at once, on another thread.
    @inline(__always)
    func perform() where Token == Waiter<Answer> { forEach { $0.token.resume(returning: $0.answer) } }
}

extension Wake {
    /// Wakes it. Not under a lock.
    @inline(__always)
    func perform() where Token == Waiter<Answer> { token.resume(returning: answer) }
}

/// What tasks wait at, as cancellation sees it.
@safe
class WaitingRoom: @unchecked Sendable {
    // SAFETY: it has no state of its own; what subclasses have is behind a lock.
    // SAFETY of each `unsafe` below: begin and end nest around the one suspension; this function keeps the object alive
    // meanwhile, and `end` returns only when the handler runs no more.

    /// From any thread: the waiter with this number was cancelled. It may have been answered before.
    func cancelWait(_ number: UInt64) { crash("this wait can't be cancelled") }

    /// Waits until the token that `park` gets is resumed.
    ///
    /// - Parameter number: what `cancelWait` is told if the task is cancelled, even before `park` is called.
    @inline(__always)
    final func wait<Answer: Sendable>(_ number: UInt64, park: (Waiter<Answer>) -> Void) async -> Answer {
        let cancellation = unsafe rondo_cancellation_begin(
            { unsafe WaitingRoom.noteCancellation($0, $1) }, Unmanaged.passUnretained(self).toOpaque(), number)
        let answer: Answer = await unsafe withUnsafeContinuation { unsafe park(Waiter($0)) }
        unsafe rondo_cancellation_end(cancellation)
        return answer
    }

    private static func noteCancellation(_ object: UnsafeMutableRawPointer?, _ number: UInt64) {
        unsafe Unmanaged<WaitingRoom>.fromOpaque(object!)._withUnsafeGuaranteedRef { $0.cancelWait(number) }
    }
}

/// A state machine that tasks wait at.
protocol WaitMachine {
    associatedtype Token
    associatedtype Answer: Sendable

    /// See `WaitQueue.park`.
    mutating func park(_ token: Token, at ticket: WaitTicket) -> Answer?
    /// A waiter was cancelled; one that was answered before is not.
    mutating func cancel(_ ticket: WaitTicket) -> Wakes<Token, Answer>
}

/// A machine behind a lock.
final class Waiting<Machine: WaitMachine>: WaitingRoom, @unchecked Sendable
where Machine.Token == Waiter<Machine.Answer> {
    // SAFETY: the machine is behind its lock.
    private let machine: Lock<Machine>

    init(_ machine: sending Machine) { self.machine = Lock(machine) }

    /// Asks the machine, or changes it.
    @inline(__always)
    func withMachine<Result: Sendable>(_ body: (inout Machine) -> Result) -> Result {
        machine.withLock { body(&$0) }
    }

    /// Changes the machine, and wakes whom it says.
    @inline(__always)
    func wake(_ body: (inout Machine) -> Wakes<Machine.Token, Machine.Answer>) {
        machine.withLock { body(&$0) }.perform()
    }

    /// Waits for the answer to a waiter that has joined.
    @inline(__always)
    func wait(_ ticket: WaitTicket) async -> Machine.Answer {
        let answer: Machine.Answer = await wait(ticket.rawValue) { token in
            if let answer = machine.withLock({ $0.park(token, at: ticket) }) { token.resume(returning: answer) }
        }
        // What the one who answered did before is visible here: the runtime sees to that. If the answer came between
        // parking and stopping, ThreadSanitizer does not know; the lock shows it.
        machine.withLock { _ in }
        return answer
    }

    override func cancelWait(_ number: UInt64) {
        machine.withLock { $0.cancel(WaitTicket(rawValue: number)) }.perform()
    }
}

extension EventLoop {
    /// Books an operation that finishes without waiting, if the caller runs on a loop's thread.
    ///
    /// - Returns: whether the job has had its share and must yield first.
    @inline(__always)
    static func spendOperationHere() -> Bool {
        guard let loop = unsafe rondo_current_loop() else { return false }
        // SAFETY: enterThread stored a loop that lives until close() clears it.
        return unsafe Unmanaged<EventLoop>.fromOpaque(loop)._withUnsafeGuaranteedRef { $0.spendOperation() }
    }

    /// Yields, with a frame of its own: for callers that seldom do.
    @inline(never)
    static func yieldInTurn() async { await yield() }
}
