// The distant host of the demo: it has every file, and it takes its time.

import Rondo
import SystemPackage

/// Serves the files of a folder over TCP, each answer after a while.
final class Origin: Sendable {
    private let listener: TCPListener
    private let root: FilePath
    private let latency: Duration
    private let threads: ThreadWitness
    /// Answers left before it dies; nil for a healthy one.
    private let life: Countdown?

    var address: SocketAddress { listener.localAddress }

    init(root: FilePath, latency: Duration, breaksAfter: Int?, threads: ThreadWitness) async throws {
        self.root = root
        self.latency = latency
        self.threads = threads
        life = breaksAfter.map { Countdown($0) }
        listener = try await TCPListener.listen(on: .loopback(port: 0))
    }

    /// Serves until the task is cancelled, or until the origin dies: then whoever waits for an answer gets none.
    func run() async {
        let listener = listener
        if life?.isOver == true { return await listener.close() }
        try? await listener.serve { [self] stream in
            do {
                try await answer(stream)
            } catch is CancellationError {
                return  // the demo is over, or the origin dies: the stream ends without an answer
            } catch {
                try await Wire.send(failure: error, to: stream)
            }
        }
        await listener.close()
    }

    private func answer(_ stream: TCPStream) async throws {
        let request = try await Wire.readRequest(from: stream)
        threads.note()
        try await Task.sleep(for: delay(of: request.order))
        let path = FilePath(request.path)
        // Nothing outside of the folder is anybody's business.
        guard let full = root.lexicallyResolving(path) else {
            throw WireError(description: "\(request.path) is outside of the folder")
        }
        try await Wire.send(try await File.contents(of: full), to: stream)
        threads.note()
        if let life, life.countsLast() { await listener.close() }
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
