// An HTTP client: libcurl, driven by the loop. It starts no thread.

import CCurl
public import HTTPTypes
public import Rondo

/// A client for HTTP/1.1 and HTTP/2, with TLS, connections that are used again, redirects, proxies and decompression.
///
/// ```
/// let client = HTTPClient()
/// let response = try await client.get("https://example.com/")
/// for try await chunk in response.body { … }
/// await client.close()
/// ```
///
/// It belongs to the loop of the task that makes it; tasks of other loops and threads may use it too, by way of that
/// one. A task that is cancelled takes its request along, at once.
public final class HTTPClient: Sendable {
    /// What a client has done so far.
    public struct Statistics: Sendable {
        /// Requests handed to libcurl; each redirect is one more.
        public internal(set) var requests = 0
        /// Connections that were made for them.
        public internal(set) var connections = 0
        /// Requests under way now.
        public internal(set) var running = 0
    }

    private let core: ClientCore

    /// How it behaves.
    public var configuration: HTTPClientConfiguration { core.configuration }

    /// A client of the calling task's loop.
    public convenience init(configuration: HTTPClientConfiguration = HTTPClientConfiguration()) {
        guard let loop = EventLoop.current else {
            fatalError("HTTPClient() was called outside of an event loop: name one with HTTPClient(loop:)")
        }
        self.init(configuration: configuration, loop: loop)
    }

    /// A client of this loop.
    public init(configuration: HTTPClientConfiguration = HTTPClientConfiguration(), loop: EventLoop) {
        LibcurlStart.once
        core = ClientCore(configuration, loop: loop)
    }

    deinit {
        if core.hasGone.load(ordering: .relaxed) { return }
        let core = core
        Task { await core.shutDown() }
    }

    /// GET.
    ///
    /// - Throws: `HTTPClientError` until the head of an answer is there; a status of 404 or 500 is an answer.
    public func get(_ url: String, _ fields: HTTPFields = [:]) async throws(HTTPClientError) -> HTTPClientResponse {
        try await core.execute(.get, url, fields, .none)
    }

    /// Sends a request, and answers when the head of its answer has come; after redirects the last one's.
    ///
    /// - Throws: `HTTPClientError`.
    public func execute(
        _ method: HTTPRequest.Method, _ url: String, _ fields: HTTPFields = [:], body: HTTPClientRequestBody = .none
    ) async throws(HTTPClientError) -> HTTPClientResponse {
        try await core.execute(method, url, fields, body)
    }

    /// The same for a request whose scheme, authority and path are set.
    public func execute(
        _ request: HTTPRequest, body: HTTPClientRequestBody = .none
    ) async throws(HTTPClientError) -> HTTPClientResponse {
        guard let authority = request.authority else {
            throw HTTPClientError(request.method.rawValue, request.path ?? "", .invalidRequest("it has no authority"))
        }
        let url = "\(request.scheme ?? "https")://\(authority)\(request.path ?? "/")"
        return try await core.execute(request.method, url, request.headerFields, body)
    }

    /// What it has done so far.
    public var statistics: Statistics { get async { await core.currentStatistics } }

    /// Refuses new requests, waits until those under way have been answered and their bodies read, and closes the
    /// connections. If the task is cancelled meanwhile, what is still under way ends at once, with an error.
    public func close() async { await core.close() }
}

/// libcurl's own start, once in a process.
enum LibcurlStart {
    static let once: Void = {
        // A lazy global runs once; libcurl's start is safe beside other threads since 7.84.
        let code = curl_global_init(Int(CURL_GLOBAL_DEFAULT))
        guard code == CURLE_OK else { fatalError("libcurl does not start: error \(code.rawValue)") }
    }()
}
