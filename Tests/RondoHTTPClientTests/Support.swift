import Rondo
import Testing

@testable import RondoHTTPClient

/// A loop with a client, which is closed at the end; no descriptor is left over where the test run counts them.
func withClient(
    _ configuration: HTTPClientConfiguration = testConfiguration(),
    _ body: sending @escaping (HTTPClient) async throws -> Void
) async throws {
    if countsDescriptors { try await warmUp.value }
    let before = countsDescriptors ? await leastDescriptors(among: 200) : 0
    try await withEventLoop { _ in
        let client = HTTPClient(configuration: configuration)
        do { try await body(client) } catch {
            await client.close()
            throw error
        }
        await client.close()
    }
    if countsDescriptors { #expect(await leastDescriptors(among: 20_000, until: before) <= before) }
}

/// How many descriptors are open: the least of many looks, as the thread of a loop that has ended may hold it a moment
/// longer, and its last descriptor with it.
private func leastDescriptors(among looks: Int, until enough: Int = 0) async -> Int {
    var least = Int.max
    for _ in 0..<looks where least > enough {
        least = min(least, openDescriptors())
        await Task.yield()
    }
    return least
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
