// A file as the two ends of a byte stream.

extension File {
    /// Reads the file from `offset` to its end, in chunks of their own memory.
    ///
    /// With 256 KB and more to go, ``copy(from:to:limit:)`` has the kernel send the file to a socket of the same loop,
    /// and this process does not see the bytes: if the limit says that there is so much, from the beginning, and else
    /// behind the first 256 KB. A peer that is slow then takes no memory of this process and no thread. The connection
    /// keeps pages of the file, not copies: what somebody writes to the file before the peer has them may arrive
    /// instead. To replace a file that is being sent, give its name to a new one (``File/replace(at:with:)``).
    ///
    /// - Parameter chunkSize: the most bytes to read at once.
    public func source(from offset: Int64 = 0, chunkSize: Int = 256 * 1024) -> FileSource {
        FileSource(self, offset: offset, chunkSize: min(max(1, chunkSize), 1 << 30))
    }

    /// Writes to the file from `offset` on.
    public func sink(from offset: Int64 = 0) -> FileSink { FileSink(self, offset: offset) }
}

/// A file that is read from a position on. It is for one task.
public final class FileSource: ByteSource {
    let file: File
    private let chunkSize: Int
    /// Where the next read begins. When a copy has failed: behind what was read or, if the kernel sent the file itself,
    /// behind what the socket has taken.
    public internal(set) var offset: Int64

    init(_ file: File, offset: Int64, chunkSize: Int) {
        self.file = file
        self.offset = offset
        self.chunkSize = chunkSize
    }

    /// The file's path.
    public var subject: String { file.path.string }

    /// The next bytes; nil at the end of the file.
    public func read(upTo limit: Int = .max) async throws(IOError) -> ByteChunk? {
        let bytes = try await file.read(min(limit, chunkSize), at: offset)
        offset += Int64(bytes.count)
        return bytes.isEmpty ? nil : ByteChunk(bytes)
    }
}

/// A file that is written from a position on. It is for one task.
public final class FileSink: ByteSink {
    private let file: File
    /// Where the next write begins.
    public private(set) var offset: Int64

    init(_ file: File, offset: Int64) {
        self.file = file
        self.offset = offset
    }

    /// The file's path.
    public var subject: String { file.path.string }

    /// Writes all of `bytes`.
    public func write(_ bytes: RawSpan) async throws(IOError) {
        try await file.write(bytes, at: offset)
        offset += Int64(bytes.byteCount)
    }

    /// Does nothing: the file stays open, and what was written is not made durable: ``File/synchronize(dataOnly:)``
    /// does that.
    public func finishWriting() async throws(IOError) {}
}
