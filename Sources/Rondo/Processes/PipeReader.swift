import CRondo
import Glibc
public import SystemPackage

/// The end of a pipe that bytes come out of: a child's output, standard input, a FIFO.
///
/// It may be used from any task, by one at a time; its work is done on the loop that it was made on. Close it with
/// ``close()``; what is dropped open is closed all the same.
@safe
public final class PipeReader: @unchecked Sendable {
    // SAFETY: `end` never changes. The rest belongs to the loop's thread, and is used by the one task that `end.use`
    // lets in. The memory is freed when nobody can read any more.

    let end: StreamEnd
    /// What the kernel fills; made by the first read.
    private var memory: UnsafeMutableRawPointer?
    /// Whether the first read must wait for somebody to write: a FIFO without a writer is not at its end.
    private var waitsForWriter: Bool

    /// The most bytes of one read.
    private static let readLimit = 64 * 1024

    init(_ end: StreamEnd, waitsForWriter: Bool = false) {
        self.end = end
        self.waitsForWriter = waitsForWriter
    }

    deinit {
        unsafe memory?.deallocate()
        end.abandon()
    }

    /// The loop that does this pipe's work.
    public var loop: EventLoop { end.loop }

    /// Reads from a descriptor of the program's own, which stays open and as it is; see ``StandardStreams``.
    ///
    /// - Parameter name: what it is, for errors.
    public static func sharing(_ descriptor: FileDescriptor, name: String) throws(IOError) -> PipeReader {
        let loop = EventLoop.required(for: "PipeReader.sharing")
        return PipeReader(
            try StreamEnd.sharing(descriptor.rawValue, name: name, forWriting: false, loop: loop))
    }

    /// Opens a FIFO (or a terminal) for reading. It need have no writer yet: the first read waits for one.
    public static func open(_ path: FilePath) async throws(IOError) -> PipeReader {
        PipeReader(try await StreamEnd.open(path, flags: O_RDONLY), waitsForWriter: true)
    }

    /// A pipe within the program.
    public static func makePipe() throws(IOError) -> (reader: PipeReader, writer: PipeWriter) {
        let loop = EventLoop.required(for: "PipeReader.makePipe")
        do throws(Errno) {
            let (reader, writer) = try loop.driver.openPipe()
            return (
                PipeReader(StreamEnd(reader, kind: .nonBlocking, name: "a pipe", forWriting: false, loop: loop)),
                PipeWriter(StreamEnd(writer, kind: .nonBlocking, name: "a pipe", forWriting: true, loop: loop))
            )
        } catch {
            throw IOError("make", "a pipe", .system(error))
        }
    }

    /// Waits for bytes.
    ///
    /// If the task is cancelled while it waits it throws, and no byte is lost.
    ///
    /// - Parameter limit: the most bytes to take; at most 64 KiB come at a time.
    /// - Returns: the bytes, never empty, or nil at the end: every writer has closed the pipe.
    public func read(upTo limit: Int = .max) async throws(IOError) -> [UInt8]? {
        precondition(limit > 0, "a read of no bytes")
        return try await end.use { () async throws(IOError) in
            let count = min(limit, Self.readLimit)
            if waitsForWriter { try await end.wait() }
            waitsForWriter = false
            while true {
                let answer = await fill(count)
                if answer > 0 { return taken(Int(answer)) }
                if answer == 0 { return nil }
                if answer != -EAGAIN { throw end.failure(answer) }
                try await end.wait()
            }
        }
    }

    /// Reads up to the end.
    ///
    /// - Parameter limit: the most bytes to accept; more throw `IOError.Cause.limitExceeded`.
    public func readToEnd(limit: Int = .max) async throws(IOError) -> [UInt8] {
        var all: [UInt8] = []
        while let bytes = try await read() {
            all += bytes
            if all.count > limit { throw IOError("read from the pipe", end.name, .limitExceeded(limit)) }
        }
        return all
    }

    private func fill(_ count: Int) async -> Int32 {
        if unsafe memory == nil { unsafe memory = .allocate(byteCount: Self.readLimit, alignment: 16) }
        // SAFETY: the memory holds `readLimit` bytes, and is freed with this object, which outlives the operation.
        guard let target = unsafe memory else { return -ENOMEM }
        if end.kind == .file {
            return await unsafe loop.perform(.read(end.descriptor, target, count: count, offset: .max))
        }
        return unsafe loop.driver.readNow(end.descriptor, target, count: count, kind: end.kind)
    }

    private func taken(_ count: Int) -> [UInt8] {
        // SAFETY: the kernel has filled that many bytes.
        unsafe Array(UnsafeRawBufferPointer(start: memory, count: count))
    }

    /// Closes this end. Who reads meanwhile gets an error, and who writes to the other end gets `EPIPE`. Closing twice
    /// is no mistake.
    public func close() async {
        await loop.onLoop { await end.close() }
    }
}

extension StreamEnd {
    /// A pipe's two descriptors, which block.
    static func pipe(name: String) throws(IOError) -> (reader: Descriptor, writer: Descriptor) {
        var (reader, writer): (Int32, Int32) = (-1, -1)
        // SAFETY: fills in the two numbers.
        let answer = unsafe rondo_pipe(&reader, &writer)
        if answer < 0 { throw IOError("make", name, IOError.cause(ofAnswer: answer)) }
        return (Descriptor(rawValue: reader), Descriptor(rawValue: writer))
    }

    /// Opens a path that stands for a stream of bytes.
    static func open(_ path: FilePath, flags: Int32) async throws(IOError) -> StreamEnd {
        let loop = EventLoop.required(for: "opening a pipe")
        let answer = unsafe await path.withCopy {
            await unsafe loop.perform(.open($0, flags: flags | O_NONBLOCK | O_NOCTTY, mode: 0))
        }
        if answer < 0 { throw IOError("open the pipe", path.string, IOError.cause(ofAnswer: answer)) }
        let isStream = rondo_descriptor_form(answer) == Int32(RONDO_FORM_STREAM.rawValue)
        return StreamEnd(
            Descriptor(rawValue: answer), kind: isStream ? .nonBlocking : .file, name: path.string,
            forWriting: flags & O_ACCMODE != O_RDONLY, loop: loop)
    }
}
