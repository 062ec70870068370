// TLS, HTTP/2, and other programs as clients.

import Foundation
import HTTPTypes
import NIOSSL
import Rondo
import RondoHTTP
import Synchronization
import Testing

@Suite struct SecureTests {
    /// A certificate that signs itself; openssl makes it.
    static let tls = Result {
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
        return try HTTPServerTLS(certificateChainFile: certificate, privateKeyFile: key)
    }

    private func configuration() throws -> HTTPServerConfiguration {
        var configuration = HTTPServerConfiguration()
        configuration.tls = try Self.tls.get()
        return configuration
    }

    private func curl(_ arguments: String...) async throws -> String {
        try await ChildProcess.run(ChildProcess.Command("curl", ["-sk"] + arguments)).text
    }

    @Test(arguments: ["--http1.1", "--http2"]) func curlAsks(_ version: String) throws {
        let number = version == "--http2" ? "2" : "1.1"
        try serving(try configuration(), describe) { address in
            let url = "https://127.0.0.1:\(address.port)/a?b"
            let answer = try await curl(version, "-w", " %{http_version} %{http_code}", "-d", "body", url)
            #expect(answer == "POST /a?b body \(number) 200")
            // Two on a connection.
            let two = try await curl(version, url, url)
            #expect(two == "GET /a?b GET /a?b ")
            let head = try await curl(version, "-I", url)
            #expect(head.lowercased().contains("content-length: 10\r\n"))
        }
    }

    @Test(arguments: ["--http1.1", "--http2"]) func largeBodiesGoBothWays(_ version: String) throws {
        let path = FileManager.default.temporaryDirectory.path + "/rondo-http-\(UInt64.random(in: 0 ... .max))"
        let bytes = (0..<3_000_000).map { UInt8(truncatingIfNeeded: $0 &* 31 >> 3) }
        #expect(FileManager.default.createFile(atPath: path, contents: Data(bytes)))
        defer { try? FileManager.default.removeItem(atPath: path) }
        try serving(try configuration()) { request, response in
            try await copy(from: request.body, to: response)
        } _: { address in
            let output = try await ChildProcess.run(
                ChildProcess.Command(
                    "curl",
                    ["-sk", version, "--data-binary", "@" + path, "https://127.0.0.1:\(address.port)/"]))
            #expect(output.output == bytes)
        }
    }

    @Test func manyStreamsAtOnce() throws {
        try serving(try configuration()) { request, response in
            try await Task.sleep(for: .milliseconds(20))
            try await response.send(String(request.path.dropFirst()) + "\n")
        } _: { address in
            let answer = try await curl(
                "--http2", "--parallel", "--parallel-max", "50", "https://127.0.0.1:\(address.port)/[1-200]")
            #expect(answer.split(separator: "\n").compactMap { Int($0) }.sorted() == Array(1...200))
        }
    }

    @Test func limitsHoldForHTTP2() throws {
        var configuration = try configuration()
        configuration.limits.bodyBytes = 1000
        try serving(configuration) { request, response in
            try await response.send(try await request.body.collect(upTo: .max))
        } _: { address in
            let url = "https://127.0.0.1:\(address.port)/"
            let code = ["-o", "/dev/null", "-w", "%{http_code}"]
            let large = try await ChildProcess.run(
                ChildProcess.Command(
                    "curl", ["-sk", "--http2", "-d", String(repeating: "x", count: 1001)] + code + [url]))
            #expect(large.text == "413")
            let fields = (0..<101).flatMap { ["-H", "X-\($0): y"] }
            let many = try await ChildProcess.run(
                ChildProcess.Command("curl", ["-sk", "--http2"] + fields + code + [url]))
            #expect(many.text == "431")
        }
    }

    @Test func plainTextIsNoHandshake() throws {
        try serving(try configuration(), describe) { address in
            let stream = try await TCPStream.connect(to: address)
            try await stream.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            // An alert, or nothing; in any case the end.
            while let chunk = try? await stream.read() { #expect(chunk.count < 100) }
            await stream.close()
        }
    }

    @Test func aSlowHandshakeIsCutOff() throws {
        var configuration = try configuration()
        configuration.timeouts.head = .milliseconds(300)
        try serving(configuration, describe) { address in
            let stream = try await TCPStream.connect(to: address)
            await #expect(throws: IOError.self) { while try await stream.read() != nil {} }
            await stream.close()
        }
    }
}
