public import Rondo
import Synchronization

/// A server that answers what a test wants, byte for byte: where real ones behave too well.
public final class ScriptedOrigin: Sendable {
    /// A request, as it came.
    public struct Request: Sendable {
        /// Its first line.
        public var line: String
        /// Its header lines.
        public var headers: [String]
        /// How many connections came before this one.
        public var connection: Int

        /// A header's value.
        public func header(_ name: String) -> String? {
            let start = name.lowercased() + ":"
            guard let line = headers.first(where: { $0.lowercased().hasPrefix(start) }) else { return nil }
            return String(line.dropFirst(start.count).drop { $0 == " " })
        }

        /// The path.
        public var path: String { String(line.split(separator: " ").dropFirst().first ?? "") }
    }

    /// Answers one request; what of the connection is left is read for the next one.
    public typealias Answer = @Sendable (Request, BufferedReader, TCPStream) async throws -> Void

    private let listener: TCPListener
    private let serving: Task<Void, Never>

    /// Starts it on the calling loop.
    public init(_ answer: @escaping Answer) async throws {
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        self.listener = listener
        let count = Counter()
        serving = Task(executorPreference: listener.loop.executor) {
            try? await listener.serve { stream in
                let number = count.next()
                let reader = BufferedReader(stream)
                while let line = try await reader.readLine() {
                    var headers: [String] = []
                    while let header = try await reader.readLine(), !header.isEmpty { headers.append(header) }
                    try await answer(Request(line: line, headers: headers, connection: number), reader, stream)
                }
            }
        }
    }

    /// Where it listens.
    public var port: Int { listener.localAddress.port }

    /// A URL of it.
    public func url(_ path: String = "") -> String { "http://127.0.0.1:\(port)/\(path)" }

    /// Ends it, connections and all.
    public func stop() async {
        serving.cancel()
        await listener.close()
        await serving.value
    }

    private final class Counter: Sendable {
        private let value = Atomic(0)
        func next() -> Int { value.add(1, ordering: .relaxed).oldValue }
    }
}

extension TCPStream {
    /// An answer with a body, all at once.
    public func answer(_ status: String = "200 OK", _ headers: [String] = [], body: [UInt8] = []) async throws {
        let lines = ["HTTP/1.1 \(status)", "Content-Length: \(body.count)"] + headers
        try await write(Array((lines.joined(separator: "\r\n") + "\r\n\r\n").utf8) + body)
    }
}
