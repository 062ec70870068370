import Glibc
import SystemPackage

/// A TCP socket that accepts connections.
///
/// It may be used from any task; its work is done on the loop that it was made on.
public final class TCPListener: Sendable {
    /// Where it listens; with the port that the system chose, if it was asked for port 0.
    public let localAddress: SocketAddress

    let socket: ListeningSocket

    private init(_ descriptor: Descriptor, address: SocketAddress, loop: EventLoop) {
        localAddress = address
        socket = ListeningSocket(descriptor, name: "\(address)", loop: loop)
    }

    /// The loop that does this listener's work.
    public var loop: EventLoop { socket.loop }

    /// Listens on `address`.
    ///
    /// - Parameters:
    ///   - address: where; port 0 lets the system choose.
    ///   - backlog: how many connections may wait in the kernel before they are refused; the system's limit is
    ///     `net.core.somaxconn`.
    ///   - options: what to set on the socket before it is bound.
    /// - Throws: `IOError`: `listen on 127.0.0.1:80: Address already in use`.
    public static func listen(
        on address: SocketAddress, backlog: Int = 4096, options: [TCPListenerOption] = []
    ) async throws(IOError) -> TCPListener {
        let loop = EventLoop.required(for: "TCPListener.listen")
        do throws(Errno) {
            let descriptor = try loop.driver.openSocket(for: address)
            do throws(Errno) {
                for option in options {
                    for (option, values) in option.settings {
                        try loop.driver.setOption(option, of: descriptor, toFields: values)
                    }
                }
                try loop.driver.listen(descriptor, on: address, backlog: Int32(clamping: backlog))
                let bound = try loop.driver.localAddress(of: descriptor)
                return TCPListener(descriptor, address: bound, loop: loop)
            } catch {
                loop.driver.closeNow(descriptor)
                throw error
            }
        } catch {
            throw IOError("listen on", "\(address)", .system(error))
        }
    }

    /// Waits for the next connection.
    ///
    /// While the process has no file descriptor left, this waits and tries again, and new connections wait in the
    /// kernel's queue; the loop's logger is told. If the task is cancelled it throws, and no connection is lost.
    public func accept() async throws(IOError) -> TCPStream {
        TCPStream(try await socket.accept(), loop: loop)
    }

    /// Accepts connections and runs `handler` for each, in a task of its own, all at once.
    ///
    /// A handler that throws ends its own connection only; the loop's logger is told at debug level. When a handler
    /// ends, its connection is closed. If the task is cancelled, accepting stops, every handler is cancelled, and this
    /// throws after the last of them has ended. After ``stopAccepting()`` it returns when every handler has ended by
    /// itself.
    ///
    /// Each connection costs the same, however many there are.
    public func serve(_ handler: @escaping @Sendable (TCPStream) async throws -> Void) async throws(IOError) {
        let loop = loop
        try await socket.serve({ TCPStream($0, loop: loop) }, handler)
    }

    /// Lets ``serve(_:)`` take the connections that have come, close the listening socket, and return when their
    /// handlers have ended. New connections are refused from then on.
    public func stopAccepting() async { await socket.stopAccepting() }

    /// Stops listening. Who accepts meanwhile gets an error. Closing twice is no mistake.
    public func close() async { await socket.close() }

    /// Times that accepting had to pause because no file descriptor was left.
    public var shortages: Int {
        get async { await socket.shortages }
    }
}
