// Pipes as the two ends of a byte stream: lines of a child's output, a file copied to standard output.

extension PipeReader: ByteSource {
    /// As `read(upTo:)` that answers an array, for what reads any source: `BufferedReader(child.output!)`.
    @_disfavoredOverload
    public func read(upTo limit: Int) async throws(IOError) -> ByteChunk? {
        let bytes: [UInt8]? = try await read(upTo: limit)
        guard let bytes else { return nil }
        return ByteChunk(bytes)
    }

    /// What it is: `standard output of ls`.
    public var subject: String { end.name }
}

extension PipeWriter: ByteSink {
    /// Closes this end, as ``close()`` does.
    public func finishWriting() async throws(IOError) { await close() }

    /// What it is: `standard input of sort`.
    public var subject: String { end.name }
}
