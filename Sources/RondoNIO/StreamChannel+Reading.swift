// The reading side of a channel: one task that reads when somebody wants to read, hands what has come to the pipeline,
// and closes the stream at the end.

import NIOCore
import Rondo

extension StreamChannel {
    /// Somebody in the pipeline wants to read.
    public func read0() {
        if isInputClosed || life == .closed { return }
        isReadWanted = true
        resumeReader()
    }

    /// `autoRead`: as soon as something was read, more is wanted. The wish goes through the pipeline, where handlers
    /// hold it back that want to slow the peer down.
    func readIfAutomatic() {
        if life == .active, options.autoRead, !isReadWanted, !isInputClosed { pipeline.syncOperations.read() }
    }

    // MARK: The reading task

    /// Starts the reading task.
    func startReader() {
        hasReader = true
        Task.detached(name: "NIO channel", executorPreference: loop.taskExecutor) { await self.runReader() }
    }

    /// The reading task's work, from the first byte to the closed socket. On the loop's thread.
    func runReader() async {
        hasReader = true
        while life != .closed, let stream { await readOnce(stream) }
        await finishClosing()
    }

    /// Reads, and delivers what has come when somebody wants it. One piece is read ahead, so that the peer's end is
    /// noticed though nobody reads.
    private func readOnce(_ stream: SocketStream) async {
        if isInputClosed { return await parkReader(unless: life == .closed) }
        do throws(Rondo.IOError) {
            isReading = true
            let chunk = try await stream.read(upTo: options.readLimit)
            isReading = false
            guard var chunk else { return reachEnd() }
            while !isReadWanted, life == .active {
                chunk.keep()
                await parkReader(unless: isReadWanted || life != .active)
            }
            if life == .active { deliver(chunk) }
        } catch {
            isReading = false
            failReading(error)
        }
    }

    private func deliver(_ chunk: borrowing ByteChunk) {
        isReadWanted = false
        loop.readBuffer.clear()
        // SAFETY: the bytes are copied within the call.
        unsafe chunk.bytes.withUnsafeBytes { bytes in
            _ = unsafe loop.readBuffer.writeBytes(bytes)
        }
        let operations = pipeline.syncOperations
        operations.fireChannelRead(NIOAny(loop.readBuffer))
        if life != .active { return }
        operations.fireChannelReadComplete()
        readIfAutomatic()
    }

    /// The peer sends no more.
    private func reachEnd() {
        if life != .active { return }
        isReadWanted = false
        pipeline.syncOperations.fireChannelReadComplete()
        if life != .active { return }
        close0(error: ChannelError.eof, mode: options.allowRemoteHalfClosure ? .input : .all, promise: nil)
    }

    private func failReading(_ error: Rondo.IOError) {
        if life != .active { return }
        // The end of the task or of the loop is nobody's mistake.
        if error.isCancellation { return close0(error: error.forNIO, mode: .all, promise: nil) }
        pipeline.syncOperations.fireErrorCaught(error.forNIO)
        close0(error: error.forNIO, mode: .all, promise: nil)
    }

    // MARK: Waiting for work

    // SAFETY: one reading task parks, and its continuation is taken out before it is resumed.

    /// Waits until there may be something to do; not at all if `isOver`. That is asked where nothing can come in
    /// between any more: if the caller is an actor's, other jobs may have run since it looked.
    func parkReader(unless isOver: @autoclosure () -> Bool) async {
        await unsafe withUnsafeContinuation { continuation in
            if isOver() { unsafe continuation.resume() } else { unsafe parkedReader = continuation }
        }
    }

    /// The reading task looks again what there is to do.
    func resumeReader() {
        guard let reader = unsafe parkedReader else { return }
        unsafe parkedReader = nil
        unsafe reader.resume()
    }
}
