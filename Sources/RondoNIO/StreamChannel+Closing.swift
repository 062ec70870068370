// How a channel ends: all of it, or one side. The pipeline hears of it at once; the socket is closed when what was
// flushed has been sent, by the reading task, which is the last that uses it.

public import NIOCore
import Rondo

extension StreamChannel {
    public func close0(error: any Error, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        if life == .closed {
            promise?.fail(ChannelError.alreadyClosed)
            return
        }
        switch mode {
        case .all: closeAll(error, promise)
        case .input: closeInput(error, promise)
        case .output: closeOutput(error, promise)
        }
    }

    // MARK: One side

    private func closeInput(_ error: any Error, _ promise: EventLoopPromise<Void>?) {
        if isInputClosed {
            promise?.fail(ChannelError.inputClosed)
            return
        }
        guard case .open = outputEnd else { return closeAll(error, promise) }
        isInputClosed = true
        isReadWanted = false
        promise?.succeed(())
        pipeline.syncOperations.fireUserInboundEventTriggered(ChannelEvent.inputClosed)
    }

    private func closeOutput(_ error: any Error, _ promise: EventLoopPromise<Void>?) {
        guard case .open = outputEnd else {
            promise?.fail(ChannelError.outputClosed)
            return
        }
        if isInputClosed || life != .active { return closeAll(error, promise) }
        outputEnd = .waiting(promise)
        // What was written and not flushed never will be.
        for promise in writes.drop(flushedToo: false) { promise.fail(ChannelError.outputClosed) }
        if batch == nil, !isSendingFile, !writes.hasFlushed { shutDownOutput(promise) }
    }

    /// Tells the peer that nothing more comes.
    func shutDownOutput(_ promise: EventLoopPromise<Void>?) {
        guard let stream else { return }
        outputEnd = .closed
        Task.detached(name: "NIO half-closure", executorPreference: loop.taskExecutor) {
            do {
                try await stream.finishWriting()
                promise?.succeed(())
            } catch {
                promise?.fail((error as? Rondo.IOError)?.forNIO ?? error)
            }
            if self.life == .closed { return }
            self.pipeline.syncOperations.fireUserInboundEventTriggered(ChannelEvent.outputClosed)
            // The peer had ended before.
            if self.isInputClosed { self.close0(error: ChannelError.eof, mode: .all, promise: nil) }
        }
    }

    // MARK: All of it

    private func closeAll(_ error: any Error, _ promise: EventLoopPromise<Void>?) {
        life = .closed
        isReadWanted = false
        if let promise { closers.append(promise) }
        var failed = writes.drop(flushedToo: stream == nil)
        if case .waiting(let end?) = outputEnd { failed.append(end) }
        outputEnd = .closed
        for promise in failed { promise.fail(error) }
        connecting?.giveUp(error)
        connecting = nil
        if becomeInactive() { pipeline.syncOperations.fireChannelInactive() }
        pipeline.syncOperations.fireChannelUnregistered()
        // Handlers up the stack still use the pipeline.
        loop.execute { self.removeHandlers(pipeline: self.pipeline) }
        if hasSent { resumeClosing() } else { linger() }
    }

    /// Whether nothing is left that must be sent before the stream closes.
    private var hasSent: Bool { batch == nil && !isSendingFile && !writes.hasFlushed }

    private func linger() {
        loop.scheduleTask(in: Self.lingerTime) {
            self.isLingerOver = true
            self.resumeClosing()
        }
        pump()
    }

    /// Lets whoever has to close the stream do it.
    func resumeClosing() {
        guard let stream else { return finish() }
        if !hasReader { return startReader() }
        if isReading, closingTask == nil {
            // The reading task waits for bytes; it goes on when the stream is closed.
            let task = Task.detached(name: "NIO closing", executorPreference: loop.taskExecutor) {
                await stream.close()
            }
            if isLingerOver { task.cancel() }
            closingTask = task
        } else {
            resumeReader()
        }
    }

    /// The last part of the reading task's work.
    func finishClosing() async {
        while !hasSent, !isLingerOver { await parkReader(unless: hasSent || isLingerOver) }
        if let closingTask {
            await closingTask.value
        } else if let stream {
            if isLingerOver { await stream.abort() } else { await stream.close() }
        }
        for promise in writes.drop(flushedToo: true) { promise.fail(ChannelError.ioOnClosedChannel) }
        finish()
    }

    /// Nothing is left of it.
    private func finish() {
        stream = nil
        loop.remove(self)
        forgetAddresses()
        let closers = closers
        self.closers = []
        for promise in closers { promise.succeed(()) }
        // After the handlers have gone.
        loop.execute { self.closePromise.succeed(()) }
    }
}
