import Rondo

/// One connection after the other to the server, and one request after the other on each.
@MainActor
final class LoadConnection {
    /// How long it waits after a failure: a server that refuses is not asked a million times a second.
    private static let pause: Duration = .milliseconds(20)

    private unowned let run: LoadRun
    private let address: SocketAddress
    private var scanner: ResponseScanner
    /// Since when it waits for an answer; from when the request was due.
    private(set) var waitsSince: ContinuousClock.Instant?

    init(_ run: LoadRun, _ address: SocketAddress) {
        self.run = run
        self.address = address
        scanner = ResponseScanner(hasBody: !run.target.isHead)
    }

    /// Asks until the task is cancelled.
    func keepAsking() async {
        while !Task.isCancelled {
            do {
                let stream = try await TCPStream.connect(to: address)
                do {
                    if let tls = run.tls {
                        try await tls.with(stream) { try await self.ask(on: $0) }
                    } else {
                        try await ask(on: stream)
                    }
                } catch {
                    await stream.abort()
                    throw error
                }
                await stream.close()
            } catch {
                waitsSince = nil
                if Task.isCancelled { return }
                run.result.failures[Self.words(error), default: 0] += 1
                try? await Task.sleep(for: Self.pause)
            }
        }
    }

    /// One request after the other, as long as the server keeps the connection.
    private func ask(on stream: some ByteSource & ByteSink) async throws {
        scanner = ResponseScanner(hasBody: !run.target.isHead)
        while true {
            let due = try await run.nextRequest()
            waitsSince = due
            try await stream.write(run.target.request)
            let answer = try await readAnswer(on: stream)
            waitsSince = nil
            if Task.isCancelled { return }
            run.result.note(status: answer.status, after: due.duration(to: .now))
            if !answer.keepsConnection { return }
        }
    }

    private func readAnswer(on stream: some ByteSource) async throws -> (status: Int, keepsConnection: Bool) {
        while let chunk = try await stream.read(upTo: .max) {
            run.result.received += chunk.count
            // SAFETY: the scanner reads within the call.
            let progress = unsafe chunk.bytes.withUnsafeBytes { unsafe scanner.take($0) }
            switch progress {
            case .incomplete: continue
            case .malformed: throw CommandFailure("the answer is not HTTP/1.1")
            case .complete(let status, let keepsConnection): return (status, keepsConnection)
            }
        }
        guard let status = scanner.statusAtEnd else { throw CommandFailure("the server closed the connection early") }
        return (status, false)
    }

    /// An error in few words, to count it by.
    private static func words(_ error: any Error) -> String {
        guard let error = error as? IOError else { return "\(error)" }
        if case .system(let number) = error.cause { return "\(error.operation): \(number)" }
        return "\(error.operation): \(error.cause)"
    }
}
