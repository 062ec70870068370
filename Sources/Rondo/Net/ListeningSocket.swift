// A listening socket of any kind: accepting, serving, closing. The listeners that programs see say what a connection
// is, and where it listens.

import CRondo
import SystemPackage

extension SocketStream: AcceptedConnection {}

/// A socket that listens. Its methods go to the loop's thread by themselves.
@safe
final class ListeningSocket: @unchecked Sendable {
    // SAFETY: `loop`, `descriptor` and `name` never change. The rest belongs to the loop's thread, and each method goes
    // there before it touches anything. Closing points to nothing.

    let loop: EventLoop
    let descriptor: Descriptor
    /// Where it listens, as errors say it.
    let name: String
    /// The file that goes with it.
    private let path: BoundPath?
    private let queue: AcceptQueue
    private var isClosed = false
    /// Whether `serve` is to end when its connections have.
    private var isStopping = false
    /// Turns in which connections are still taken when it stops.
    private var turnsToStop = 3

    init(_ descriptor: Descriptor, name: String, path: BoundPath? = nil, loop: EventLoop) {
        self.path = path
        self.descriptor = descriptor
        self.loop = loop
        self.name = name
        queue = AcceptQueue(descriptor, name: name, loop: loop)
    }

    deinit {
        if isClosed { return }
        let (queue, path) = (queue, path)
        let (descriptor, loop) = (descriptor, loop)
        loop.detach {
            await queue.close()
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
            await path?.remove(on: loop)
        }
    }

    /// Waits for the next connection.
    func accept() async throws(IOError) -> Descriptor {
        try await loop.onLoop { () async throws(IOError) in
            if loop.spendOperation() { await loop.yieldInTurn() }
            while true {
                if isClosed { throw error(.closed) }
                if let descriptor = queue.next() { return descriptor }
                if let code = queue.failure { throw error(IOError.cause(ofAnswer: -code)) }
                if queue.hasWaiter { throw error(.busy) }
                if await !queue.wait() { throw error(.cancelled) }
            }
        }
    }

    /// Accepts connections and runs `handler` for each, in a task of its own, until accepting fails.
    ///
    /// - Parameter connection: makes a connection of an accepted descriptor.
    func serve<Connection: AcceptedConnection>(
        _ connection: @Sendable (Descriptor) -> Connection,
        _ handler: @escaping @Sendable (Connection) async throws -> Void
    ) async throws(IOError) {
        try await loop.onLoop { () async throws(IOError) in
            let connections = ConnectionTasks(loop: loop)
            do throws(IOError) {
                while let descriptor = try await acceptUnlessStopped() {
                    connections.serve(connection(descriptor), handler)
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

    /// The next connection to serve; nil after `stopAccepting()`, when all that had come before have been taken. On the
    /// loop's thread.
    func acceptUnlessStopped() async throws(IOError) -> Descriptor? {
        if loop.spendOperation() { await loop.yieldInTurn() }
        while true {
            if isClosed, !isStopping { throw error(.closed) }
            if let descriptor = queue.next() { return descriptor }
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

    /// Lets `serve` take the connections that have come, close the socket, and return when their handlers have ended.
    func stopAccepting() async {
        await loop.onLoop {
            isStopping = true
            queue.wake()
        }
    }

    /// Stops listening, and removes the file.
    func close() async {
        await loop.onLoop {
            if isClosed { return }
            isClosed = true
            await queue.close()
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
            await path?.remove(on: loop)
        }
    }

    /// Times that accepting had to pause because no file descriptor was left.
    var shortages: Int {
        get async { await loop.onLoop { queue.shortages } }
    }

    private func error(_ cause: IOError.Cause) -> IOError { IOError("accept on", name, cause) }
}
