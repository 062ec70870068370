import CRondo
import Glibc
public import SystemPackage

/// The end of a pipe that bytes go into: a child's input, standard output, a FIFO.
///
/// It may be used from any task, by one at a time; its work is done on the loop that it was made on. Close it with
/// ``close()``; what is dropped open is closed all the same.
@safe
public final class PipeWriter: Sendable {
    let end: StreamEnd

    init(_ end: StreamEnd) { self.end = end }

    deinit { end.abandon() }

    /// The loop that does this pipe's work.
    public var loop: EventLoop { end.loop }

    /// Writes to a descriptor of the program's own, which stays open and as it is; see ``StandardStreams``.
    ///
    /// - Parameter name: what it is, for errors.
    public static func sharing(_ descriptor: FileDescriptor, name: String) throws(IOError) -> PipeWriter {
        let loop = EventLoop.required(for: "PipeWriter.sharing")
        return PipeWriter(try StreamEnd.sharing(descriptor.rawValue, name: name, forWriting: true, loop: loop))
    }

    /// Opens a FIFO (or a terminal) for writing.
    ///
    /// - Throws: `IOError` with `ENXIO` if nobody has it open for reading.
    public static func open(_ path: FilePath) async throws(IOError) -> PipeWriter {
        PipeWriter(try await StreamEnd.open(path, flags: O_WRONLY))
    }

    /// Writes all of `bytes`, however long the reader takes.
    ///
    /// If the task is cancelled while it waits it throws; a part of the bytes may have been written. A reader that has
    /// closed its end makes this throw `EPIPE`, and no signal is sent.
    public func write(_ bytes: RawSpan) async throws(IOError) {
        // SAFETY: the span is borrowed until this function returns, which is after the last completion.
        nonisolated(unsafe) let buffer = unsafe bytes.withUnsafeBytes { unsafe $0 }
        let count = bytes.byteCount
        try await end.use { () async throws(IOError) in
            var written = 0
            while written < count {
                // SAFETY: within the span, which is not empty.
                let start = unsafe buffer.baseAddress! + written
                let answer =
                    if end.kind == .file {
                        await unsafe loop.perform(
                            .write(end.descriptor, start, count: count - written, offset: .max))
                    } else {
                        unsafe loop.driver.writeNow(
                            end.descriptor, start, count: count - written, kind: end.kind)
                    }
                if answer >= 0 {
                    written += Int(answer)
                    // A reader that keeps up must not keep the loop.
                    if written < count, loop.spendOperation() { await loop.yieldInTurn() }
                } else if answer == -EAGAIN {
                    try await end.wait()
                } else {
                    throw end.failure(answer)
                }
            }
        }
    }

    /// Writes all of `bytes`.
    public func write(_ bytes: [UInt8]) async throws(IOError) {
        // SAFETY: the array lives until this function returns.
        unsafe try await write(bytes.span.bytes)
    }

    /// Writes a text as UTF-8.
    public func write(_ text: String) async throws(IOError) {
        try await write(Array(text.utf8))
    }

    /// Closes this end: when all writers have, the reader finds the end. Who writes meanwhile gets an error. Closing
    /// twice is no mistake.
    public func close() async {
        await loop.onLoop { await end.close() }
    }
}
