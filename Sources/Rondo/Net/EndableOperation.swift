// One operation at a time that a task waits for, and that closing can end. And the order in which tasks that want the
// same thing come to it.

import CRondo
import Glibc

/// An operation and who waits for it. It belongs to the loop's thread.
@safe
final class EndableOperation: WaitingSink, @unchecked Sendable {
    // SAFETY: as WaitingSink, which holds for the closer too. What an operation points to is kept by who performs it,
    // and that function does not go on before the last completion.

    private var operation: OperationID?
    private var result: Int32 = 0
    private var closer: UnsafeContinuation<Void, Never>?

    /// Submits an operation and waits for its last completion, cancelled or not. No other may be under way.
    ///
    /// - Returns: what the call answered, or a negated errno.
    func perform(_ request: Operation) async -> Int32 {
        if loop.isShuttingDown { return -ECANCELED }
        unsafe operation = loop.start(request, sink: self)
        _ = await waitForNews()
        return result
    }

    override var hasNewsAlready: Bool { operation == nil }

    override func deliver(_ completion: Completion) {
        operation = nil
        result = completion.result
        wake()
        guard let continuation = unsafe closer else { return }
        unsafe closer = nil
        unsafe continuation.resume()
    }

    /// The waiting task goes on when the operation has ended.
    override func waiterWasCancelled() {
        if let operation { loop.cancel(operation) }
    }

    /// Asks for an early end, and returns when the kernel is through with it.
    func end() async {
        if let operation { loop.cancel(operation) }
        await unsafe park(unless: operation == nil) { unsafe closer = $0 }
    }
}

/// Lets one task at a time do something; others wait in order. It belongs to the loop's thread.
final class Turns {
    private let loop: EventLoop
    private let descriptor: Descriptor
    private var isTaken = false
    private let waiting = Backlog<Place>()

    init(_ descriptor: Descriptor, loop: EventLoop) {
        self.descriptor = descriptor
        self.loop = loop
    }

    /// Waits for the caller's turn, which ends with `give()`.
    ///
    /// - Returns: false if the task was cancelled instead.
    func take() async -> Bool {
        if !isTaken {
            isTaken = true
            return true
        }
        let place = Place(descriptor, loop: loop)
        waiting.append(place)
        if await place.waitForNews() { return true }
        // The turn may have come in the moment of the cancellation: then it is somebody else's.
        place.isGone = true
        if place.hasTurn { give() }
        return false
    }

    /// The turn passes on to who has waited longest.
    func give() {
        while let next = waiting.popFirst() {
            if next.isGone { continue }
            next.hasTurn = true
            return next.wake()
        }
        isTaken = false
    }

    /// A task's place in the line.
    private final class Place: WaitingSink, @unchecked Sendable {
        // SAFETY: as WaitingSink.

        /// Whether it is the task's turn.
        var hasTurn = false
        /// Whether the task was cancelled, and has left.
        var isGone = false

        override var hasNewsAlready: Bool { hasTurn }
    }
}
