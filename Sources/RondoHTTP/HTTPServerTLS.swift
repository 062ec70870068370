// How a server proves who it is.

public import NIOSSL
import Rondo
import SystemPackage

/// Certificate and key of a server. Clients choose between HTTP/2 and HTTP/1.1 by ALPN.
public struct HTTPServerTLS: Sendable {
    // SAFETY: the system writes into the array within the call, as many bytes as it has.

    let context: NIOSSLContext

    /// Of files in the PEM format, for TLS 1.2 and 1.3. They are read here and now: call it before the server listens.
    ///
    /// - Parameters:
    ///   - certificateChainFile: the server's certificate, and behind it those that vouch for it.
    ///   - privateKeyFile: its key, without a passphrase.
    /// - Throws: `IOError`: `read the certificate chain.pem: No such file or directory (check the path)`, and whatever
    ///   else may be wrong: a file that can't be read or holds something else, a key of another certificate.
    public init(certificateChainFile: String, privateKeyFile: String) throws {
        let chain = try Self.contents(of: certificateChainFile, "read the certificate")
        guard let certificates = try? NIOSSLCertificate.fromPEMBytes(chain), !certificates.isEmpty else {
            throw IOError(
                "read the certificate", certificateChainFile,
                .invalid("there is none in it: PEM begins with -----BEGIN CERTIFICATE-----"))
        }
        let text = try Self.contents(of: privateKeyFile, "read the key")
        guard let key = try? NIOSSLPrivateKey(bytes: text, format: .pem) else {
            throw IOError(
                "read the key", privateKeyFile,
                .invalid("there is none in it that needs no passphrase: PEM begins with -----BEGIN PRIVATE KEY-----"))
        }
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: certificates.map { .certificate($0) }, privateKey: .privateKey(key))
        configuration.minimumTLSVersion = .tlsv12
        do {
            try self.init(configuration)
        } catch {
            throw IOError(
                "use the key", privateKeyFile,
                .invalid("it is not that of the first certificate in \(certificateChainFile): \(error)"))
        }
    }

    /// Of a configuration of NIOSSL. Without `applicationProtocols` both HTTP/2 and HTTP/1.1 are offered.
    public init(_ configuration: TLSConfiguration) throws {
        var configuration = configuration
        if configuration.applicationProtocols.isEmpty { configuration.applicationProtocols = ["h2", "http/1.1"] }
        context = try NIOSSLContext(configuration: configuration)
    }

    /// Nobody's certificates are larger.
    private static let limit = 1 << 20

    private static func contents(of path: String, _ operation: String) throws(IOError) -> [UInt8] {
        do {
            let file = try FileDescriptor.open(FilePath(path), .readOnly)
            return try file.closeAfter {
                var bytes: [UInt8] = []
                var piece = [UInt8](repeating: 0, count: 64 * 1024)
                while bytes.count <= limit {
                    let count = unsafe try piece.withUnsafeMutableBytes { unsafe try file.read(into: $0) }
                    if count == 0 { return bytes }
                    bytes += piece.prefix(count)
                }
                throw IOError(operation, path, .limitExceeded(limit))
            }
        } catch let error as Errno {
            throw IOError(operation, path, .system(error))
        } catch let error as IOError {
            throw error
        } catch {
            throw IOError(operation, path, .invalid("\(error)"))
        }
    }
}
