import Rondo
import Synchronization
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

/// Wakes a hundred times a second, and so knows how long the loop had no time for anybody.
final class Pulse: Sendable {
    private let longest = Atomic(0)
    private let task = Mutex<Task<Void, Never>?>(nil)

    /// Begins, on the current loop.
    init() {
        task.withLock {
            $0 = Task(executorPreference: EventLoop.current!.executor) { [weak self] in
                var last = ContinuousClock.now
                while (try? await Task.sleep(for: .milliseconds(10))) != nil {
                    let pause = last.duration(to: .now)
                    self?.longest.max(Int(pause / .microseconds(1)), ordering: .relaxed)
                    last = .now
                }
            }
        }
    }

    deinit { task.withLock { $0?.cancel() } }

    /// The longest time from one wake to the next.
    var longestPause: Duration { .microseconds(longest.load(ordering: .relaxed)) }
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
