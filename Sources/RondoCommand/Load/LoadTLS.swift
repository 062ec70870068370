import NIOSSL
import Rondo
import RondoNIO

/// What lies between a connection and its `https://` server.
struct LoadTLS: Sendable {
    private let context: NIOSSLContext
    private let host: String?

    init(host: String, isInsecure: Bool) throws {
        var configuration = TLSConfiguration.makeClientConfiguration()
        configuration.applicationProtocols = ["http/1.1"]
        if isInsecure { configuration.certificateVerification = .none }
        context = try NIOSSLContext(configuration: configuration)
        // Addresses are not sent (RFC 6066, section 3).
        self.host = SocketAddress(host, port: 0) == nil ? host : nil
    }

    /// Runs `body` with the bytes behind the encryption; the connection is closed then.
    func with(_ stream: TCPStream, _ body: @Sendable (ChannelStream) async throws -> Void) async throws {
        try await StreamChannel.with(stream) { channel in
            try channel.pipeline.syncOperations.addHandler(NIOSSLClientHandler(context: context, serverHostname: host))
            return try ChannelStream(channel)
        } body: { secure in
            try await body(secure)
        }
    }
}
