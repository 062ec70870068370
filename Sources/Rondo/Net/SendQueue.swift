// What a stream is sending. A chunk that is sent on need not be waited for: the queue holds it until the kernel has
// taken it over, and whoever writes next waits for that. So an echo is one job and not two, and at most one chunk a
// stream is under way: that is the back-pressure.

import CRondo
import Glibc

/// A stream's sending side. It belongs to the loop's thread.
@safe
final class SendQueue: WaitingSink, @unchecked Sendable {
    // SAFETY: as WaitingSink, which holds for the closer too. The bytes of a send are the chunk's, which is given back
    // after the last completion.

    // What every message touches comes first.

    /// The chunk under way.
    private var chunk = BufferSlice.none
    /// How much of it the kernel has taken over.
    private var sent: UInt32 = 0
    /// Why a chunk could not be sent, an errno: whoever writes next is told, and so is everybody after.
    private(set) var failure: Int32 = 0
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

    @inline(__always)
    private func submit() {
        let bytes = unsafe loop.receiveBuffers.bytes(of: chunk)
        unsafe operation = loop.start(
            .send(descriptor, bytes.baseAddress! + Int(sent), count: Int(chunk.count - sent)), sink: self)
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

    private func fail(_ code: Int32) {
        failure = code
        finish()
    }

    @inline(__always)
    private func finish() {
        loop.release(chunk)
        wake()
    }

    /// Waits until no chunk is under way. If the task is cancelled the chunk is given up, and `failure` says so.
    func waitUntilSent() async {
        if operation == nil { return }
        isGivenUp = false
        _ = await waitForNews()
    }

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
        if isBusy { await unsafe withUnsafeContinuation { unsafe closer = $0 } }
    }
}
