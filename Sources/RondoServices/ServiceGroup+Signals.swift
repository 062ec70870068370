public import Rondo
public import ServiceLifecycle

extension ServiceGroup {
    /// Runs the services until they have ended, or a signal asks them to; see Rondo's `withGracefulShutdown`.
    ///
    /// Make the group without signals of its own: those would be listened to on threads of Dispatch.
    ///
    /// ```
    /// let group = ServiceGroup(services: [ListenerService(listener) { stream in … }])
    /// try await group.run(untilSignalled: [.terminate, .interrupt], deadline: .seconds(20))
    /// ```
    ///
    /// - Parameters:
    ///   - signals: the first one triggers the graceful shutdown; a second one ends the process at once.
    ///   - deadline: when the services have not ended by then, they are cancelled.
    public func run(
        untilSignalled signals: [Signal], deadline: Duration = .seconds(30)
    ) async throws {
        try await withGracefulShutdown(on: signals, deadline: deadline) { shutdown in
            try await withThrowingTaskGroup(of: Void.self) { tasks in
                tasks.addTask {
                    if await shutdown.wait() { await self.triggerGracefulShutdown() }
                }
                try await self.run()
                tasks.cancelAll()
            }
        }
    }
}

/// A listener as a service: on graceful shutdown it closes its socket, and ends when its handlers have.
public struct ListenerService: Service {
    private let listener: TCPListener
    private let handler: @Sendable (TCPStream) async throws -> Void

    /// Serves connections with `handler`, each in a task of its own.
    public init(_ listener: TCPListener, handler: @escaping @Sendable (TCPStream) async throws -> Void) {
        self.listener = listener
        self.handler = handler
    }

    /// Serves until graceful shutdown or cancellation.
    public func run() async throws {
        let shutdown = Shutdown()
        try await withGracefulShutdownHandler {
            try await listener.serve(until: shutdown, handler)
        } onGracefulShutdown: {
            shutdown.request()
        }
    }
}
