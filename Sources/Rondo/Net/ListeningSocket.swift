// A listening socket of any kind: accepting, serving, closing. The listeners that programs see say what a connection
// is, and where it listens.

import CRondo
import SystemPackage

/// What a listener accepts.
protocol AcceptedConnection: AnyObject, Sendable {
    /// Runs `body`, whose task this connection belongs to meanwhile. On the loop's thread.
    func whileOwned(_ body: () async throws -> Void) async throws
    /// Closes it, and returns when nothing uses it.
    func close() async
}

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
    private let queue: AcceptQueue
    private var isClosed = false

    init(_ descriptor: Descriptor, name: String, loop: EventLoop) {
        self.descriptor = descriptor
        self.loop = loop
        self.name = name
        queue = AcceptQueue(descriptor, name: name, loop: loop)
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
            let logger = loop.configuration.logger
            do throws(IOError) {
                while true {
                    let accepted = connection(try await accept())
                    connections.start {
                        do {
                            try await accepted.whileOwned { try await handler(accepted) }
                        } catch {
                            logger.debug("a connection ended: \(error)")
                        }
                        await accepted.close()
                    }
                }
            } catch {
                connections.cancelAll()
                await connections.waitForAll()
                throw error
            }
        }
    }

    /// Stops listening, and then runs `last`, once.
    func close(_ last: @Sendable () async -> Void = {}) async {
        await loop.onLoop {
            if isClosed { return }
            isClosed = true
            await queue.close()
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
            await last()
        }
    }

    /// Times that accepting had to pause because no file descriptor was left.
    var shortages: Int {
        get async { await loop.onLoop { queue.shortages } }
    }

    private func error(_ cause: IOError.Cause) -> IOError { IOError("accept on", name, cause) }
}
