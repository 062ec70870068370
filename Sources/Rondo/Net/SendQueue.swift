// What a stream is sending. A chunk that is sent on need not be waited for: the queue holds it until the kernel has
// taken it over, and whoever writes next waits for that. So an echo is one job and not two, and at most one chunk a
// stream is under way: that is the back-pressure.

import CRondo
import Glibc
public import SystemPackage

/// Who is told how a write ended that it did not wait for (``SocketStream/startWriting(_:observer:)``).
public protocol WriteObserver: AnyObject, Sendable {
    /// Called once, on the stream's loop, between two jobs: do little here, and call nothing that waits.
    ///
    /// - Parameter error: nil if the kernel has taken over all of the bytes; else why not. The stream is then good for
    ///   nothing but closing.
    func writeEnded(_ error: Errno?)
}

/// A stream's sending side. It belongs to the loop's thread.
@safe
final class SendQueue: WaitingSink, @unchecked Sendable {
    // SAFETY: as WaitingSink, which holds for the closer too. The bytes of a send are the chunk's or an owner's; both
    // are given back after the last completion.

    // What every message touches comes first.

    /// The chunk under way; its buffer is none if the bytes are a program's own.
    private var chunk = BufferSlice.none
    /// How much of it the kernel has taken over.
    private var sent: UInt32 = 0
    /// Why a chunk could not be sent, an errno: whoever writes next is told, and so is everybody after.
    private(set) var failure: Int32 = 0
    /// A program's own bytes that are under way, and who keeps them.
    private var own: (owner: AnyObject, start: UnsafeRawPointer)?
    /// Who is told when the chunk has been sent.
    private var observer: (any WriteObserver)?
    /// The send of the chunk.
    private var operation: OperationID?
    /// Whether a task is in a call that writes.
    private(set) var isBusy = false
    /// Whether what is left of the chunk is not to be sent.
    private var isGivenUp = false
    /// Who closes the stream and waits for the writing task.
    private var closer: UnsafeContinuation<Void, Never>?

    /// Whether a chunk is under way.
    var isSending: Bool { operation != nil }

    /// Whether nothing is under way, and nothing has failed.
    @inline(__always)
    var isIdle: Bool { operation == nil && !isBusy && failure == 0 }

    /// Sends `slice`, and gives it back when the kernel has taken it over. No other chunk may be under way.
    @inline(__always)
    func send(_ slice: BufferSlice) {
        chunk = slice
        sent = 0
        submit()
    }

    /// Sends bytes that `own` keeps, as above.
    func send(_ own: (owner: AnyObject, start: UnsafeRawPointer), count: Int) {
        unsafe self.own = unsafe own
        send(BufferSlice(buffer: BufferSlice.none.buffer, offset: 0, count: UInt32(count)))
    }

    /// Has `observer` told when what is under way has been sent, or can't be.
    func observe(by observer: any WriteObserver) { self.observer = observer }

    @inline(__always)
    private func submit() {
        let start = unsafe own?.start ?? loop.receiveBuffers.bytes(of: chunk).baseAddress!
        unsafe operation = loop.start(
            .send(descriptor, start + Int(sent), count: Int(chunk.count - sent)), sink: self)
    }

    override func deliver(_ completion: Completion) {
        operation = nil
        if completion.result < 0 {
            failure = -completion.result
        } else {
            sent &+= UInt32(completion.result)
            if sent < chunk.count { return isGivenUp ? fail(ECANCELED) : submit() }
        }
        finish()
    }

    /// What was to be sent past this queue can't be: whoever writes next is told.
    func refuse(_ code: Int32) { if failure == 0 { failure = code } }

    private func fail(_ code: Int32) {
        failure = code
        finish()
    }

    @inline(__always)
    private func finish() {
        if unsafe own == nil { loop.release(chunk) } else { unsafe own = nil }
        wake()
        if observer != nil { tellObserver() }
    }

    @inline(never)
    private func tellObserver() {
        let observer = observer
        self.observer = nil
        observer?.writeEnded(failure == 0 ? nil : Errno(rawValue: failure))
    }

    /// Waits until no chunk is under way. If the task is cancelled the chunk is given up, and `failure` says so.
    func waitUntilSent() async {
        if operation == nil { return }
        isGivenUp = false
        _ = await waitForNews()
    }

    override var hasNewsAlready: Bool { operation == nil }

    /// The waiting task goes on when the kernel has let go of the chunk.
    override func waiterWasCancelled() {
        isGivenUp = true
        if let operation { loop.cancel(operation) }
    }

    // One task writes at a time.

    /// The calling task begins to write.
    @inline(__always)
    func begin() { isBusy = true }

    /// The calling task has written.
    @inline(__always)
    func end() {
        isBusy = false
        guard let continuation = unsafe closer else { return }
        unsafe closer = nil
        unsafe continuation.resume()
    }

    /// Waits until the writing task has ended its call.
    func waitForWriter() async {
        await unsafe park(unless: !isBusy) { unsafe closer = $0 }
    }
}
