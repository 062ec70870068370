// What can be said of a server before it listens. Everything that a client could make large has a limit.

public import HTTPTypes

/// How a server treats its clients.
public struct HTTPServerConfiguration: Sendable {
    public var limits = HTTPLimits()
    public var timeouts = HTTPTimeouts()
    /// The server's certificate and key; nil for connections without TLS, which speak HTTP/1.
    public var tls: HTTPServerTLS?
    /// Whether a client without TLS may speak HTTP/2 from its first byte on (`curl --http2-prior-knowledge`). There is
    /// no changing to it later (`Upgrade: h2c`).
    public var http2WithoutTLS = false
    /// What is told of each request after it was answered; nil for nobody. Called on the loop of the connection: it
    /// must not take long.
    public var accessLog: (@Sendable (HTTPAccess) -> Void)?
    /// What the `Server` field says; nil for no such field.
    public var serverName: String?

    public init() {}
}

/// A request that was answered.
public struct HTTPAccess: Sendable {
    public var method: String
    public var target: String
    public var status: HTTPResponse.Status
    /// Of the answer, without its head.
    public var bodyBytes: Int
    /// From the request's head to the end of the answer.
    public var duration: Duration
    /// `HTTP/1.1`, `HTTP/2`…
    public var version: String
    /// The client's address.
    public var peer: String
}
