// A socket's connection as the two ends of a byte stream, and the end without ceremony.

extension SocketStream: ByteSource, ByteSink {
    /// The peer's address, or what kind of stream it is.
    public var subject: String { peerName ?? kindName }

    /// Breaks the connection at once: from any task, whatever others wait for.
    ///
    /// What was not sent yet is gone, and the peer of a TCP connection sees a reset: its reads and writes fail with
    /// `ECONNRESET`. (Other streams know no reset: their peers see the end.) Whoever reads, writes or closes here
    /// meanwhile goes on at once; readers and writers get an error, `.closed`. This is the way out when ``close()``
    /// waits for a peer that does not read.
    public final func abort() async {
        await loop.onLoop {
            if !hasGivenUpDescriptor { loop.driver.breakConnection(descriptor) }
            await closeOnLoop()
        }
    }
}

// Writing without waiting, for libraries that are called back and can't.

extension SocketStream {
    /// Whether ``startWriting(_:observer:)`` would take a chunk now. On the loop's thread.
    public final var canStartWriting: Bool { !isClosed && sending.isIdle && !loop.isShuttingDown }

    /// Hands a chunk over to be sent, and does not wait. Call it on the thread of the stream's loop.
    ///
    /// The stream keeps the chunk until the kernel has taken all of it over. Writes after this one wait for that, and
    /// ``close()`` does; but one chunk at a time: with another one under way this throws `.busy`. Who has more to send
    /// keeps it until the observer is called.
    ///
    /// - Parameter observer: is told how it ends, if this did not throw.
    /// - Throws: `IOError`: `.busy`, `.closed`, or why the chunk before this one was not sent.
    public final func startWriting(
        _ chunk: consuming ByteChunk, observer: (any WriteObserver)? = nil
    ) throws(IOError) {
        require(loop.isOnOwnThread, "startWriting was called on another thread than the loop's")
        if !canStartWriting { throw refusal }
        if let observer { sending.observe(by: observer) }
        if chunk.isLent(by: loop) { return sending.send(chunk.take()) }
        chunk.keep()
        let count = chunk.count
        // SAFETY: the queue retains the owner, who keeps the bytes.
        unsafe sending.send(chunk.takeOwned(), count: count)
    }

    /// Why nothing can be written now.
    private final var refusal: IOError {
        if isClosed { return error("write to", .closed) }
        if sending.failure != 0 { return failure("write to", -sending.failure) }
        return loop.isShuttingDown ? error("write to", .cancelled) : error("write to", .busy)
    }
}
