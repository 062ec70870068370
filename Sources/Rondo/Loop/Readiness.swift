// Waiting for a descriptor by polls, for those who then make a call that does not block: pipes, the descriptors of
// libraries, bytes that are moved from socket to socket.

import CRondo
import Glibc

/// Waits for a descriptor to become ready, by polls. It belongs to the loop's thread.
///
/// A wait that is cancelled ends at once; its poll stays, and serves the next wait.
@safe
final class Readiness: WaitingSink, @unchecked Sendable {
    // SAFETY: as WaitingSink, which holds for those who close, too. A poll points to nothing.

    private let events: Int16
    private var operation: OperationID?
    private var answer: Int32 = 0
    private var isClosing = false
    /// Who waits until the kernel is through with the descriptor.
    private var closers: [UnsafeContinuation<Void, Never>] = unsafe []

    init(_ descriptor: Descriptor, events: Int32, loop: EventLoop) {
        self.events = Int16(events)
        super.init(descriptor, loop: loop)
    }

    /// Waits once. Nobody else may wait.
    ///
    /// - Returns: 0 when something has come, or a negated errno: `ECANCELED` if the task was cancelled or the loop
    ///   ends, `EBADF` if this is being closed.
    func wait() async -> Int32 {
        if isClosing { return -EBADF }
        if loop.isShuttingDown { return -ECANCELED }
        if operation == nil { unsafe operation = loop.start(.poll(descriptor, events: events), sink: self) }
        let hasNews = await waitForNews()
        if isClosing { return -EBADF }
        return hasNews ? min(answer, 0) : -ECANCELED
    }

    override var hasNewsAlready: Bool { operation == nil || isClosing }

    override func deliver(_ completion: Completion) {
        operation = nil
        answer = completion.result
        wake()
        let closers = unsafe closers
        unsafe self.closers = unsafe []
        unsafe closers.forEach { unsafe $0.resume() }
    }

    /// Ends the wait, for good. Returns when the kernel is through with the descriptor. Any number may close.
    func close() async {
        isClosing = true
        wake()
        if let operation { loop.cancel(operation) }
        await unsafe park(unless: operation == nil) { unsafe closers.append($0) }
    }
}
