// Where Prometheus asks: as much of HTTP/1.1 as a scrape needs, and nothing that could be misread.

public import Rondo

extension LoopMetrics {
    /// The most bytes of a request that are read.
    private static let requestLimit = 8192
    /// How long a client may take for its request, and for taking the answer.
    private static let patience: Duration = .seconds(10)

    /// Answers `GET /metrics` over HTTP with the figures of `loops`, until the task is cancelled.
    ///
    /// One answer for each connection. It knows nothing of TLS or of passwords: listen at a loopback address, or where
    /// only your monitoring comes.
    ///
    /// - Throws: `IOError` if it can't listen there.
    public static func serve(
        on address: SocketAddress, of loops: [EventLoop] = LoopMetrics.loops
    ) async throws {
        try await serve(try await TCPListener.listen(on: address), of: loops)
    }

    /// The same, on a listener that is there already: to know its port, say.
    public static func serve(_ listener: TCPListener, of loops: [EventLoop] = LoopMetrics.loops) async throws {
        try await listener.serve { stream in
            try await withTimeout(patience) {
                guard let answer = try await answer(to: stream, of: loops) else { return }
                try await stream.write(answer)
                try await stream.finishWriting()
                // A client that still sends would be told of a reset instead of the answer.
                _ = try? await stream.readToEnd(limit: requestLimit)
            }
        }
    }

    private static func answer(to stream: TCPStream, of loops: [EventLoop]) async throws -> String? {
        let reader = BufferedReader(stream)
        guard let line = try await reader.readLine(limit: requestLimit) else { return nil }
        var read = line.utf8.count
        while let header = try await reader.readLine(limit: requestLimit), header != "", header != "\r" {
            read += header.utf8.count
            if read > requestLimit { return response("431 Request Header Fields Too Large", "too long\n") }
        }
        let words = line.split(whereSeparator: \.isWhitespace)
        guard words.count == 3, words[2].hasPrefix("HTTP/1.") else { return response("400 Bad Request", "what?\n") }
        let path = words[1].prefix { $0 != "?" }
        guard words[0] == "GET" || words[0] == "HEAD" else {
            return response("405 Method Not Allowed", "GET /metrics\n", "Allow: GET, HEAD\r\n")
        }
        guard path == "/metrics" else { return response("404 Not Found", "the figures are at /metrics\n") }
        return response("200 OK", await prometheusText(of: loops), isHead: words[0] == "HEAD")
    }

    private static func response(
        _ status: String, _ body: String, _ headers: String = "", isHead: Bool = false
    ) -> String {
        "HTTP/1.1 \(status)\r\nContent-Type: text/plain; version=0.0.4; charset=utf-8\r\n"
            + "Content-Length: \(body.utf8.count)\r\nConnection: close\r\n\(headers)\r\n" + (isHead ? "" : body)
    }
}
