// Against servers that others wrote: nginx and Python's http.server, from Debian's packages.

import HTTPOrigins
import HTTPTypes
import Rondo
import SystemPackage
import Testing

@testable import RondoHTTPClient

@Suite struct RealOriginTests {
    /// A folder, nginx on it, and a client of a certain configuration.
    private func withNginx(
        isSecure: Bool = false, locations: String = "",
        _ change: @escaping @Sendable (inout HTTPClientConfiguration) -> Void = { _ in },
        _ body: sending @escaping (NginxOrigin, HTTPClient, FilePath) async throws -> Void
    ) async throws {
        try await withEventLoop { _ in
            try await TemporaryDirectory.with { folder in
                let origin = try await NginxOrigin(in: folder, isSecure: isSecure, locations: locations)
                let client = HTTPClient(
                    configuration: testConfiguration {
                        $0.tls.trustedCertificates = isSecure ? origin.certificate : nil
                        change(&$0)
                    })
                do {
                    try await body(origin, client, folder.appending("files"))
                } catch {
                    await client.close()
                    await origin.stop()
                    throw error
                }
                await client.close()
                await origin.stop()
            }
        }
    }

    @Test(.enabled(if: Installed.nginx != nil, "nginx is not installed"))
    func aThousandRequestsSixtyFourAtOnce() async throws {
        try await withNginx { origin, client, files in
            for number in 0..<50 {
                try await File.write(
                    [UInt8](repeating: UInt8(number), count: number * 997), to: files.appending("\(number)"))
            }
            let gate = AsyncSemaphore(permits: 64)
            try await withThrowingTaskGroup(of: Void.self) { group in
                for number in 0..<1000 {
                    let url = origin.url("\(number % 50)")
                    group.addTask {
                        try await gate.withPermit {
                            let body = try await client.get(url).body.collect(limit: 1 << 20)
                            let isRight = body == [UInt8](repeating: UInt8(number % 50), count: number % 50 * 997)
                            #expect(isRight, "\(url)")
                        }
                    }
                }
                try await group.waitForAll()
            }
            let statistics = await client.statistics
            #expect(statistics.requests == 1000)
            #expect((1...64).contains(statistics.connections))
        }
    }

    @Test(
        .enabled(if: Installed.nginx != nil && Installed.openssl != nil, "nginx or openssl is not installed"),
        arguments: [HTTPClientConfiguration.Version.automatic, .http1])
    func tlsWithHTTP2AndWithout(_ version: HTTPClientConfiguration.Version) async throws {
        try await withNginx(isSecure: true, { $0.version = version }) { origin, client, files in
            try await File.write([UInt8](repeating: 3, count: 2_000_000), to: files.appending("file"))
            try await withThrowingTaskGroup(of: String.self) { group in
                for _ in 0..<20 {
                    let url = origin.secureURL("file")
                    group.addTask {
                        let response = try await client.get(url)
                        #expect(try await response.body.collect(limit: 1 << 22).count == 2_000_000)
                        return response.version
                    }
                }
                for try await spoken in group { #expect(spoken == (version == .http1 ? "1.1" : "2")) }
            }
            let connections = await client.statistics.connections
            #expect(version == .http1 ? connections <= 20 : connections <= 2)
            // Nobody vouches for it but its own file.
            let stranger = HTTPClient(configuration: testConfiguration())
            let error = await failure { try await stranger.get(origin.secureURL("file")) }
            guard case .tls = error?.cause else { _ = Issue.record("\(error as Any)"); return }
            await stranger.close()
        }
    }

    @Test(.enabled(if: Installed.nginx != nil, "nginx is not installed"))
    func packedBodiesAreUnpackedAndSaved() async throws {
        try await withNginx(locations: "gzip on; gzip_min_length 10;") { origin, client, files in
            let text = String(repeating: "a line of text\n", count: 100_000)
            try await File.write(Array(text.utf8), to: files.appending("text"))
            let response = try await client.get(origin.url("text"))
            #expect(response.contentLength == nil)
            #expect(try await response.body.text(limit: 1 << 24) == text)
            let copy = files.appending("copy")
            #expect(try await client.get(origin.url("text")).body.save(to: copy) == Int64(text.utf8.count))
            #expect(try await File.contents(of: copy) == Array(text.utf8))
            // Who asks for an encoding gets what the server sends.
            let packed = try await client.get(origin.url("text"), [.acceptEncoding: "gzip"])
            #expect(packed.fields[.contentEncoding] == "gzip")
            #expect(try await packed.body.collect(limit: 1 << 20).prefix(2) == [0x1f, 0x8b])
        }
    }

    @Test(.enabled(if: Installed.nginx != nil, "nginx is not installed"))
    func aServerThatIsGoneIsAnErrorAndThenIsBack() async throws {
        try await withNginx { origin, client, files in
            try await File.write([1, 2, 3], to: files.appending("file"))
            #expect(try await client.get(origin.url("file")).body.collect(limit: 9) == [1, 2, 3])
            await origin.stop()
            let error = await failure { try await client.get(origin.url("file")) }
            #expect(error?.isTransient == true)
            try await origin.start()
            #expect(try await client.get(origin.url("file")).body.collect(limit: 9) == [1, 2, 3])
        }
    }

    @Test(.enabled(if: Installed.python != nil, "python3 is not installed"))
    func pythonServesToo() async throws {
        try await withEventLoop { _ in
            try await TemporaryDirectory.with { folder in
                try await File.write(Array("hello".utf8), to: folder.appending("a file"))
                let origin = try await PythonOrigin(serving: folder)
                let client = HTTPClient(configuration: testConfiguration())
                let response = try await client.get(origin.url("a%20file"))
                #expect(response.version == "1.0")
                #expect(try await response.body.text(limit: 10) == "hello")
                #expect(try await client.get(origin.url("none")).status.code == 404)
                await client.close()
                await origin.stop()
            }
        }
    }
}
