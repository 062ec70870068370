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
