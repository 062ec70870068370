// Many small writes made one.

/// Collects what is written, and passes it on in large pieces.
///
/// It is for one task. What is not flushed is not sent: call ``flush()`` when the peer is to have an answer, or
/// ``finishWriting()`` at the end. A writer that is dropped drops what it holds.
///
/// After an error the stream below is good for nothing but closing.
public final class BufferedWriter: ByteSink {
    // SAFETY: the bytes of a span of UInt8 are those of its numbers.

    private let sink: any ByteSink
    private var buffer: [UInt8] = []
    /// The most bytes that are held back.
    public let capacity: Int

    /// A writer to `sink`, to which nobody else writes from now on.
    ///
    /// - Parameter capacity: the most bytes that are held back.
    public init(_ sink: any ByteSink, capacity: Int = 16 * 1024) {
        self.sink = sink
        self.capacity = max(1, capacity)
        buffer.reserveCapacity(self.capacity)
    }

    /// What errors call it: as its sink.
    public var subject: String { sink.subject }

    /// How many bytes are held back.
    public var bufferedCount: Int { buffer.count }

    /// Writes `bytes`: into the buffer if they fit; else the buffer goes first. Large ones follow it in the same system
    /// call, without being copied.
    public func write(_ bytes: RawSpan) async throws(IOError) {
        if bytes.byteCount <= capacity - buffer.count { return buffer.append(copying: bytes) }
        if bytes.byteCount < capacity {
            try await flush()
            return buffer.append(copying: bytes)
        }
        if buffer.isEmpty { return try await sink.write(bytes) }
        let held = takeBuffer()
        unsafe try await sink.write(held.span.bytes, bytes)
        putBack(held)
    }

    /// Writes a chunk: into the buffer if it fits, else after it, from where it stands.
    public func write(_ chunk: consuming ByteChunk) async throws(IOError) {
        if chunk.count <= capacity - buffer.count { return buffer.append(copying: chunk.bytes) }
        try await flush()
        try await sink.write(chunk)
    }

    /// Writes both.
    public func write(_ head: RawSpan, _ body: RawSpan) async throws(IOError) {
        try await write(head)
        try await write(body)
    }

    /// Writes a frame: a number that says how many bytes follow, and those bytes.
    ///
    /// - Throws: `IOError`; `.invalid` if the number can't say so many.
    public func writeFrame(_ bytes: RawSpan, length: FrameLength) async throws(IOError) {
        guard let prefix = length.bytes(for: bytes.byteCount) else {
            throw IOError(
                "write to", subject, .invalid("a frame of \(bytes.byteCount) bytes is too long for \(length)"))
        }
        try await write(prefix)
        try await write(bytes)
    }

    /// Writes a frame: a number that says how many bytes follow, and those bytes.
    ///
    /// - Throws: `IOError`; `.invalid` if the number can't say so many.
    public func writeFrame(_ bytes: [UInt8], length: FrameLength) async throws(IOError) {
        unsafe try await writeFrame(bytes.span.bytes, length: length)
    }

    /// Passes on what is held back.
    public func flush() async throws(IOError) {
        if buffer.isEmpty { return }
        let held = takeBuffer()
        unsafe try await sink.write(held.span.bytes)
        putBack(held)
    }

    /// Passes on what is held back, and says that nothing more will be written.
    public func finishWriting() async throws(IOError) {
        try await flush()
        try await sink.finishWriting()
    }

    /// The buffer leaves its property while the sink uses it: it can't be changed under the sink's hands.
    private func takeBuffer() -> [UInt8] {
        var held: [UInt8] = []
        swap(&held, &buffer)
        return held
    }

    private func putBack(_ held: consuming [UInt8]) {
        if !buffer.isEmpty { return }
        buffer = held
        buffer.removeAll(keepingCapacity: true)
    }
}
