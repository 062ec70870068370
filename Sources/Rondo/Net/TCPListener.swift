import Glibc
import SystemPackage

/// A TCP socket that accepts connections.
///
/// It may be used from any task; its work is done on the loop that it was made on.
@safe
public final class TCPListener: @unchecked Sendable {
    // SAFETY: `loop`, `descriptor` and `localAddress` never change. The rest belongs to the loop's thread, and each
    // method goes there before it touches anything. Closing points to nothing.

    /// The loop that does this listener's work.
    public let loop: EventLoop
    /// Where it listens; with the port that the system chose, if it was asked for port 0.
    public let localAddress: SocketAddress

    private let descriptor: Descriptor
    private let queue: AcceptQueue
    private var isClosed = false
    /// Whether `serve` is to end when its connections have.
    private var isStopping = false
    /// Turns in which connections are still taken when it stops.
    private var turnsToStop = 3

    private init(_ descriptor: Descriptor, address: SocketAddress, loop: EventLoop) {
        self.descriptor = descriptor
        self.loop = loop
        localAddress = address
        queue = AcceptQueue(descriptor, name: "\(address)", loop: loop)
    }

    deinit {
        if isClosed { return }
        let queue = queue
        let (descriptor, loop) = (descriptor, loop)
        loop.detach {
            await queue.close()
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
        }
    }

    /// Listens on `address`.
    ///
    /// - Parameters:
    ///   - address: where; port 0 lets the system choose.
    ///   - backlog: how many connections may wait in the kernel before they are refused.
    /// - Throws: `IOError`: `listen on 127.0.0.1:80: Address already in use`.
    public static func listen(on address: SocketAddress, backlog: Int = 4096) async throws(IOError) -> TCPListener {
        let loop = EventLoop.required(for: "TCPListener.listen")
        do throws(Errno) {
            let descriptor = try loop.driver.openSocket(for: address)
            do throws(Errno) {
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
        try await loop.onLoop { () async throws(IOError) in
            if loop.spendOperation() { await loop.yieldInTurn() }
            while true {
                if isClosed { throw error(.closed) }
                if let descriptor = queue.next() { return TCPStream(descriptor, loop: loop) }
                if let code = queue.failure { throw error(IOError.cause(ofAnswer: -code)) }
                if queue.hasWaiter { throw error(.busy) }
                if await !queue.wait() { throw error(.cancelled) }
            }
        }
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
        try await loop.onLoop { () async throws(IOError) in
            let connections = ConnectionTasks(loop: loop)
            let logger = loop.configuration.logger
            do throws(IOError) {
                while let stream = try await acceptUnlessStopped() {
                    connections.start {
                        do {
                            try await stream.whileOwned { try await handler(stream) }
                        } catch {
                            logger.debug("a connection ended: \(error)")
                        }
                        await stream.close()
                    }
                }
            } catch {
                connections.cancelAll()
                await connections.waitForAll()
                throw error
            }
            await close()
            await withTaskCancellationHandler {
                await connections.waitForAll()
            } onCancel: {
                loop.tell(.perform { connections.cancelAll() })
            }
            if Task.isCancelled { throw error(.cancelled) }
        }
    }

    /// The next connection to serve; nil after `stopAccepting()`, when all that had come before have been taken.
    private func acceptUnlessStopped() async throws(IOError) -> TCPStream? {
        if loop.spendOperation() { await loop.yieldInTurn() }
        while true {
            if isClosed, !isStopping { throw error(.closed) }
            if let descriptor = queue.next() { return TCPStream(descriptor, loop: loop) }
            if let code = queue.failure, !isStopping { throw error(IOError.cause(ofAnswer: -code)) }
            if isStopping {
                // Closing the socket resets what still waits in the kernel: a few turns bring it here. Not more, as
                // others may come all the time.
                if turnsToStop == 0 || isClosed { return nil }
                turnsToStop -= 1
                _ = await unsafe loop.perform(.nothing)
                continue
            }
            if queue.hasWaiter { throw error(.busy) }
            if await !queue.wait() { throw error(.cancelled) }
        }
    }

    /// Lets ``serve(_:)`` take the connections that have come, close the listening socket, and return when their
    /// handlers have ended. New connections are refused from then on.
    public func stopAccepting() async {
        await loop.onLoop {
            isStopping = true
            queue.wake()
        }
    }

    /// Stops listening. Who accepts meanwhile gets an error. Closing twice is no mistake.
    public func close() async {
        await loop.onLoop {
            if isClosed { return }
            isClosed = true
            await queue.close()
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
        }
    }

    /// Times that accepting had to pause because no file descriptor was left.
    public var shortages: Int {
        get async { await loop.onLoop { queue.shortages } }
    }

    private func error(_ cause: IOError.Cause) -> IOError { IOError("accept on", "\(localAddress)", cause) }
}
