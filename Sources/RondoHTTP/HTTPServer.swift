// A server: a listener, and what happens with its connections.

import HTTPTypes
public import Rondo
import Synchronization

/// A server for HTTP/1.1, and with TLS for HTTP/2.
///
/// ```
/// let server = try await HTTPServer.listen(on: .any(port: 8080))
/// try await server.serve { request, response in
///     try await response.send("You asked for \(request.path)\n")
/// }
/// ```
///
/// A connection of HTTP/1 has one task, which runs the handlers of its requests one after the other; one of HTTP/2
/// has a task for each request. A handler that throws, or
/// that ends without an answer, gets its client a 500.
public final class HTTPServer: Sendable {
    /// Where it listens; with the port that the system chose, if it was asked for port 0.
    public var localAddress: SocketAddress { listener.localAddress }

    /// How it treats its clients.
    public let configuration: HTTPServerConfiguration

    private let listener: TCPListener
    private let connections = Atomic(0)
    private let registries = Mutex<[ObjectIdentifier: ConnectionRegistry]>([:])

    private init(_ listener: TCPListener, _ configuration: HTTPServerConfiguration) {
        self.listener = listener
        self.configuration = configuration
    }

    /// Listens on `address`. Nobody is served before ``serve(_:)``.
    ///
    /// - Parameters:
    ///   - address: where; port 0 lets the system choose.
    ///   - options: of the listening socket.
    /// - Throws: `IOError`: `listen on 127.0.0.1:80: Address already in use`.
    public static func listen(
        on address: SocketAddress, configuration: HTTPServerConfiguration = HTTPServerConfiguration(),
        options: [TCPListenerOption] = []
    ) async throws(IOError) -> HTTPServer {
        HTTPServer(try await TCPListener.listen(on: address, options: options), configuration)
    }

    /// Serves until the task is cancelled, on all loops of the runtime (on one, if there is one).
    ///
    /// If the task is cancelled, so are all handlers; this throws when the last of them has ended. After
    /// ``stopAccepting()`` it returns when all connections have ended.
    ///
    /// - Parameter handler: is called for each request. It may be called many times at once, for requests of different
    ///   connections.
    public func serve(
        _ handler: @escaping @Sendable (ServerRequest, ServerResponse) async throws -> Void
    ) async throws(IOError) {
        defer { stopRegistries() }
        try await listener.serve(over: Runtime.current) { stream in
            try await self.serve(stream, handler)
        }
    }

    /// As ``serve(_:)``, until `shutdown` is requested: then connections that wait for a request are closed, those that
    /// have one are closed after its answer, new ones are refused, and this returns when the last has ended.
    public func serve(
        until shutdown: Shutdown, _ handler: @escaping @Sendable (ServerRequest, ServerResponse) async throws -> Void
    ) async throws(IOError) {
        let stopping = Task(executorPreference: listener.loop.executor) {
            if await shutdown.wait() { await self.stopAccepting() }
        }
        defer { stopping.cancel() }
        try await serve(handler)
    }

    /// Lets ``serve(_:)`` end in order, as if a shutdown were requested.
    public func stopAccepting() async {
        await listener.stopAccepting()
        for registry in registries.withLock({ Array($0.values) }) { await registry.drainFromAnywhere() }
    }

    /// Stops listening. Connections go on.
    public func close() async { await listener.close() }

    // MARK: Connections

    private func serve(_ stream: TCPStream, _ handler: @escaping HTTPHandler) async throws {
        let registry = registry(of: stream.loop)
        let count = connections.add(1, ordering: .relaxed).newValue
        defer { connections.subtract(1, ordering: .relaxed) }
        if count > configuration.limits.connections {
            if configuration.tls != nil { return }
            // Nothing was read: the answer is small enough to go out at once.
            try? await stream.write(
                "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\nRetry-After: 1\r\n\r\n")
            return
        }
        if let tls = configuration.tls {
            return try await SecureConnection(stream, configuration, registry, handler).run(tls)
        }
        if let bytes = await HTTP1Connection(stream, configuration, registry).run(handler) {
            try await HTTP2Connection.serve(stream, received: bytes, configuration, registry, handler)
        }
    }

    private func registry(of loop: EventLoop) -> ConnectionRegistry {
        registries.withLock { registries in
            if let registry = registries[ObjectIdentifier(loop)] { return registry }
            let registry = ConnectionRegistry(on: loop)
            registries[ObjectIdentifier(loop)] = registry
            return registry
        }
    }

    private func stopRegistries() {
        for registry in registries.withLock({ Array($0.values) }) { registry.stop() }
    }
}
