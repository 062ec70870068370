#if PostgreSQL
import Rondo
import Testing

/// Stands between libpq and the server, and holds requests to end a statement until it is told to pass them on.
final class Gatekeeper: Sendable {
    private let listener: TCPListener
    private let server: SocketAddress
    /// Set when a request has come.
    let hasRequest = AsyncEvent()
    /// Set when requests may go on to the server.
    let mayPass = AsyncEvent()

    var port: Int { listener.localAddress.port }

    /// Listens, and serves until it is closed.
    init(to cluster: PostgresCluster) async throws {
        server = .loopback(port: cluster.port)
        listener = try await TCPListener.listen(on: .loopback(port: 0))
        start { try? await self.listener.serve { try await self.serve($0) } }
    }

    func close() async { await listener.close() }

    private func serve(_ client: TCPStream) async throws {
        let stream = try await TCPStream.connect(to: server)
        let head = try await client.readExactly(8)
        if head[4...] == [0x04, 0xd2, 0x16, 0x2e] {
            hasRequest.set()
            try await mayPass.wait()
        }
        try await stream.write(head)
        _ = try? await relay(client, stream)
        await stream.close()
        await client.close()
    }
}
#endif
