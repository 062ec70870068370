// The two ends of a byte stream, whatever is in between: a socket, a pipe, a file, a test.

/// Where bytes come from.
///
/// One task reads at a time. A read that is cancelled loses no byte: the next one gets what arrives.
public protocol ByteSource {
    /// Waits for bytes, and answers as many as there are, at most `limit`; nil at the end.
    func read(upTo limit: Int) async throws(IOError) -> ByteChunk?

    /// What errors call it: an address, a path.
    var subject: String { get }
}

/// Where bytes go to.
///
/// One task writes at a time. A sink that can't take bytes as fast as they come makes its writer wait: that is the
/// back-pressure. After a write that was cancelled the sink is good for nothing but closing: a part of the bytes may
/// have gone.
public protocol ByteSink {
    /// Writes all of `bytes`; returns when they need not be kept any longer.
    func write(_ bytes: RawSpan) async throws(IOError)

    /// Writes a chunk, which is given back when that is done. A sink may do so later, and then says with the next write
    /// what went wrong.
    func write(_ chunk: consuming ByteChunk) async throws(IOError)

    /// Writes `head` and then `body`, with one system call where the sink can.
    func write(_ head: RawSpan, _ body: RawSpan) async throws(IOError)

    /// Says that nothing more will be written, when all that was written is on its way.
    func finishWriting() async throws(IOError)

    /// What errors call it: an address, a path.
    var subject: String { get }
}

extension ByteSource {
    /// `a byte stream`
    public var subject: String { "a byte stream" }
}

extension ByteSink {
    /// `a byte stream`
    public var subject: String { "a byte stream" }

    /// Writes the chunk's bytes from where they stand, and waits until that is done.
    public func write(_ chunk: consuming ByteChunk) async throws(IOError) {
        try await write(chunk.bytes)
    }

    /// Writes one after the other.
    public func write(_ head: RawSpan, _ body: RawSpan) async throws(IOError) {
        try await write(head)
        try await write(body)
    }

    /// Writes all of `bytes`.
    public func write(_ bytes: [UInt8]) async throws(IOError) {
        // SAFETY: the bytes of a span of UInt8 are those of its numbers.
        unsafe try await write(bytes.span.bytes)
    }

    /// Writes all of these, one after the other. Many small ones are collected and go together.
    public func write(contentsOf parts: [[UInt8]]) async throws(IOError) {
        let writer = BufferedWriter(self, capacity: min(64 * 1024, parts.reduce(0) { $0 + $1.count }))
        for part in parts { try await writer.write(part) }
        try await writer.flush()
    }

    /// Writes the text's UTF-8.
    public func write(_ text: String) async throws(IOError) { try await write(Array(text.utf8)) }
}

/// Copies from `source` to `sink` until the source ends, and answers how many bytes that were. The sink is not
/// finished.
///
/// Bytes move on as chunks, from where they stand: between sockets of one loop they are copied by the kernel only. At
/// most one chunk is on its way, so a sink that is slow stops its source.
///
/// Where a megabyte and more comes close together for a socket of the same loop, the kernel moves it from socket to
/// socket (`splice`, through a pipe of 1 MB), which takes about half of the processor time; at most one pipe is on its
/// way then. Nothing else is different. ``LoopStatistics/bytesMoved`` counts these bytes.
///
/// The kernel also sends files to sockets of the same loop (`sendfile`, in the offload pool): see
/// ``File/source(from:chunkSize:)``.
///
/// If the task is cancelled, bytes that were read may not have been written.
///
/// - Parameter limit: the most bytes to copy; what is behind them stays in the source.
/// - Throws: the error of the end that failed.
@discardableResult
public func copy(
    from source: any ByteSource, to sink: any ByteSink, limit: Int = .max
) async throws(IOError) -> Int {
    if let source = source as? any DirectSource {
        if let count = try await source.copyDirectly(to: sink, limit: limit) { return count }
    }
    var count = 0
    while count < limit, let chunk = try await source.read(upTo: limit - count) {
        count += chunk.count
        try await sink.write(chunk)
    }
    return count
}

/// A source that knows a better way to some sinks than `copy` does.
protocol DirectSource: ByteSource {
    /// As `copy`; nil, and nothing is done, if this sink is none of those.
    func copyDirectly(to sink: any ByteSink, limit: Int) async throws(IOError) -> Int?
}
