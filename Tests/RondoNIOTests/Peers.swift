// Other programs that the tests need: openssl makes certificates, curl is a client that we did not write.

import Foundation
import NIOSSL
import Rondo

/// A certificate that signs itself, and its key.
struct Identity: Sendable {
    let certificate: NIOSSLCertificate
    let key: NIOSSLPrivateKey

    static func make() throws -> Identity {
        let folder = FileManager.default.temporaryDirectory.appendingPathComponent("rondo-\(UUID())")
        try FileManager.default.createDirectory(at: folder, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }
        let (certificate, key) = (folder.path + "/cert.pem", folder.path + "/key.pem")
        let process = Process()
        process.executableURL = URL(fileURLWithPath: "/usr/bin/openssl")
        process.arguments = [
            "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2",
            "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1", "-keyout", key, "-out",
            certificate,
        ]
        process.standardError = FileHandle.nullDevice
        try process.run()
        process.waitUntilExit()
        return Identity(
            certificate: try NIOSSLCertificate.fromPEMFile(certificate)[0],
            key: try NIOSSLPrivateKey(file: key, format: .pem))
    }

    func serverContext(protocols: [String]) throws -> NIOSSLContext {
        var configuration = TLSConfiguration.makeServerConfiguration(
            certificateChain: [.certificate(certificate)], privateKey: .privateKey(key))
        configuration.applicationProtocols = protocols
        return try NIOSSLContext(configuration: configuration)
    }
}

enum Curl {
    /// What curl prints.
    static func run(_ arguments: String...) async throws -> String {
        try await ChildProcess.run(ChildProcess.Command("curl", arguments)).text
    }
}
