// The distant host of the demo: it has every file, and it takes its time.

import Rondo
import RondoHTTP
import SystemPackage

/// Serves the files of a folder over HTTP, each answer after a while.
final class Origin: Sendable {
    private let server: HTTPServer
    private let root: FilePath
    private let latency: Duration
    private let threads: ThreadWitness
    /// Answers left before it dies; nil for a healthy one.
    private let life: Countdown?
    private let death = AsyncEvent()

    var address: SocketAddress { server.localAddress }

    init(root: FilePath, latency: Duration, breaksAfter: Int?, threads: ThreadWitness) async throws {
        self.root = root
        self.latency = latency
        self.threads = threads
        life = breaksAfter.map { Countdown($0) }
        server = try await HTTPServer.listen(on: .loopback(port: 0))
    }

    /// Serves until the task is cancelled, or until the origin dies: then whoever waits for an answer gets none.
    func run() async {
        if life?.isOver != true {
            await withTaskGroup { group in
                group.addTask { [self] in
                    try? await server.serve { request, response in
                        do {
                            try await self.answer(request, response)
                        } catch let error as CancellationError {
                            throw error  // the demo is over, or the origin dies: nobody gets an answer
                        } catch {
                            try await Wire.send(failure: error, to: response)
                        }
                    }
                }
                group.addTask { [death] in try? await death.wait() }
                await group.next()
                group.cancelAll()
            }
        }
        await server.close()
    }

    private func answer(_ request: ServerRequest, _ response: ServerResponse) async throws {
        let request = try Wire.read(request)
        threads.note()
        try await Task.sleep(for: delay(of: request.order))
        // Nothing outside of the folder is anybody's business.
        guard let full = root.lexicallyResolving(FilePath(request.path)) else {
            throw WireError(description: "\(request.path) is outside of the folder")
        }
        try await response.send(try await File.contents(of: full))
        threads.note()
        if let life, life.countsLast() { death.set() }
    }

    /// The latency, give or take a quarter: by the order's number, so that it is the same in each run.
    private func delay(of order: Int) -> Duration {
        // SplitMix64, the usual way from neighbouring numbers to unrelated ones.
        var bits = UInt64(truncatingIfNeeded: order) &* 0x9E37_79B9_7F4A_7C15
        bits = (bits ^ (bits >> 30)) &* 0xBF58_476D_1CE4_E5B9
        bits = (bits ^ (bits >> 27)) &* 0x94D0_49BB_1331_11EB
        bits ^= bits >> 31
        let fraction = Double(bits >> 11) / Double(1 << 53)
        return latency * (0.75 + fraction / 2)
    }
}
