// The seam between the loop and the world: time, operations, wake-ups. Everything that a program can learn from
// outside comes through here, so a driver (and a seed) is the whole world.

package import CRondo
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

    /// A socket. TCP sockets send small answers at once (`TCP_NODELAY`).
    func openSocket(_ kind: SocketKind) throws(Errno) -> Descriptor
    /// Two Unix sockets that are connected with each other.
    func openSocketPair(_ kind: SocketKind) throws(Errno) -> (Descriptor, Descriptor)
    /// Gives `socket` an address of its own.
    func bind(_ socket: Descriptor, to name: SocketName) throws(Errno)
    /// Lets a bound socket listen; connections wait in a queue of at most `backlog`.
    func startListening(_ socket: Descriptor, backlog: Int32) throws(Errno)
    /// The socket's own address, of any family.
    func localName(of socket: Descriptor) throws(Errno) -> SocketName
    /// The address of the socket's peer, of any family.
    func peerName(of socket: Descriptor) throws(Errno) -> SocketName
    /// Sets an option of a socket (man 2 setsockopt).
    func setOption(_ option: SocketOption, of socket: Descriptor, to value: [UInt8]) throws(Errno)
    /// An option of a socket: at most `size` bytes.
    func option(_ option: SocketOption, of socket: Descriptor, size: Int) throws(Errno) -> [UInt8]
    /// Binds `socket` to `address` and listens; connections wait in a queue of at most `backlog`.
    func listen(_ socket: Descriptor, on address: SocketAddress, backlog: Int32) throws(Errno)
    /// The socket's own address.
    func localAddress(of socket: Descriptor) throws(Errno) -> SocketAddress
    /// The address of the socket's peer.
    func peerAddress(of socket: Descriptor) throws(Errno) -> SocketAddress
    /// A pipe, whose ends do not block.
    func openPipe() throws(Errno) -> (reader: Descriptor, writer: Descriptor)
    /// A descriptor of our own for what another one stands for, and how it is read and written. That one stays open and
    /// as it is.
    func share(_ descriptor: Descriptor, forWriting: Bool) throws(Errno) -> (descriptor: Descriptor, kind: StreamKind)
    /// Reads from a pipe, terminal or the like what is there. Answers a count, 0 at the end, or a negated errno:
    /// `EAGAIN` if there is nothing; then `poll` tells when there is.
    func readNow(_ descriptor: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, kind: StreamKind) -> Int32
    /// Writes what there is room for; answers as `readNow`.
    func writeNow(_ descriptor: Descriptor, _ bytes: UnsafeRawPointer, count: Int, kind: StreamKind) -> Int32
    /// A pipe with room for about `capacity` bytes, for `moveNow`. Throws `.notSupported` where bytes can't be moved,
    /// and another error where just now no such pipe can be had.
    func openTransferPipe(capacity: Int) throws(Errno) -> (reader: Descriptor, writer: Descriptor)
    /// Makes sure that `moveNow` never waits for a connected socket. Operations on it go on as before.
    func prepareToMove(_ socket: Descriptor) throws(Errno)
    /// Moves bytes that have arrived at a socket into a pipe, without showing them to the process. Answers a count, 0
    /// at the end, or a negated errno: `EAGAIN` if nothing has arrived, or the pipe is full.
    func moveNow(from socket: Descriptor, into pipe: Descriptor, count: Int) -> Int32
    /// Moves bytes from a pipe to a socket, as many as there is room for; answers as above. `count` of them are there.
    func moveNow(outOf pipe: Descriptor, to socket: Descriptor, count: Int) -> Int32
    /// Opens a file for reading if no disk has to be waited for on the way to it; below `folder`, if there is one, as
    /// `FileOperation.openBeneath`. Answers a descriptor, or a negated errno that may mean only that.
    func openFileNow(_ path: UnsafePointer<CChar>, beneath folder: UnsafePointer<CChar>?) -> Int32
    /// Reads from a file what is in memory, and finds out where the file is. Answers a count, 0 at the end,
    /// or a negated errno that may mean only that it can't be had so.
    func readFileNow(
        _ file: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, offset: UInt64, place: inout FilePlace
    ) -> Int32
    /// Fills in the status of an open file, if nobody has to be waited for. Answers 0, or a negated errno as above.
    func fileStatusNow(
        _ file: Descriptor, _ status: UnsafeMutablePointer<rondo_statx>, place: inout FilePlace
    ) -> Int32
    /// Breaks a connection: the peer sees a reset, what was not sent is gone, and operations on it end with an error.
    func breakConnection(_ socket: Descriptor)
    /// Finds the addresses of a host. It may block: call it in the offload pool.
    var lookUpHost: @Sendable (String) -> HostAnswer { get }
    /// Closes a descriptor that no operation uses, at once.
    func closeNow(_ descriptor: Descriptor)
    /// Closes a descriptor that came with a message, after the loop has closed as well.
    var closeReceived: @Sendable (Descriptor) -> Void { get }
    /// The files that Unix sockets are bound to.
    var socketFiles: any SocketFiles { get }
}

extension Driver {
    // A world that does not tell what is in memory.
    package func openFileNow(_ path: UnsafePointer<CChar>, beneath folder: UnsafePointer<CChar>?) -> Int32 { -EAGAIN }
    package func readFileNow(
        _ file: Descriptor, _ bytes: UnsafeMutableRawPointer, count: Int, offset: UInt64, place: inout FilePlace
    ) -> Int32 {
        place = .elsewhere
        return -EOPNOTSUPP
    }
    package func fileStatusNow(
        _ file: Descriptor, _ status: UnsafeMutablePointer<rondo_statx>, place: inout FilePlace
    ) -> Int32 {
        place = .elsewhere
        return -EOPNOTSUPP
    }

    /// A stream socket for the family of `address`.
    package func openSocket(for address: SocketAddress) throws(Errno) -> Descriptor {
        try openSocket(.stream(of: address))
    }

    /// Sets an option whose value is one plain value.
    package func setOption<Value: BitwiseCopyable>(
        _ option: SocketOption, of socket: Descriptor, to value: Value
    ) throws(Errno) {
        // SAFETY: reads the value's bytes within the call.
        try setOption(option, of: socket, to: unsafe withUnsafeBytes(of: value) { unsafe Array($0) })
    }

    /// An option whose value is a number.
    package func numberOption(_ option: SocketOption, of socket: Descriptor) throws(Errno) -> Int32 {
        let bytes = try self.option(option, of: socket, size: 4)
        if bytes.count < 4 { throw .invalidArgument }
        // SAFETY: there are four bytes.
        return unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(as: Int32.self) }
    }
}

/// Where a file's bytes are.
package enum FilePlace: Sendable {
    /// Nobody has asked.
    case unknown
    /// On a disk of this machine, and some of them in memory.
    case disk
    /// In memory, as a program's own are.
    case memory
    /// Where only the file system knows: its files may always have to be waited for.
    case elsewhere
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
