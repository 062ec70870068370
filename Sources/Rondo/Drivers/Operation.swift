// What a task may ask of the world outside, and how the world answers. These are the only words that the loop and
// its drivers share.

package import CRondo
package import Glibc

/// Names one pending operation: a slot of the loop's table and the slot's generation, so that a late completion can
/// never be taken for the answer to a younger operation in the same slot.
package struct OperationID: RawRepresentable, Hashable, Sendable {
    package let rawValue: UInt64

    @inline(__always)
    package init(rawValue: UInt64) { self.rawValue = rawValue }

    @inline(__always)
    package init(slot: UInt32, generation: UInt32) { rawValue = UInt64(generation) << 32 | UInt64(slot) }

    @inline(__always)
    package var slot: UInt32 { UInt32(truncatingIfNeeded: rawValue) }
    @inline(__always)
    package var generation: UInt32 { UInt32(truncatingIfNeeded: rawValue >> 32) }
}

/// One thing asked of the driver. Each ends with exactly one completion whose `more` is false; `accept` and `receive`
/// are multishot and may answer many times before.
///
/// Pointers in an operation stay valid until that last completion: the task that waits owns what they point to, and
/// does not go on before.
@unsafe
package enum Operation {
    /// Does nothing; completes with 0.
    case nothing
    /// Multishot. Each completion's result is the descriptor of a new connection.
    case accept(Descriptor)
    /// Connects a stream socket.
    case connect(Descriptor, UnsafePointer<SocketAddress>)
    /// Connects a socket to an address of any family.
    case connectNamed(Descriptor, UnsafePointer<sockaddr>, length: socklen_t)
    /// Multishot. Each completion brings a slice of a receive buffer; result 0 is the end of the stream.
    case receive(Descriptor)
    /// Completes with the number of bytes sent, which is less than `count` only in rare cases.
    case send(Descriptor, UnsafeRawPointer, count: Int)
    /// Receives one message with its sender and what comes along (man 2 recvmsg); completes with the number of bytes.
    /// With `MSG_DONTWAIT` it completes with EAGAIN instead of waiting.
    case receiveMessage(Descriptor, UnsafeMutablePointer<msghdr>, flags: Int32)
    /// Sends one message (man 2 sendmsg); completes with the number of bytes. A broken connection answers EPIPE and
    /// sends no signal. With `MSG_DONTWAIT` it completes with EAGAIN instead of waiting for room.
    case sendMessage(Descriptor, UnsafePointer<msghdr>, flags: Int32)
    /// Ends one or both directions of a connection (`SHUT_RD`, `SHUT_WR`, `SHUT_RDWR`).
    case shutdown(Descriptor, how: Int32)
    /// Opens a path relative to the working directory; completes with the descriptor.
    case open(UnsafePointer<CChar>, flags: Int32, mode: UInt32)
    /// Reads at `offset`; completes with the number of bytes, 0 at the end.
    case read(Descriptor, UnsafeMutableRawPointer, count: Int, offset: UInt64)
    /// Writes at `offset`; completes with the number of bytes written.
    case write(Descriptor, UnsafeRawPointer, count: Int, offset: UInt64)
    /// Makes written data durable.
    case synchronize(Descriptor, dataOnly: Bool)
    /// Fills in the status of an open file (path nil) or of a path.
    case status(Descriptor?, UnsafePointer<CChar>?, UnsafeMutablePointer<rondo_statx>)
    /// Lists a directory into `entries`.
    case list(UnsafePointer<CChar>, Unmanaged<DirectoryListing>)
    /// What else may be asked of files and folders.
    case file(FileOperation)
    /// Waits once until one of the poll events (`POLLIN`, `POLLOUT`, `POLLPRI`, `POLLRDHUP`) is there; completes with
    /// those that are, and with `POLLERR` and `POLLHUP`, which nobody need ask for. Files are always ready. Any number
    /// may wait on one descriptor.
    case poll(Descriptor, events: Int16)
    /// Closes a descriptor. It is never cancelled.
    case close(Descriptor)
    /// Runs a blocking call on the offload pool (a simulation runs it at once).
    case offload(Unmanaged<OffloadWork>)

    /// The operation's name without its arguments, for the loop's table, statistics and reports.
    package enum Kind: UInt8, Sendable, CaseIterable {
        case nothing, accept, connect, receive, send, receiveMessage, sendMessage, shutdown
        case open, read, write, synchronize, status, list, poll, close, offload
        case truncate, allocate, rename, remove, makeFolder, link, readLink, setStatus, lock, watch
    }

    package var kind: Kind {
        // SAFETY: looks at the case only, here and below.
        switch unsafe self {
        case .nothing: .nothing
        case .accept: .accept
        case .connect, .connectNamed: .connect
        case .receive: .receive
        case .send: .send
        case .receiveMessage: .receiveMessage
        case .sendMessage: .sendMessage
        case .shutdown: .shutdown
        case .open: .open
        case .read: .read
        case .write: .write
        case .synchronize: .synchronize
        case .status: .status
        case .list: .list
        case .file(let operation): unsafe operation.kind
        case .poll: .poll
        case .close: .close
        case .offload: .offload
        }
    }

    /// The descriptor that it works on, if it has one.
    package var descriptor: Descriptor? {
        // SAFETY: no pointer is looked at.
        switch unsafe self {
        case .accept(let descriptor), .connect(let descriptor, _), .connectNamed(let descriptor, _, _),
            .receive(let descriptor), .receiveMessage(let descriptor, _, _), .sendMessage(let descriptor, _, _),
            .send(let descriptor, _, _), .shutdown(let descriptor, _), .read(let descriptor, _, _, _),
            .write(let descriptor, _, _, _), .synchronize(let descriptor, _), .poll(let descriptor, _),
            .close(let descriptor):
            descriptor
        case .status(let descriptor, _, _): descriptor
        case .file(let operation): unsafe operation.descriptor
        case .nothing, .open, .list, .offload: nil
        }
    }
}

/// The driver's answer to an operation.
package struct Completion {
    package var operation: OperationID
    /// What the call answered; a negated errno if it failed.
    package var result: Int32
    /// Whether the operation goes on and will complete again.
    package var more: Bool
    /// The received bytes, for `receive` with a positive result.
    package var slice: BufferSlice

    @inline(__always)
    package init(operation: OperationID, result: Int32, more: Bool = false, slice: BufferSlice = .none) {
        self.operation = operation
        self.result = result
        self.more = more
        self.slice = slice
    }
}

/// What a `list` operation fills in: the names in a directory, `.` and `..` left out, in no particular order.
package final class DirectoryListing: @unchecked Sendable {
    // SAFETY: written by whoever carries the operation out, read by the waiting task after its completion; the
    // completion orders the two.
    package var entries: [(name: String, type: UInt8)] = []
    package init() {}
}
