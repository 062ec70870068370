// The seam between the loop and the world: time, operations, wake-ups. Everything that a program can learn from
// outside comes through here, so a driver (and a seed) is the whole world.

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
    /// Sets an option of a socket; `values` are its fields as the kernel has them.
    func setOption(_ option: SocketOption, of socket: Descriptor, to values: [Int32]) throws(Errno)
    /// The first field of a socket's option.
    func option(_ option: SocketOption, of socket: Descriptor) throws(Errno) -> Int32
    /// Breaks a connection: the peer sees a reset, what was not sent is gone, and operations on it end with an error.
    func breakConnection(_ socket: Descriptor)
    /// Finds the addresses of a host. It may block: call it in the offload pool.
    var lookUpHost: @Sendable (String) -> HostAnswer { get }
    /// Closes a descriptor that no operation uses, at once.
    func closeNow(_ descriptor: Descriptor)
}
