// The writing side of a channel. What is flushed goes to the stream at once, if nothing is under way; when that has
// been sent the stream calls back, and what was flushed meanwhile goes out together. No task takes part in it.

public import NIOCore
public import Rondo
public import SystemPackage

extension StreamChannel: WriteObserver {
    public func write0(_ data: NIOAny, promise: EventLoopPromise<Void>?) {
        if life == .closed {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        guard case .open = outputEnd else {
            promise?.fail(ChannelError.outputClosed)
            return
        }
        writes.add(unwrapData(data, as: IOData.self), promise)
        if writes.bytes > options.waterMark.high, writable.load(ordering: .relaxed) {
            writable.store(false, ordering: .relaxed)
            pipeline.syncOperations.fireChannelWritabilityChanged()
        }
    }

    public func flush0() {
        if life == .closed { return }
        writes.markFlushed()
        if life == .active { pump() }
    }

    /// What was flushed before the connection was there.
    func flushAfterConnecting() {
        if writes.hasFlushed { pump() }
    }

    /// Sends what was flushed, unless something is under way.
    func pump() {
        if isPumping || isSendingFile { return }
        isPumping = true
        while batch == nil, !isSendingFile, let next = writes.nextBatch(loop) { send(next) }
        isPumping = false
        if batch == nil, !isSendingFile { finishOutput() }
    }

    private func send(_ next: PendingWrites.Batch) {
        guard let stream else { return }
        batch = next
        switch next.content {
        case .byteBuffer(let buffer) where buffer.readableBytes == 0: finishBatch()
        case .byteBuffer(let buffer): start(buffer, on: stream)
        case .fileRegion(let region):
            isSendingFile = true
            batch = nil
            send(region, of: next, on: stream)
        }
    }

    private func start(_ buffer: ByteBuffer, on stream: SocketStream) {
        do {
            try unsafe buffer.withUnsafeReadableBytesWithStorageManagement { bytes, owner in
                // SAFETY: the buffer's storage stays as it is while somebody else has it too: who changes it copies it.
                let chunk = unsafe ByteChunk(bytes, keptBy: owner.takeUnretainedValue())
                try stream.startWriting(chunk, observer: self)
            }
        } catch {
            failWriting((error as? Rondo.IOError)?.forNIO ?? error)
        }
    }

    /// The stream has sent what it was given. On the loop, in no task.
    public func writeEnded(_ error: Errno?) {
        if let error {
            return failWriting(NIOCore.IOError(errnoCode: error.rawValue, reason: "write to the channel"))
        }
        finishBatch()
        pump()
    }

    private func finishBatch() {
        guard var sent = batch else { return }
        batch = nil
        writes.finish(sent)
        if sent.isMerged, case .byteBuffer(var buffer) = sent.content {
            sent.content = .byteBuffer(ByteBuffer())
            loop.giveBack(&buffer)
        }
        for promise in sent.promises { promise.succeed(()) }
        tellWritability()
    }

    private func tellWritability() {
        if life == .closed || writes.bytes >= options.waterMark.low || writable.load(ordering: .relaxed) { return }
        writable.store(true, ordering: .relaxed)
        pipeline.syncOperations.fireChannelWritabilityChanged()
    }

    /// All that was flushed is with the kernel.
    private func finishOutput() {
        if life == .closed { return resumeClosing() }
        if case .waiting(let promise) = outputEnd, !writes.hasFlushed { shutDownOutput(promise) }
    }

    /// The stream can't be written to any more. The channel closes, but not before what the peer sent before it left
    /// has been read, as far as it is here.
    private func failWriting(_ error: any Error) {
        var promises = batch?.promises ?? []
        if let batch { writes.finish(batch) }
        batch = nil
        isSendingFile = false
        promises += writes.drop(flushedToo: true)
        if case .waiting(let promise?) = outputEnd { promises.append(promise) }
        outputEnd = .closed
        for promise in promises { promise.fail(error) }
        if life == .closed { return resumeClosing() }
        loop.execute { self.close0(error: error, mode: .all, promise: nil) }
    }

    // MARK: Files

    /// How much of a file is in memory at a time.
    private static let filePiece = 128 * 1024

    /// Sends a part of a file: its pieces are read by the offload pool, one while nothing else is under way.
    private func send(_ region: FileRegion, of whole: PendingWrites.Batch, on stream: SocketStream) {
        Task.detached(name: "NIO file", executorPreference: loop.taskExecutor) {
            var position = region.readerIndex
            do {
                while position < region.endIndex {
                    let count = min(Self.filePiece, region.endIndex - position)
                    let piece = try await Self.read(region, at: position, count: count)
                    if !self.isSendingFile { return }
                    try await stream.write(piece)
                    position += piece.count
                }
                self.isSendingFile = false
                self.batch = whole
                self.finishBatch()
                self.pump()
            } catch {
                if self.isSendingFile { self.failWriting((error as? Rondo.IOError)?.forNIO ?? error) }
            }
        }
    }

    private static func read(_ region: FileRegion, at position: Int, count: Int) async throws -> [UInt8] {
        let handle = region.fileHandle
        return try await offload {
            try handle.withUnsafeFileDescriptor { descriptor in
                let file = FileDescriptor(rawValue: descriptor)
                let bytes = try unsafe [UInt8](unsafeUninitializedCapacity: count) { memory, filled in
                    // SAFETY: as many bytes count as the system has filled in.
                    filled = try unsafe file.read(
                        fromAbsoluteOffset: Int64(position), into: UnsafeMutableRawBufferPointer(memory))
                }
                if bytes.isEmpty { throw ChannelError.eof }
                return bytes
            }
        }
    }
}
