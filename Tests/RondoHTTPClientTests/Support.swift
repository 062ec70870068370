import Rondo
import Testing

@testable import RondoHTTPClient

/// A loop with a client, which is closed at the end; no descriptor is left over where the test run counts them.
func withClient(
    _ configuration: HTTPClientConfiguration = testConfiguration(),
    _ body: sending @escaping (HTTPClient) async throws -> Void
) async throws {
    if countsDescriptors { try await warmUp.value }
    let before = openDescriptors()
    try await withEventLoop { _ in
        let client = HTTPClient(configuration: configuration)
        do { try await body(client) } catch {
            await client.close()
            throw error
        }
        await client.close()
    }
    if countsDescriptors { #expect(openDescriptors() == before) }
}

/// No proxies of whoever runs the tests.
func testConfiguration(_ change: (inout HTTPClientConfiguration) -> Void = { _ in }) -> HTTPClientConfiguration {
    var configuration = HTTPClientConfiguration()
    configuration.proxy = .none
    change(&configuration)
    return configuration
}

/// Descriptors are the whole process's: they can be counted only when tests run one after the other.
let countsDescriptors = ProxyEnvironment.variable("RONDO_COUNT_DESCRIPTORS") != nil

/// What the first client of a process opens, and keeps: OpenSSL's own.
private let warmUp = Task {
    try await withEventLoop { _ in
        let client = HTTPClient(configuration: testConfiguration())
        _ = await failure { try await client.get("https://127.0.0.1:1/") }
        await client.close()
    }
}
