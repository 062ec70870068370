import Glibc
public import SystemPackage

/// A Unix-domain socket that accepts connections.
///
/// It may be used from any task; its work is done on the loop that it was made on.
public final class UnixListener: Sendable {
    /// Where it listens.
    public let localAddress: UnixAddress

    private let socket: ListeningSocket

    private init(_ bound: BoundUnixSocket, loop: EventLoop) {
        localAddress = bound.address
        socket = ListeningSocket(bound.descriptor, name: "\(bound.address)", path: bound.path, loop: loop)
    }

    /// The loop that does this listener's work.
    public var loop: EventLoop { socket.loop }

    /// Listens on `address`. A path's file is made, and removed when the listener is closed, if it is still the same.
    ///
    /// - Parameters:
    ///   - address: where.
    ///   - replacingStale: whether to remove a socket file that is there already, if nobody listens on it: what a
    ///     program leaves behind that did not end in order. Two programs that start at once must not both ask for this.
    ///   - permissions: who may connect: who may write to the file. Set before anybody can connect; nil leaves it to
    ///     the process's umask.
    ///   - backlog: how many connections may wait in the kernel.
    /// - Throws: `IOError`: `listen on /run/app.sock: Address already in use`.
    public static func listen(
        on address: UnixAddress, replacingStale: Bool = false, permissions: FilePermissions? = nil,
        backlog: Int = 4096
    ) async throws(IOError) -> UnixListener {
        let loop = EventLoop.required(for: "UnixListener.listen")
        return try await loop.onLoop { () async throws(IOError) in
            let bound = try await BoundUnixSocket.make(
                .unixStream, "listen on", address, replacingStale, permissions, backlog: backlog, on: loop)
            return UnixListener(bound, loop: loop)
        }
    }

    /// Waits for the next connection.
    ///
    /// While the process has no file descriptor left, this waits and tries again, and new connections wait in the
    /// kernel's queue; the loop's logger is told. If the task is cancelled it throws, and no connection is lost.
    public func accept() async throws(IOError) -> UnixStream {
        UnixStream(try await socket.accept(), name: "a client of \(localAddress)", loop: loop)
    }

    /// Accepts connections and runs `handler` for each, in a task of its own, all at once.
    ///
    /// A handler that throws ends its own connection only; the loop's logger is told at debug level. When a handler
    /// ends, its connection is closed. If the task is cancelled, accepting stops, every handler is cancelled, and this
    /// throws after the last of them has ended. After ``stopAccepting()`` it returns when every handler has ended by
    /// itself.
    public func serve(_ handler: @escaping @Sendable (UnixStream) async throws -> Void) async throws(IOError) {
        let (loop, name) = (loop, "a client of \(localAddress)")
        try await socket.serve({ UnixStream($0, name: name, loop: loop) }, handler)
    }

    /// Lets ``serve(_:)`` take the connections that have come, close the listening socket, remove its file, and return
    /// when their handlers have ended. New connections are refused from then on.
    public func stopAccepting() async { await socket.stopAccepting() }

    /// Stops listening, and removes the file. Who accepts meanwhile gets an error. Closing twice is no mistake.
    public func close() async { await socket.close() }

    /// Times that accepting had to pause because no file descriptor was left.
    public var shortages: Int {
        get async { await socket.shortages }
    }
}

/// A Unix socket that has got its address.
struct BoundUnixSocket {
    let descriptor: Descriptor
    let address: UnixAddress
    let path: BoundPath?

    /// Makes a socket, binds it, and lets it listen if there is a backlog. On the loop's thread.
    static func make(
        _ kind: SocketKind, _ verb: String, _ address: UnixAddress, _ replacingStale: Bool,
        _ permissions: FilePermissions?, backlog: Int?, on loop: EventLoop
    ) async throws(IOError) -> BoundUnixSocket {
        if let problem = address.problem { throw IOError(verb, "\(address)", .invalid(problem)) }
        let path = address.path?.string
        let files = loop.driver.socketFiles
        do throws(Errno) {
            let descriptor = try loop.driver.openSocket(kind)
            var file: BoundPath?
            do throws(Errno) {
                do throws(Errno) {
                    try loop.driver.bind(descriptor, to: address.socketName)
                } catch {
                    guard error == .addressInUse, replacingStale, let path else { throw error }
                    _ = try checked(await loop.runBlocking { BoundPath.removeStale(path, kind, in: files) })
                    try loop.driver.bind(descriptor, to: address.socketName)
                }
                file = path.flatMap { BoundPath($0, in: files) }
                if let path, let permissions { try files.setMode(permissions.rawValue, at: path) }
                if let backlog { try loop.driver.startListening(descriptor, backlog: Int32(clamping: backlog)) }
                return BoundUnixSocket(descriptor: descriptor, address: address, path: file)
            } catch {
                loop.driver.closeNow(descriptor)
                file?.removeNow()
                throw error
            }
        } catch {
            throw IOError(verb, "\(address)", .system(error))
        }
    }

    /// Makes a socket and connects it. On the loop's thread.
    ///
    /// A listener whose queue is full makes it wait. The kernel tells nobody when there is room, so it is tried again.
    static func connect(
        _ kind: SocketKind, to address: UnixAddress, on loop: EventLoop
    ) async throws(IOError) -> Descriptor {
        if let problem = address.problem { throw IOError("connect to", "\(address)", .invalid(problem)) }
        let descriptor: Descriptor
        do throws(Errno) {
            descriptor = try loop.driver.openSocket(kind)
        } catch {
            throw IOError("connect to", "\(address)", .system(error))
        }
        var answer = await connect(descriptor, to: address, on: loop)
        var pause = RetryPause()
        while answer == -EAGAIN {
            answer = await pause.wait() ? await connect(descriptor, to: address, on: loop) : -ECANCELED
        }
        if answer >= 0 { return descriptor }
        // SAFETY: closing points to nothing.
        _ = await unsafe loop.performToTheEnd(.close(descriptor))
        throw IOError("connect to", "\(address)", IOError.cause(ofAnswer: answer))
    }

    private static func connect(_ descriptor: Descriptor, to address: UnixAddress, on loop: EventLoop) async -> Int32 {
        let bytes = address.socketName.bytes
        let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: SocketName.capacity, alignment: 8)
        // SAFETY: freed after the last completion; a name has at most that many bytes.
        defer { unsafe memory.deallocate() }
        unsafe memory.copyBytes(from: bytes)
        let name = unsafe UnsafePointer(memory.baseAddress!.assumingMemoryBound(to: sockaddr.self))
        return await unsafe loop.perform(.connectNamed(descriptor, name, length: socklen_t(bytes.count)))
    }
}
