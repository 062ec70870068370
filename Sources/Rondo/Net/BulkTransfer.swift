// Moving bytes from socket to socket through a pipe, for as long as they come in bulk. The calls never wait, as both
// sockets are non-blocking; what they would wait for is waited for by polls, so both drivers do it in the same way.
//
// Facts it builds on (man splice; net/ipv4/tcp.c, fs/splice.c):
// - A pipe holds pages, not bytes, so EAGAIN from a source says that nothing has arrived only if the pipe was empty.
//   It is filled once, emptied to the last byte, and filled again: so at most one pipe of bytes is on its way.
// - TCP's splice stops before urgent data for ever, while poll says that there is something to read. Receiving goes
//   past it: so a wait that brings nothing ends the transfer, and chunks go on.
// - A broken sink answers ECONNRESET or EPIPE, and sends SIGPIPE, which the call takes back.

import Glibc
import SystemPackage

/// One stretch of bulk in a copy. It belongs to the loop's thread.
@safe
final class BulkTransfer: @unchecked Sendable {
    // SAFETY: used by the one task that runs it, on the loop's thread.

    /// How it ended, if nothing went wrong.
    enum Ending {
        /// The source is at its end, or the limit is reached.
        case done
        /// Bytes do not come in bulk any more, or no pipe can be had.
        case dry
        /// It is not worth it for these two.
        case unsuitable
    }

    private let source: SocketStream
    private let sink: SocketStream
    private let loop: EventLoop
    private let limit: Int
    private let readable: Readiness
    private let writable: Readiness
    /// What was found behind the last byte of the source.
    private var end: ReceiveQueue.End?
    /// Bytes that were taken from the source.
    private(set) var count = 0

    /// A sink that takes longer than this for one pipe is no match for the processor, and others may need the pipe.
    private static let slowNanoseconds: UInt64 = 100_000_000

    init(from source: SocketStream, to sink: SocketStream, limit: Int) {
        self.source = source
        self.sink = sink
        self.limit = limit
        loop = source.loop
        readable = Readiness(source.descriptor, events: POLLIN, loop: loop)
        writable = Readiness(sink.descriptor, events: POLLOUT, loop: loop)
    }

    /// Moves bytes until they don't come in bulk any more. Nothing that the source has received may be unread.
    func run() async throws(IOError) -> Ending {
        if source.isClosed || sink.isClosed || !source.received.beginTransfer(readable) { return .dry }
        var outcome: Result<Ending, IOError>
        do throws(IOError) { outcome = .success(try await move()) } catch { outcome = .failure(error) }
        // A cancelled wait has left its poll behind.
        await readable.close()
        source.received.endTransfer(end)
        return try outcome.get()
    }

    private func move() async throws(IOError) -> Ending {
        do throws(Errno) {
            for stream in [source, sink] { try loop.driver.prepareToMove(stream.descriptor) }
        } catch {
            return .unsuitable
        }
        // Bytes since the last wait; those before this began were enough.
        var piece = BulkDetector.minimumPiece
        while count < limit {
            // A job that only yielded could be back before the loop has looked at anybody's input.
            if loop.spendOperation() || loop.sliceIsOver { try await waitForSource() }
            if source.isClosed { throw source.error("read from", .closed) }
            if loop.isShuttingDown || Task.isCancelled { throw source.error("read from", .cancelled) }
            guard let pipe = loop.transferPipes.take(loop.driver, limit: loop.configuration.transferPipeLimit)
            else { return .dry }
            let start = loop.driver.now
            let answer = loop.driver.moveNow(
                from: source.descriptor, into: pipe.writer, count: min(limit - count, pipe.capacity))
            guard answer > 0 else {
                // A source that waits has no pipe: there may be many.
                loop.transferPipes.giveBack(pipe, isEmpty: true, loop.driver)
                switch -answer {
                case 0:
                    end = .endOfStream
                    return .done
                case EAGAIN:
                    if piece < BulkDetector.minimumPiece { return .dry }
                    piece = 0
                    try await waitForSource()
                case EINVAL, ENOSYS, EPERM, EOPNOTSUPP: return .unsuitable
                case let code:
                    end = .failed(code)
                    throw source.failure("read from", answer)
                }
                continue
            }
            piece += Int(answer)
            count += Int(answer)
            loop.counters.bytesMoved &+= UInt64(answer)
            let hasWaited = try await empty(pipe, count: Int(answer))
            if hasWaited, loop.driver.now &- start > Self.slowNanoseconds { return .unsuitable }
        }
        return .done
    }

    private func waitForSource() async throws(IOError) {
        let answer = await readable.wait()
        if answer < 0 { throw source.failure("read from", answer) }
    }

    /// Moves all that is in the pipe to the sink, and gives the pipe back.
    ///
    /// - Returns: whether the sink had to be waited for.
    private func empty(_ pipe: TransferPipe, count: Int) async throws(IOError) -> Bool {
        var left = count
        defer { loop.transferPipes.giveBack(pipe, isEmpty: left == 0, loop.driver) }
        try await sink.beginWriting("write to")
        defer { sink.sending.end() }
        var hasWaited = false
        while left > 0 {
            var answer = loop.driver.moveNow(outOf: pipe.reader, to: sink.descriptor, count: left)
            if answer > 0 {
                left -= Int(answer)
                continue
            }
            if answer == -EAGAIN {
                hasWaited = true
                answer = await writable.wait()
                if answer >= 0, !sink.isClosed { continue }
                if answer >= 0 { answer = -EBADF }
                // If the wait was cancelled the kernel still polls. The descriptor is kept open until it does not.
                await writable.close()
            }
            sink.sending.refuse(answer == 0 ? EIO : -answer)
            throw sink.failure("write to", answer == 0 ? -EIO : answer)
        }
        return hasWaited
    }
}
