// Connections that the kernel has accepted and nobody has taken yet. The multishot accept stays armed, so a thousand
// connections that arrive at once are here after one turn.

import CRondo
import Glibc
import SystemPackage

/// A listener's accepting side. It belongs to the loop's thread.
@safe
final class AcceptQueue: WaitingSink, @unchecked Sendable {
    // SAFETY: as WaitingSink, which holds for the closer too. An accept points to nothing.

    /// Connections nobody has taken, at which accepting pauses; more wait in the kernel's own queue.
    static let pauseAt = 1024
    /// How long to wait when the process has no descriptor left. Nothing tells when one becomes free.
    static let retryNanoseconds: UInt64 = 50_000_000

    private let name: String
    private var operation: OperationID?
    private var isPausing = false
    private let accepted = Backlog<Descriptor>()
    private(set) var failure: Int32?
    private var closer: UnsafeContinuation<Void, Never>?
    private var isClosing = false
    /// Set while there is no descriptor for another connection.
    private var retryTimer: TimerWheel.Index?
    /// Times that accepting stopped because the process, or the system, had no descriptor left.
    private(set) var shortages = 0

    init(_ descriptor: Descriptor, name: String, loop: EventLoop) {
        self.name = name
        super.init(descriptor, loop: loop)
    }

    /// The next connection, if there is one.
    func next() -> Descriptor? { accepted.popFirst() }

    /// Waits until there is a connection, or accepting has failed for good.
    ///
    /// - Returns: false if the task was cancelled instead.
    @inline(__always)
    func wait() async -> Bool {
        arm()
        if failure != nil { return true }
        return await waitForNews()
    }

    override var hasNewsAlready: Bool { accepted.count > 0 || failure != nil }

    private func arm() {
        if operation != nil || failure != nil || isClosing || retryTimer != nil { return }
        if loop.isShuttingDown {
            failure = ECANCELED
            return
        }
        unsafe operation = loop.start(.accept(descriptor), sink: self)
    }

    override func deliver(_ completion: Completion) {
        if !completion.more {
            operation = nil
            isPausing = false
        }
        if completion.result >= 0 {
            keep(Descriptor(rawValue: completion.result))
        } else {
            note(failure: -completion.result)
        }
        if operation == nil {
            // An accept may end after any connection: go on as long as somebody waits.
            if hasWaiter { arm() }
            finishClosing()
        }
    }

    private func keep(_ connection: Descriptor) {
        if isClosing { return loop.driver.closeNow(connection) }
        accepted.append(connection)
        loop.counters.connectionsAccepted &+= 1
        wake()
        if accepted.count > Self.pauseAt, let operation, !isPausing {
            isPausing = true
            loop.cancel(operation)
        }
    }

    private func note(failure code: Int32) {
        switch code {
        case _ where loop.isShuttingDown:
            failure = ECANCELED
            wake()
        case EMFILE, ENFILE, ENOBUFS, ENOMEM:
            pause(because: code)
        case ECANCELED, ECONNABORTED, EPROTO, EAGAIN, EINTR, ENETDOWN, ENOPROTOOPT,
            EHOSTDOWN, EHOSTUNREACH, EOPNOTSUPP, ENETUNREACH, EPERM:
            // Not the listener's fault: the connection was gone before we had it (man 2 accept), or we asked for it.
            break
        default:
            failure = code
            wake()
        }
    }

    /// No descriptor for another connection: clients wait in the kernel's queue until there is one.
    private func pause(because code: Int32) {
        shortages += 1
        let error = IOError("accept on", name, .system(Errno(rawValue: code)))
        if shortages == 1 || shortages % 1200 == 0 {
            loop.configuration.logger.warning("\(error); trying again every 50 ms, new connections wait")
        }
        retryTimer = loop.timers.add(
            deadline: loop.driver.now + Self.retryNanoseconds, target: .callback(Retry(self)))
    }

    private final class Retry: TimerCallback {
        let queue: AcceptQueue
        init(_ queue: AcceptQueue) { self.queue = queue }
        override func fire() {
            queue.retryTimer = nil
            if queue.hasWaiter { queue.arm() }
        }
        override func loopShutsDown() { queue.note(failure: ECANCELED) }
    }

    /// Stops accepting and closes what nobody took. Returns when the kernel is through with the descriptor.
    func close() async {
        isClosing = true
        if failure == nil { failure = EBADF }
        while let connection = next() { loop.driver.closeNow(connection) }
        wake()
        if let retryTimer { loop.timers.remove(retryTimer) }
        retryTimer = nil
        if let operation { loop.cancel(operation) }
        await unsafe park(unless: operation == nil) { unsafe closer = $0 }
    }

    private func finishClosing() {
        guard let continuation = unsafe closer else { return }
        unsafe closer = nil
        unsafe continuation.resume()
    }
}
