// An answer as the handler makes it.

public import HTTPTypes
public import Rondo

/// The answer to a request: whole, or piece by piece.
///
/// ```
/// try await response.send("Hello\n")
///
/// response.status = .ok
/// response.headers[.contentType] = "text/event-stream"
/// for await event in events { try await response.write("data: \(event)\n\n") }
/// try await response.finish()
/// ```
///
/// It belongs to the handler's task, until the handler ends. It is a `ByteSink`: `copy(from: file, to: response)`. A
/// handler that ends without an answer has made a mistake; the client gets 500.
public final class ServerResponse: ByteSink {
    // SAFETY: the bytes of a span of UInt8 are those of its numbers.

    /// 200, unless something else is set before the answer begins.
    public var status: HTTPResponse.Status = .ok
    /// The header fields, until the answer begins. What the server says by itself (`Date`, the body's length) need
    /// not be there.
    public var headers = HTTPFields()
    /// Whether anything was sent.
    public private(set) var hasBegun = false
    /// Whether all was sent.
    public private(set) var hasEnded = false

    let exchange: any ResponseExchange

    init(_ exchange: any ResponseExchange) { self.exchange = exchange }

    /// For the next request of a connection.
    func reset() {
        status = .ok
        if !headers.isEmpty { headers = HTTPFields() }
        hasBegun = false
        hasEnded = false
    }

    // MARK: All at once

    /// Sends an answer without a body.
    public func send(_ status: HTTPResponse.Status) async throws(IOError) {
        self.status = status
        try await send([UInt8]())
    }

    /// Sends text; its type is `text/plain; charset=utf-8`, unless another one is set.
    public func send(_ text: String, status: HTTPResponse.Status? = nil) async throws(IOError) {
        if let status { self.status = status }
        try begin()
        hasEnded = true
        let type: StaticString? = headers.isEmpty || headers[.contentType] == nil ? "text/plain; charset=utf-8" : nil
        try await sendWhole(type, unsafe text.utf8.span.bytes)
    }

    /// Sends bytes; their type is what `headers` says.
    public func send(_ bytes: [UInt8], status: HTTPResponse.Status? = nil) async throws(IOError) {
        if let status { self.status = status }
        try begin()
        hasEnded = true
        try await sendWhole(nil, unsafe bytes.span.bytes)
    }

    private func sendWhole(_ type: StaticString?, _ body: RawSpan) async throws(IOError) {
        if exchange.isHome(#isolation) { return try await exchange.send(status, headers, type, body) }
        let copy = [UInt8](copying: body)
        try await exchange.atHome { () async throws(IOError) in
            try await self.exchange.send(self.status, self.headers, type, unsafe copy.span.bytes)
        }
    }

    // MARK: Piece by piece

    /// Sends a piece of the body; it goes out at once. The first one sends the head: if `headers` has a
    /// Content-Length the body must be as long.
    ///
    /// A client that does not take it makes this wait: that is the back-pressure.
    ///
    /// - Throws: `IOError`: the client has gone, or is too slow (``HTTPTimeouts/write``).
    public func write(_ bytes: RawSpan) async throws(IOError) {
        guard exchange.isHome(#isolation) else {
            let copy = [UInt8](copying: bytes)
            return try await exchange.atHome { () async throws(IOError) in try await self.write(copy) }
        }
        try await beginPieces()
        if bytes.byteCount > 0 { try await exchange.write(bytes) }
    }

    /// Sends a piece of the body from a file: without looking at it, where the connection can.
    ///
    /// - Returns: how many bytes, at most `limit`; 0 at the end of the file.
    func write(from source: FileSource, limit: Int) async throws(IOError) -> Int {
        if exchange.isHome(#isolation) {
            try await beginPieces()
            return try await exchange.write(from: source, limit: limit)
        }
        guard let chunk = try await source.read(upTo: limit) else { return 0 }
        try await write(chunk.bytes)
        return chunk.count
    }

    /// Sends the head, before anything of the body is there.
    public func sendHead() async throws(IOError) {
        guard exchange.isHome(#isolation) else {
            return try await exchange.atHome { () async throws(IOError) in try await self.sendHead() }
        }
        try await beginPieces()
        try await exchange.flush()
    }

    private func beginPieces() async throws(IOError) {
        if hasEnded { throw IOError("write to", subject, .closed) }
        if hasBegun { return }
        hasBegun = true
        try await exchange.begin(status, headers)
    }

    /// The body ends here.
    ///
    /// - Parameter trailers: fields behind the body. Clients of HTTP/1.0 do not get them.
    public func finish(trailers: HTTPFields = [:]) async throws(IOError) {
        if hasEnded { return }
        guard exchange.isHome(#isolation) else {
            return try await exchange.atHome { () async throws(IOError) in try await self.finish(trailers: trailers) }
        }
        try await beginPieces()
        hasEnded = true
        try await exchange.end(trailers)
    }

    /// As ``finish(trailers:)``.
    public func finishWriting() async throws(IOError) { try await finish() }

    /// `an HTTP response`
    public var subject: String { "an HTTP response" }

    /// It is answered by other means.
    func markWhole() {
        hasBegun = true
        hasEnded = true
    }

    private func begin() throws(IOError) {
        if hasBegun { throw IOError("send", subject, .invalid("it has begun already")) }
        hasBegun = true
    }
}

/// What sends an answer: a connection of HTTP/1, or a stream of HTTP/2.
protocol ResponseExchange: LoopBound {
    /// Sends all of an answer. `type` is a content type for one that has none.
    func send(
        _ status: HTTPResponse.Status, _ fields: HTTPFields, _ type: StaticString?, _ body: RawSpan
    ) async throws(IOError)
    /// Begins an answer whose body comes in pieces.
    func begin(_ status: HTTPResponse.Status, _ fields: HTTPFields) async throws(IOError)
    func write(_ bytes: RawSpan) async throws(IOError)
    /// Writes at most `limit` bytes of a file; answers how many, 0 at its end.
    func write(from source: FileSource, limit: Int) async throws(IOError) -> Int
    func end(_ trailers: HTTPFields) async throws(IOError)
    /// Sends what has been put together.
    func flush() async throws(IOError)
}

extension ResponseExchange {
    func write(from source: FileSource, limit: Int) async throws(IOError) -> Int {
        try await readAndWrite(source, limit)
    }

    func readAndWrite(_ source: FileSource, _ limit: Int) async throws(IOError) -> Int {
        guard let chunk = try await source.read(upTo: limit) else { return 0 }
        try await write(chunk.bytes)
        return chunk.count
    }
}
