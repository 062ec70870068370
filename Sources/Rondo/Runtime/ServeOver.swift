// One listener, several loops: connections are accepted on the listener's loop and handed to the others, each in turn.
// The kernel's way, a listener a loop with SO_REUSEPORT, spreads by a hash of the addresses, which few connections
// make uneven; this way is even, at a message a connection.

import SystemPackage

extension TCPListener {
    /// Accepts connections and runs `handler` for each in a task of its own, on the runtime's loops in turn.
    ///
    /// As ``serve(_:)``, which this is without a runtime. The tasks begin without the caller's priority and
    /// task-local values. After ``stopAccepting()`` it returns when all handlers have ended. If the task is cancelled,
    /// accepting stops, every handler is cancelled, and this throws after the last of them has ended.
    public func serve(
        over runtime: Runtime?, _ handler: @escaping @Sendable (TCPStream) async throws -> Void
    ) async throws(IOError) {
        guard let loops = runtime?.loops else { return try await serve(handler) }
        let sets = loops.map { ConnectionTasks(loop: $0) }
        try await loop.onLoop { () async throws(IOError) in
            do throws(IOError) {
                var next = 0
                while let descriptor = try await socket.acceptUnlessStopped() {
                    handOver(descriptor, to: sets[next], handler)
                    next = (next + 1) % sets.count
                }
            } catch {
                for set in sets { await set.end(cancelling: true) }
                throw error
            }
            await close()
            await withTaskCancellationHandler {
                for set in sets { await set.end(cancelling: false) }
            } onCancel: {
                for set in sets { set.loop.tell(.perform { set.cancelAll() }) }
            }
            if Task.isCancelled { throw IOError("accept on", "\(localAddress)", .cancelled) }
        }
    }

    private func handOver(
        _ descriptor: Descriptor, to set: ConnectionTasks,
        _ handler: @escaping @Sendable (TCPStream) async throws -> Void
    ) {
        let home = set.loop
        if home === loop { return set.serve(TCPStream(descriptor, loop: home), handler) }
        let isTold = home.tell(.perform { set.serve(TCPStream(descriptor, loop: home), handler) })
        // That loop has closed, and its driver with it: nobody will serve the connection.
        if !isTold { loop.driver.closeNow(descriptor) }
    }
}

extension ConnectionTasks {
    /// Waits until every task has ended. From any thread; what is handed over later is not waited for.
    func end(cancelling cancels: Bool) async {
        await loop.onLoop {
            if cancels { cancelAll() }
            await waitForAll()
        }
    }
}
