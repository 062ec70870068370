// A Hummingbird application on Rondo's loops. Its own `run` binds a socket of NIO's, whose threads then hand every part
// of every request to the program; here the connection's loop reads, parses, routes, answers and writes.

public import Hummingbird
public import HummingbirdCore
public import Rondo
import RondoServices
import ServiceLifecycle

extension ApplicationProtocol {
    /// Serves the application to the connections of `listener`, over HTTP/1.1, until a signal asks for the end.
    ///
    /// As ``runService(on:gracefulShutdownSignals:deadline:channel:)``.
    public func runService(
        on listener: TCPListener, gracefulShutdownSignals signals: [Signal] = [.terminate, .interrupt],
        deadline: Duration = .seconds(30)
    ) async throws {
        try await runService(on: listener, gracefulShutdownSignals: signals, deadline: deadline) {
            HTTP1Channel(responder: $0)
        }
    }

    /// Serves the application to the connections of `listener` until a signal asks for the end.
    ///
    /// ```
    /// let listener = try await TCPListener.listen(on: .any(port: 8443))
    /// try await application.runService(on: listener) { responder in
    ///     try HTTP2UpgradeChannel(tlsConfiguration: configuration, responder: responder)
    /// }
    /// ```
    ///
    /// At the first signal the listener closes, connections that wait for a request are closed, requests under way are
    /// answered (HTTP/2: after GOAWAY), the application's services end, and this returns. What has not ended when
    /// `deadline` is over is cancelled. A second signal ends the process.
    ///
    /// Otherwise it is as Hummingbird's `runService`, but what has to do with NIO's listening socket plays no part:
    /// `server` (say what it would be by `channel`), `eventLoopGroup`, the configuration's address, backlog, address
    /// reuse and available connections, and `onServerRunning`, for the listener listens already.
    ///
    /// - Parameters:
    ///   - listener: whose connections are served, on the runtime's loops in turn.
    ///   - channel: makes the protocol from the application's responder: Hummingbird's `HTTP1Channel`, `TLSChannel`,
    ///     `HTTP2UpgradeChannel` or any other `ServerChildChannel`.
    /// - Throws: what a service throws, or a process that runs before the server starts.
    public func runService(
        on listener: TCPListener, gracefulShutdownSignals signals: [Signal] = [.terminate, .interrupt],
        deadline: Duration = .seconds(30),
        channel: @escaping @Sendable (@escaping HTTPChannelHandler.Responder) throws -> some ServerChildChannel
    ) async throws {
        try await runGroup(untilSignalled: signals, deadline: deadline) {
            try await run(on: listener, channel: channel)
        }
    }

    /// Serves the application over HTTP/1.1, as a part of something greater.
    ///
    /// As ``run(on:channel:)``.
    public func run(on listener: TCPListener) async throws {
        try await run(on: listener) { HTTP1Channel(responder: $0) }
    }

    /// Serves the application, as a part of something greater: until the graceful shutdown of the `ServiceGroup` that
    /// the caller is a service of, or until `listener.stopAccepting()`, or until the task is cancelled. Then every
    /// connection is closed, and this throws.
    public func run(
        on listener: TCPListener,
        channel: @escaping @Sendable (@escaping HTTPChannelHandler.Responder) throws -> some ServerChildChannel
    ) async throws {
        let child = try channel(try await responderOnLoop())
        let logger = logger
        try await runWithServices { try await ConnectionServer(child: child, logger: logger).serve(listener) }
    }

    /// Runs `body` as a group of services of its own, which signals end.
    func runGroup(
        untilSignalled signals: [Signal], deadline: Duration, _ body: @escaping @Sendable () async throws -> Void
    ) async throws {
        let service = ServiceGroupConfiguration.ServiceConfiguration(
            service: WholeService(body), successTerminationBehavior: .gracefullyShutdownGroup)
        let group = ServiceGroup(configuration: .init(services: [service], logger: logger))
        try await group.run(untilSignalled: signals, deadline: deadline)
    }

    /// Runs `serve` and the application's services, until one of them ends.
    func runWithServices(_ serve: @escaping @Sendable () async throws -> Void) async throws {
        let before = processesRunBeforeServerStart
        let server = WholeService {
            for process in before { try await process() }
            try await serve()
        }
        var configurations = services.map { ServiceGroupConfiguration.ServiceConfiguration(service: $0) }
        configurations.append(.init(service: server, successTerminationBehavior: .gracefullyShutdownGroup))
        try await ServiceGroup(configuration: .init(services: configurations, logger: logger)).run()
    }
}

/// A service that is one closure.
private struct WholeService: Service {
    let body: @Sendable () async throws -> Void

    init(_ body: @escaping @Sendable () async throws -> Void) { self.body = body }

    func run() async throws { try await body() }
}
