// Signals of the process, for tasks to wait for. A handler notes the signal and writes to the eventfd of each listener;
// why not a signalfd is in docs/decisions/0017-signals-by-handler.md.

import CRondo
import Glibc

/// UNIX signals that the process is sent, one after the other, without an end:
///
/// ```
/// for await signal in try Signals.of(.hangup, .user1) { … }
/// ```
///
/// From the call of ``of(_:)`` on, the signals do not what they did before; when the last listener of a signal is
/// dropped, its disposition becomes what it was. Each of several listeners gets every signal. As in the kernel, a burst
/// of one signal that nobody has taken yet is one signal; different ones come in the order of their numbers.
///
/// The sequence ends (`nil`) if the task is cancelled, or the loop ends. One task at a time may wait for it.
public struct Signals: AsyncSequence, Sendable {
    /// What comes.
    public typealias Element = Signal
    /// It never throws.
    public typealias Failure = Never

    private let listener: SignalListener

    /// Listens for signals from now on, on the caller's loop.
    ///
    /// - Throws: `IOError` for signals that can't be waited for (SIGKILL, SIGSTOP, those of a crash), or if there are
    ///   64 listeners already.
    public static func of(_ signals: Signal...) throws(IOError) -> Signals { try of(signals) }

    /// Listens for signals from now on, on the caller's loop.
    public static func of(_ signals: [Signal]) throws(IOError) -> Signals {
        Signals(listener: try SignalListener(signals, loop: EventLoop.required(for: "Signals.of")))
    }

    /// All iterators share what has come.
    public func makeAsyncIterator() -> Iterator { Iterator(listener: listener) }

    /// Waits for the signals of a ``Signals``.
    public struct Iterator: AsyncIteratorProtocol {
        fileprivate let listener: SignalListener

        /// Waits for the next signal; nil if the task is cancelled, or the loop ends.
        public mutating func next() async -> Signal? { await listener.next() }

        /// Waits for the next signal; nil if the task is cancelled, or the loop ends.
        public mutating func next(isolation actor: isolated (any Actor)?) async -> Signal? { await listener.next() }
    }
}

/// What one listener has been sent.
@safe
private final class SignalListener: @unchecked Sendable {
    // SAFETY: `arrived` and `isWaiting` belong to the loop's thread; the rest never changes.

    private let loop: EventLoop
    private let registration: SignalRegistration
    private let readiness: Readiness
    /// Signals that were taken from the handler and not given out: bit n − 1 for signal n.
    private var arrived: UInt64 = 0
    private var isWaiting = false

    init(_ signals: [Signal], loop: EventLoop) throws(IOError) {
        guard loop.driver is any KernelDriver else {
            throw IOError("listen for", "signals", .invalid("a simulation has no signals"))
        }
        self.loop = loop
        registration = try SignalRegistration(signals)
        readiness = Readiness(registration.bell, events: POLLIN, loop: loop)
    }

    deinit {
        let (loop, registration, readiness) = (loop, registration, readiness)
        registration.end()
        loop.detach {
            await loop.onLoop {
                await readiness.close()
                _ = await unsafe loop.performToTheEnd(.close(registration.bell))
            }
        }
    }

    func next() async -> Signal? {
        await loop.onLoop {
            if loop.spendOperation() { await loop.yieldInTurn() }
            require(!isWaiting, "two tasks wait for the same Signals: give each one of its own")
            isWaiting = true
            defer { isWaiting = false }
            while true {
                if arrived == 0 { takeArrived() }
                if arrived != 0 { return takeFirst() }
                if await readiness.wait() < 0 { return nil }
            }
        }
    }

    private func takeArrived() {
        // The bell first: a signal that comes between the two rings it again.
        var count: UInt64 = 0
        // SAFETY: an eventfd fills in eight bytes.
        _ = unsafe loop.driver.readNow(registration.bell, &count, count: 8, kind: .nonBlocking)
        arrived = rondo_listener_take(registration.slot)
    }

    private func takeFirst() -> Signal {
        let bit = arrived.trailingZeroBitCount
        arrived &= arrived &- 1
        return Signal(rawValue: Int32(bit + 1))
    }
}

/// A listener's place in the handler's table, and the handlers of its signals.
private final class SignalRegistration: Sendable {
    /// The eventfd that the handler writes to.
    let bell: Descriptor
    let slot: Int32
    private let numbers: Set<Int32>

    /// How many listeners each signal has; who changes it also changes the handlers.
    private static let listeners = Lock<[Int32: Int]>([:])
    /// Signals that tell of a crash: to go on after the handler would repeat it.
    private static let crashes: Set<Int32> = [SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGTRAP, SIGABRT]

    init(_ signals: [Signal]) throws(IOError) {
        var mask: UInt64 = 0
        for signal in signals {
            let isPossible = (1...64).contains(signal.rawValue) && ![SIGKILL, SIGSTOP].contains(signal.rawValue)
            guard isPossible, !Self.crashes.contains(signal.rawValue) else {
                throw IOError("listen for", "\(signal)", .invalid("this signal can't be waited for"))
            }
            mask |= 1 << UInt64(signal.rawValue - 1)
        }
        guard mask != 0 else { throw IOError("listen for", "signals", .invalid("there are none")) }
        numbers = Set(signals.map(\.rawValue))
        let answer = rondo_eventfd()
        if answer < 0 { throw IOError("listen for", "\(signals[0])", IOError.cause(ofAnswer: answer)) }
        bell = Descriptor(rawValue: answer)
        let numbers = numbers
        slot = Self.listeners.withLock { listeners in
            let slot = rondo_listener_add(answer, mask)
            if slot < 0 { return slot }
            for number in numbers {
                if listeners[number, default: 0] == 0 { _ = rondo_signal_catch(number) }
                listeners[number, default: 0] += 1
            }
            return slot
        }
        if slot < 0 {
            close(answer)
            throw IOError(
                "listen for", "\(signals[0])", .invalid("there are \(RONDO_LISTENER_LIMIT) listeners already"))
        }
    }

    /// After this nothing writes to the bell.
    func end() {
        Self.listeners.withLock { listeners in
            for number in numbers {
                listeners[number, default: 1] -= 1
                if listeners[number] == 0 { _ = rondo_signal_restore(number) }
            }
            rondo_listener_remove(slot)
        }
    }
}
