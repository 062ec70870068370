// A file's way into a socket without this process seeing the bytes (docs/decisions/0019): `sendfile` in the offload
// pool, as it may wait for the disk, but never for the socket: the loop does that, with a poll. So a peer that is slow
// holds no thread, no pipe and no memory, and how far the file has gone is always known.
//
// sendfile answers with one errno for two ends. What only a connection can say is the sink's; of all the rest reading
// the file in the plain way tells the truth.

import Glibc
import SystemPackage

/// One stretch of a file on its way into a socket. It belongs to the loop's thread.
@safe
final class FileSending: @unchecked Sendable {
    // SAFETY: used by the one task that runs it, on the loop's thread.

    /// How it ended, if nothing went wrong.
    enum Ending {
        /// The limit is reached.
        case done
        /// By its size the file has no more. (Those of `/proc` say that they are empty.)
        case atSize
        /// These two can't be done so, or why not is to be found out.
        case unsuitable
    }

    private let file: File
    private let offset: UInt64
    private let sink: SocketStream
    private let loop: EventLoop
    private let limit: Int
    private let writable: Readiness
    private var isPrepared = false
    /// Bytes that the sink's kernel buffers have taken.
    private(set) var count = 0

    /// How much is asked for at once: so long does a call keep a thread of the pool, and a cancelled task waiting.
    private static let piece = 1 << 20

    init(_ file: File, offset: UInt64, to sink: SocketStream, limit: Int) {
        self.file = file
        self.offset = offset
        self.sink = sink
        self.limit = limit
        loop = file.loop
        writable = Readiness(sink.descriptor, events: POLLOUT, loop: loop)
    }

    /// Sends what there is of the file.
    func run() async throws(IOError) -> Ending {
        while count < limit {
            try await sink.beginWriting("write to")
            defer { sink.sending.end() }
            if let ending = try await sendPiece() { return ending }
        }
        return .done
    }

    /// - Returns: nil if there may be more.
    private func sendPiece() async throws(IOError) -> Ending? {
        if !isPrepared {
            do throws(Errno) { try loop.driver.prepareToMove(sink.descriptor) } catch { return .unsuitable }
            isPrepared = true
        }
        let wanted = min(limit - count, Self.piece)
        try file.beginUse("read")
        // SAFETY: an operation without pointers.
        let answer = await unsafe loop.perform(
            .file(.send(file.descriptor, offset: offset + UInt64(count), count: wanted, to: sink.descriptor)))
        file.endUse()
        if answer > 0 {
            count += Int(answer)
            loop.counters.bytesMoved &+= UInt64(answer)
        }
        switch -answer {
        case 0: return .atSize
        case EAGAIN: try await waitForSink()
        // With less than was asked for either the file is at its end, which need not wait for the peer, or the sink is
        // full: the next call says which.
        case ..<0: break
        case ECANCELED: throw IOError("read", file.path.string, .cancelled)
        case EPIPE, ECONNRESET, ECONNABORTED, ETIMEDOUT, EHOSTUNREACH, ENETUNREACH, ENETDOWN, ENOTCONN:
            sink.sending.refuse(-answer)
            throw sink.failure("write to", answer)
        default: return .unsuitable
        }
        return nil
    }

    private func waitForSink() async throws(IOError) {
        let answer = await writable.wait()
        if answer >= 0, !sink.isClosed { return }
        // If the wait was cancelled the kernel still polls. The descriptor is kept open until it does not.
        await writable.close()
        throw sink.failure("write to", answer)
    }
}

extension FileSource: DirectSource {
    /// With less than this a thread of the pool costs what copying does.
    private static let threshold = 256 * 1024

    func copyDirectly(to sink: any ByteSink, limit: Int) async throws(IOError) -> Int? {
        guard let sink = sink as? SocketStream, sink.loop === file.loop else { return nil }
        var count = 0
        // Where it isn't said that there is much, it is found out.
        var start = limit == .max ? Self.threshold : 0
        while count < limit {
            if count >= start, limit - count >= Self.threshold, offset >= 0 {
                let sending = FileSending(file, offset: UInt64(offset), to: sink, limit: limit - count)
                defer { offset += Int64(sending.count) }
                let ending = try await sink.loop.onLoop { () async throws(IOError) in try await sending.run() }
                count += sending.count
                start = ending == .atSize ? count + Self.threshold : .max
            } else {
                guard let chunk = try await read(upTo: limit - count) else { return count }
                count += chunk.count
                try await sink.write(chunk)
            }
        }
        return count
    }
}
