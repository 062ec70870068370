// A file from one end to the other, in chunks, with the disk busy while the program works on a chunk: one read ahead of
// the reader, one write behind the writer.

import CRondo
import Glibc

extension File {
    /// The file's bytes from `offset` on, in chunks. The next chunk is read while the program works on this one.
    ///
    /// ```
    /// for try await chunk in file.chunks() { hash.update(chunk) }
    /// ```
    ///
    /// - Parameters:
    ///   - size: the most bytes of a chunk.
    ///   - offset: where to begin.
    ///   - count: how many bytes to read; to the end of the file if it comes first.
    public func chunks(of size: Int = 256 * 1024, from offset: Int64 = 0, count: Int64 = .max) -> FileChunks {
        FileChunks(file: self, size: max(1, size), offset: offset, count: max(0, count))
    }

    /// Writes all chunks of a sequence, one behind the other, from `offset` on. One chunk is written while the next is
    /// being made.
    ///
    /// - Returns: how many bytes were written.
    @discardableResult
    public func write<Chunks: AsyncSequence>(
        contentsOf chunks: Chunks, at offset: Int64 = 0
    ) async throws -> Int64 where Chunks.Element == [UInt8] {
        let writer = try writer(at: offset)
        do {
            for try await chunk in chunks { try await writer.write(chunk) }
        } catch {
            _ = try? await writer.finish()
            throw error
        }
        return try await writer.finish()
    }

    /// Writes chunks one behind the other, from `offset` on; behind the end, if the file is open for appending.
    public func writer(at offset: Int64 = 0) throws(IOError) -> FileWriter {
        FileWriter(self, offset: appends ? .max : try checkedOffset(offset, "write"))
    }
}

/// A file's bytes in chunks: see ``File/chunks(of:from:count:)``.
public struct FileChunks: AsyncSequence, Sendable {
    /// A chunk.
    public typealias Element = [UInt8]
    /// What reading may throw.
    public typealias Failure = IOError

    let file: File
    let size: Int
    let offset: Int64
    let count: Int64

    /// Begins at the beginning.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(reader: ChunkReader(self)) }

    /// One reading of the file.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let reader: ChunkReader

        /// The next chunk, which is never empty; nil at the end. A task that is cancelled throws at once.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(IOError) -> [UInt8]? {
            try await reader.next()
        }
    }
}

/// A reading under way. When its owner drops it, the read that is under way is given up.
final class ChunkReader: Sendable {
    private let transfer: FileTransfer
    private let chunks: FileChunks

    init(_ chunks: FileChunks) {
        self.chunks = chunks
        transfer = FileTransfer(chunks.file)
    }

    deinit { transfer.abandon() }

    func next() async throws(IOError) -> [UInt8]? {
        try await chunks.file.loop.onLoop { () async throws(IOError) in try await transfer.nextChunk(of: chunks) }
    }
}

/// Writes chunks one behind the other: `write` returns as soon as the chunk before is written.
///
/// End with ``finish()``: a chunk that could not be written is an error of the next `write`, or of `finish`.
public final class FileWriter: Sendable {
    private let transfer: FileTransfer
    private let file: File

    init(_ file: File, offset: UInt64) {
        self.file = file
        transfer = FileTransfer(file)
        transfer.start = offset
    }

    /// Waits until the chunk before is written, and begins to write this one.
    ///
    /// A task that is cancelled throws without writing the chunk; those before are written all the same.
    public func write(_ chunk: [UInt8]) async throws(IOError) {
        try await file.loop.onLoop { () async throws(IOError) in try await transfer.write(chunk) }
    }

    /// Waits until everything is written.
    ///
    /// - Returns: how many bytes were written.
    @discardableResult
    public func finish() async throws(IOError) -> Int64 {
        try await file.loop.onLoop { () async throws(IOError) in try await transfer.finishWriting() }
    }
}

/// One operation after the other on a file, with memory of its own: at most one is under way, and whoever has begun it
/// need not wait.
@safe
final class FileTransfer: WaitingSink, @unchecked Sendable {
    // SAFETY: everything belongs to the loop's thread, but for what FileWriter sets before anybody else has this. The
    // memory is freed with this object, which the table of pending operations retains while one is under way.

    private let file: File
    private var memory = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    /// The operation under way.
    private var operation: OperationID?
    private var isOver = false
    /// What the last operation has answered, until it is looked at.
    private var answer: Int32?
    /// Bytes read or written so far.
    private var total: Int64 = 0
    /// Where writing begins; `.max` for behind the end.
    var start: UInt64 = 0
    /// What is left of the chunk that is being written: a range of `memory`.
    private var unwritten = 0..<0
    private var failure: IOError?

    init(_ file: File) {
        self.file = file
        super.init(file.descriptor, loop: file.loop)
    }

    deinit { unsafe memory.deallocate() }

    private func makeRoom(_ count: Int) {
        if unsafe memory.count >= count { return }
        unsafe memory.deallocate()
        unsafe memory = .allocate(byteCount: count, alignment: 4096)
    }

    private func begin(_ next: Operation, _ verb: String) throws(IOError) {
        try file.beginUse(verb)
        operation = unsafe loop.start(next, sink: self)
    }

    override var hasNewsAlready: Bool { operation == nil }

    override func deliver(_ completion: Completion) {
        operation = nil
        file.endUse()
        answer = completion.result
        if !unwritten.isEmpty { noteWritten() }
        if operation == nil { wake() }
    }

    /// Waits for the operation under way. The task that waits may be cancelled; the operation goes on.
    private func waitForAnswer(_ verb: String) async throws(IOError) {
        while operation != nil {
            if hasWaiter { throw IOError(verb, file.path.string, .busy) }
            if await !waitForNews() { throw IOError(verb, file.path.string, .cancelled) }
        }
    }

    /// The owner has gone. From any thread.
    nonisolated func abandon() {
        if loop.isOnOwnThread { cancelRead() } else { loop.tell(.perform { self.cancelRead() }) }
    }

    private func cancelRead() {
        isOver = true
        if let operation { loop.cancel(operation) }
    }

    // MARK: Reading

    func nextChunk(of chunks: FileChunks) async throws(IOError) -> [UInt8]? {
        if loop.spendOperation() { await loop.yieldInTurn() }
        if isOver { return nil }
        if Task.isCancelled { throw IOError("read", file.path.string, .cancelled) }
        if operation == nil, answer == nil { try read(chunks) }
        try await waitForAnswer("read")
        guard let count = answer else { return nil }
        answer = nil
        if count <= 0 {
            isOver = true
            if count < 0 { throw IOError("read", file.path.string, IOError.cause(ofAnswer: count)) }
            return nil
        }
        // SAFETY: the kernel has filled so many bytes, and is through with the memory.
        let bytes = unsafe Array(memory[..<Int(count)])
        total += Int64(count)
        try read(chunks)
        return bytes
    }

    private func read(_ chunks: FileChunks) throws(IOError) {
        let count = min(Int64(chunks.size), chunks.count - total)
        if count == 0 { return answer = 0 }
        let offset = try file.checkedOffset(chunks.offset, "read") + UInt64(total)
        makeRoom(chunks.size)
        // SAFETY: the memory is this object's.
        unsafe try begin(.read(descriptor, memory.baseAddress!, count: Int(count), offset: offset), "read")
    }

    // MARK: Writing

    func write(_ chunk: [UInt8]) async throws(IOError) {
        if loop.spendOperation() { await loop.yieldInTurn() }
        if Task.isCancelled { throw IOError("write", file.path.string, .cancelled) }
        try await waitForAnswer("write")
        if let failure { throw failure }
        if chunk.isEmpty { return }
        makeRoom(chunk.count)
        // SAFETY: there is room, and no operation uses the memory.
        unsafe memory.copyBytes(from: chunk)
        unwritten = 0..<chunk.count
        do throws(IOError) {
            try writeRest()
        } catch {
            unwritten = 0..<0
            throw error
        }
    }

    private func writeRest() throws(IOError) {
        let offset = start == .max ? .max : start + UInt64(total)
        // SAFETY: the memory is this object's, and the range within it.
        unsafe try begin(
            .write(
                descriptor, UnsafeRawPointer(memory.baseAddress! + unwritten.lowerBound), count: unwritten.count,
                offset: offset), "write")
    }

    /// A write has ended: goes on with the rest of the chunk.
    private func noteWritten() {
        let count = Int(answer ?? 0)
        answer = nil
        if count > 0 {
            total += Int64(count)
            unwritten = unwritten.lowerBound + count..<unwritten.upperBound
            if unwritten.isEmpty { return }
            do throws(IOError) {
                return try writeRest()
            } catch {
                failure = error
            }
        } else {
            failure = IOError("write", file.path.string, IOError.cause(ofAnswer: Int32(count)))
        }
        unwritten = 0..<0
    }

    func finishWriting() async throws(IOError) -> Int64 {
        try await waitForAnswer("write")
        if let failure { throw failure }
        return total
    }
}
