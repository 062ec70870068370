// Lines, delimiters, frames and counts out of a stream that comes in pieces.
//
// What is unread stands in two places: first `gathered`, then `chunk`. An item that lies within one chunk is taken
// from there, and never enters `gathered`. A chunk is moved to `gathered` only when the item is not complete and more
// must be waited for: so no byte is gathered twice, no receive buffer is held while waiting, and a call that is
// cancelled has lost nothing. `searched` remembers what was looked at in vain: a line that comes byte by byte costs as
// much as it is long.

/// Reads lines, frames and other items from a byte stream.
///
/// It is for one task. A call that is cancelled, or that throws ``IOError/Cause/limitExceeded(_:)``, takes nothing out
/// of the stream: the next call finds all bytes in their place.
///
/// Between two calls it may hold a chunk of the loop's receive buffers, with what came behind the last item; while it
/// waits for more it holds none.
public final class BufferedReader: ByteSource {
    // SAFETY: the bytes of a span of UInt8 are those of its numbers.

    private let source: any ByteSource
    /// Unread bytes of earlier chunks, from `gatheredStart` on.
    private var gathered: [UInt8] = []
    private var gatheredStart = 0
    /// Unread bytes behind those; empty most of the time.
    private var chunk = ByteChunk()
    /// How many unread bytes can't be the beginning of a `searchedFor`.
    private var searched = 0
    private var searchedFor: [UInt8] = []

    /// Bytes that were looked at and copied so far, for tests of the costs.
    package private(set) var searchedBytes = 0
    package private(set) var copiedBytes = 0

    /// A reader of `source`, which nobody else reads from now on.
    public init(_ source: any ByteSource) { self.source = source }

    /// What errors call it: as its source.
    public var subject: String { source.subject }

    /// How many bytes have arrived and are unread.
    public var bufferedCount: Int { gatheredCount + chunk.count }

    private var gatheredCount: Int { gathered.count - gatheredStart }

    // MARK: Items

    /// Reads a line, without the line feed at its end or the carriage return before that. What is no UTF-8 is
    /// replaced by U+FFFD.
    ///
    /// - Parameters:
    ///   - limit: the most bytes that a line may have.
    ///   - lastLineMayBeOpen: whether what stands behind the last line feed is a line too, as in files.
    /// - Returns: the line; nil at the end of the stream.
    /// - Throws: `IOError`: `.limitExceeded`, or `.unexpectedEnd` if the stream ends within a line.
    public func readLine(
        limit: Int = 64 * 1024, lastLineMayBeOpen: Bool = false
    ) async throws(IOError) -> String? {
        guard let end = try await find(Self.lineFeed, limit: limit) else {
            if bufferedCount == 0 { return nil }
            guard lastLineMayBeOpen else { throw error(.unexpectedEnd) }
            gather(chunk.count)
            guard gatheredCount <= limit else { throw error(.limitExceeded(limit)) }
            return takeFirst(gatheredCount) { String(copying: $0) }
        }
        let length = withFirst(end) { end > 1 && $0.byte(at: end - 2) == 13 ? end - 2 : end - 1 }
        guard length <= limit else { throw error(.limitExceeded(limit)) }
        return takeFirst(end) { String(copying: $0.extracting(first: length)) }
    }

    private static let lineFeed: [UInt8] = [10]

    /// Reads up to the first `delimiter`, which is taken out too, but not answered.
    ///
    /// - Parameter limit: the most bytes before the delimiter.
    /// - Returns: the bytes before it; nil at the end of the stream.
    /// - Throws: `IOError`: `.limitExceeded`, or `.unexpectedEnd` if the stream ends before a delimiter.
    public func readUntil(_ delimiter: [UInt8], limit: Int = 64 * 1024) async throws(IOError) -> [UInt8]? {
        guard !delimiter.isEmpty else { throw error(.invalid("an empty delimiter is everywhere")) }
        guard let end = try await find(delimiter, limit: limit) else {
            if bufferedCount == 0 { return nil }
            throw error(.unexpectedEnd)
        }
        guard end - delimiter.count <= limit else { throw error(.limitExceeded(limit)) }
        return takeArray(end - delimiter.count, thenSkip: delimiter.count)
    }

    /// Reads exactly `count` bytes. Memory grows with what arrives, not with what is asked for.
    ///
    /// - Throws: `IOError`: `.unexpectedEnd` if the stream ends before.
    public func readExactly(_ count: Int) async throws(IOError) -> [UInt8] {
        guard try await has(count) else { throw error(.unexpectedEnd) }
        return takeArray(count)
    }

    /// Looks at the next `count` bytes, fewer at the end of the stream, without taking them out.
    public func peek(_ count: Int) async throws(IOError) -> [UInt8] {
        _ = try await has(count)
        let available = min(count, bufferedCount)
        if available > gatheredCount, gatheredCount > 0 { gather(available - gatheredCount) }
        return withFirst(available) { [UInt8](copying: $0) }
    }

    /// Drops the next `count` bytes.
    ///
    /// - Throws: `IOError`: `.unexpectedEnd` if the stream ends before; what came until then is gone.
    public func skip(_ count: Int) async throws(IOError) {
        var left = count
        while left > 0 {
            guard let part = try await read(upTo: left) else { throw error(.unexpectedEnd) }
            left -= part.count
        }
    }

    /// Reads a frame: a number that says how many bytes follow, and those bytes.
    ///
    /// - Parameters:
    ///   - length: the number's form.
    ///   - limit: the most bytes that a frame may have behind its number; never more than 2 GB.
    /// - Returns: the frame without its number, without having been copied if it came in one piece; nil at the end of
    ///   the stream.
    /// - Throws: `IOError`: `.limitExceeded`, `.unexpectedEnd` if the stream ends within a frame, or `.malformed`.
    public func readFrame(_ length: FrameLength, limit: Int) async throws(IOError) -> ByteChunk? {
        var prefix = length.shortest
        while true {
            guard try await has(prefix) else {
                if bufferedCount == 0 { return nil }
                throw error(.unexpectedEnd)
            }
            switch length.read(withFirst(prefix) { [UInt8](copying: $0) }) {
            case .needsMore: prefix += 1
            case .malformed: throw error(.malformed("a frame's length takes more than 64 bits"))
            case .length(let count):
                let most = min(limit, Int(Int32.max))
                guard count <= most else { throw error(.limitExceeded(most)) }
                guard try await has(prefix + count) else { throw error(.unexpectedEnd) }
                drop(prefix)
                return takeChunk(count)
            }
        }
    }

    /// Reads what has arrived, at most `limit` bytes; waits if there is nothing. So a reader can be read on as a plain
    /// source when the items are over.
    ///
    /// - Returns: the bytes; nil at the end of the stream.
    public func read(upTo limit: Int = .max) async throws(IOError) -> ByteChunk? {
        if gatheredCount > 0 { return takeChunk(min(limit, gatheredCount)) }
        if chunk.count > 0 { return takeChunk(min(limit, chunk.count)) }
        return try await source.read(upTo: limit)
    }

    // MARK: Searching and waiting

    /// How many unread bytes there are up to the first `delimiter` and with it; nil if the stream ends without one.
    /// They stand in one place then.
    private func find(_ delimiter: [UInt8], limit: Int) async throws(IOError) -> Int? {
        if searchedFor != delimiter {
            searchedFor = delimiter
            searched = 0
        }
        let overlap = delimiter.count - 1
        while true {
            // A longer delimiter may begin in one place and end in the other.
            if overlap > 0, gatheredCount > 0 { gather(chunk.count) }
            if gatheredCount > searched {
                let start = gatheredStart + searched
                if let index = unsafe search(gathered.span.bytes.extracting(start..<gathered.count), delimiter) {
                    return searched + index + delimiter.count
                }
            }
            if let index = search(chunk.bytes, delimiter) {
                if gatheredCount == 0 { return index + delimiter.count }
                gather(index + delimiter.count)
                return gatheredCount
            }
            searched = max(0, bufferedCount - overlap)
            if bufferedCount > limit, bufferedCount - limit > delimiter.count { throw error(.limitExceeded(limit)) }
            if try await !fill() { return nil }
        }
    }

    private func search(_ bytes: RawSpan, _ delimiter: [UInt8]) -> Int? {
        let index = bytes.firstIndex(of: delimiter)
        searchedBytes += index.map { $0 + delimiter.count } ?? bytes.byteCount
        return index
    }

    /// Waits until `count` bytes are unread, and makes them stand in one place.
    ///
    /// - Returns: false if the stream ends before.
    private func has(_ count: Int) async throws(IOError) -> Bool {
        guard count >= 0 else { throw error(.invalid("\(count) bytes")) }
        while bufferedCount < count {
            if try await !fill() { return false }
        }
        if gatheredCount > 0, gatheredCount < count { gather(count - gatheredCount) }
        return true
    }

    /// Gathers the chunk, and waits for the next one.
    ///
    /// - Returns: false at the end of the stream.
    private func fill() async throws(IOError) -> Bool {
        gather(chunk.count)
        guard let next = try await source.read(upTo: .max) else { return false }
        chunk = next
        return true
    }

    /// Moves the first `count` bytes of the chunk to the others.
    private func gather(_ count: Int) {
        if count == 0 { return }
        if gatheredStart > 0, gatheredStart >= gatheredCount {
            copiedBytes += gatheredCount
            gathered.removeFirst(gatheredStart)
            gatheredStart = 0
        }
        gathered.append(copying: chunk.bytes.extracting(first: count))
        copiedBytes += count
        dropFromChunk(count)
    }

    // MARK: Taking out

    /// The first `count` unread bytes, which stand in one place.
    private func withFirst<Value>(_ count: Int, _ body: (RawSpan) -> Value) -> Value {
        let range = gatheredStart..<gatheredStart + count
        // SAFETY: `body` uses the bytes within its call, and nothing is gathered or dropped meanwhile.
        if gatheredCount > 0 {
            return unsafe gathered.withUnsafeBytes { bytes in
                unsafe body(RawSpan(_unsafeBytes: UnsafeRawBufferPointer(rebasing: bytes[range])))
            }
        }
        return chunk.withFirst(count, body)
    }

    private func takeFirst<Value>(_ count: Int, _ body: (RawSpan) -> Value) -> Value {
        let value = withFirst(count, body)
        copiedBytes += count
        drop(count)
        return value
    }

    private func takeArray(_ count: Int, thenSkip skipped: Int = 0) -> [UInt8] {
        guard gatheredCount == count + skipped, gatheredStart == 0 else {
            return takeFirst(count + skipped) { [UInt8](copying: $0.extracting(first: count)) }
        }
        var all = takeGathered()
        all.removeLast(skipped)
        return all
    }

    private func takeChunk(_ count: Int) -> ByteChunk {
        searched = max(0, searched - count)
        if gatheredCount > 0 {
            if gatheredCount > count { return ByteChunk(takeFirst(count) { [UInt8](copying: $0) }) }
            let range = gatheredStart..<gathered.count
            return ByteChunk(OwnedBytes(takeGathered(), range))
        }
        if count < chunk.count { return chunk.splitFirst(count) }
        var whole = ByteChunk()
        swap(&whole, &chunk)
        return whole
    }

    /// All that is gathered, with what was read of it before.
    private func takeGathered() -> [UInt8] {
        var all: [UInt8] = []
        swap(&all, &gathered)
        gatheredStart = 0
        searched = 0
        return all
    }

    /// The first `count` unread bytes, which stand in one place, are read.
    private func drop(_ count: Int) {
        searched = max(0, searched - count)
        if gatheredCount == 0 { return dropFromChunk(count) }
        gatheredStart += count
        if gatheredStart < gathered.count { return }
        gathered.removeAll(keepingCapacity: gathered.capacity <= 64 * 1024)
        gatheredStart = 0
    }

    private func dropFromChunk(_ count: Int) {
        if count < chunk.count { chunk.removeFirst(count) } else { chunk = ByteChunk() }
    }

    private func error(_ cause: IOError.Cause) -> IOError { IOError("read from", subject, cause) }
}
