// The seam between the loop and the world: time, operations, wake-ups. Everything that a program can learn from
// outside comes through here, so a driver (and a seed) is the whole world.

import Glibc
package import SystemPackage

/// What the loop needs of the outside world.
///
/// A driver lives on the loop's thread: every call but `wake()` comes from there. It never resumes anybody: it
/// returns completions, and the loop resumes. Each submitted operation ends with exactly one completion whose `more`
/// is false, cancelled or not.
package protocol Driver: AnyObject {
    /// `io_uring`, `epoll` or `simulated`.
    var name: String { get }

    /// Why the loop has this driver, in a line for people.
    var reason: String { get }

    /// The present, in nanoseconds that never go back.
    var now: UInt64 { get }

    /// The memory that `receive` fills.
    var receiveBuffers: ReceiveBuffers { get }

    /// System calls made so far, those of the offload pool and the immediate calls below left out.
    var systemCalls: UInt64 { get }

    /// Takes an operation on. Nothing need happen before the next `wait`.
    func submit(_ operation: Operation, as id: OperationID)

    /// Asks for an early end. The operation's last completion still comes: with `ECANCELED`, or with its own result
    /// if it was faster. Unknown ids are ignored.
    func cancel(_ id: OperationID)

    /// Hands over what was submitted, and waits until something completes, `wake()` is called or the time is
    /// `deadline`: 0 does not wait, `UInt64.max` waits for ever. May return early with nothing.
    func wait(until deadline: UInt64)

    /// The next completion that `wait` has found, in order; nil when there is none left.
    func nextCompletion() -> Completion?

    /// Ends a `wait`, or the next one. From any thread, at any time before `close`.
    func wake()

    /// Frees everything. No operation is pending any more.
    func close()

    // Calls that the system answers at once.

    /// A stream socket for the family of `address`.
    func openSocket(for address: SocketAddress) throws(Errno) -> Descriptor
    /// Binds `socket` to `address` and listens; connections wait in a queue of at most `backlog`.
    func listen(_ socket: Descriptor, on address: SocketAddress, backlog: Int32) throws(Errno)
    /// The socket's own address.
    func localAddress(of socket: Descriptor) throws(Errno) -> SocketAddress
    /// The address of the socket's peer.
    func peerAddress(of socket: Descriptor) throws(Errno) -> SocketAddress
    /// Reads from a pipe, terminal or the like what is there. Answers a count, 0 at the end, or a negated errno:
    /// `EAGAIN` if there is nothing; then `poll` tells when there is.
    func readNow(_ descriptor: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, kind: StreamKind) -> Int32
    /// Writes what there is room for; answers as `readNow`.
    func writeNow(_ descriptor: Descriptor, _ bytes: UnsafeRawPointer, count: Int, kind: StreamKind) -> Int32
    /// Closes a descriptor that no operation uses, at once.
    func closeNow(_ descriptor: Descriptor)
}

/// How a descriptor is read and written without waiting.
package enum StreamKind: Sendable {
    /// It has a file description of its own, which does not block.
    case nonBlocking
    /// Its file description is shared with other programs and blocks: it is asked before, and given little at a time.
    case shared
    case socket
    /// It is never "not ready", and may block all the same: it is read by operations only.
    case file
}

extension Driver {
    // For drivers whose world has no pipes.
    package func readNow(
        _ descriptor: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, kind: StreamKind
    ) -> Int32 { -EOPNOTSUPP }
    package func writeNow(
        _ descriptor: Descriptor, _ bytes: UnsafeRawPointer, count: Int, kind: StreamKind
    ) -> Int32 { -EOPNOTSUPP }
}
