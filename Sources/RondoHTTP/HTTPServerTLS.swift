// How a server proves who it is.

public import NIOSSL

/// Certificate and key of a server. Clients choose between HTTP/2 and HTTP/1.1 by ALPN.
public struct HTTPServerTLS: Sendable {
    let context: NIOSSLContext

    /// Of files in the PEM format.
    ///
    /// - Parameters:
    ///   - certificateChainFile: the server's certificate, and behind it those that vouch for it.
    ///   - privateKeyFile: its key.
    /// - Throws: `NIOSSLError` if a file is not there, or not what it should be.
    public init(certificateChainFile: String, privateKeyFile: String) throws {
        let chain = try NIOSSLCertificate.fromPEMFile(certificateChainFile).map {
            NIOSSLCertificateSource.certificate($0)
        }
        let key = try NIOSSLPrivateKey(file: privateKeyFile, format: .pem)
        try self.init(TLSConfiguration.makeServerConfiguration(certificateChain: chain, privateKey: .privateKey(key)))
    }

    /// Of a configuration of NIOSSL. Without `applicationProtocols` both HTTP/2 and HTTP/1.1 are offered.
    public init(_ configuration: TLSConfiguration) throws {
        var configuration = configuration
        if configuration.applicationProtocols.isEmpty { configuration.applicationProtocols = ["h2", "http/1.1"] }
        context = try NIOSSLContext(configuration: configuration)
    }
}
