// How much, and how long: everything that a client could make large, or last.

/// The most of everything that a client may ask for.
public struct HTTPLimits: Sendable {
    /// Connections at a time; a client that comes when there are so many gets 503.
    public var connections = 100_000
    /// Bytes of a request's head, its first line included; more is 431.
    public var headBytes = 16 * 1024
    /// Header fields of a request; more is 431.
    public var headerFields = 100
    /// Bytes of a request's target; more is 414.
    public var targetBytes = 8 * 1024
    /// Bytes of a request's body; more is 413. A handler may lower it for its own request
    /// (``RequestBody/collect(upTo:)``).
    public var bodyBytes = 1 << 30
    /// Requests on a connection, before the client has to make another one.
    public var requestsPerConnection = Int.max
    /// Streams at a time on a connection of HTTP/2.
    public var concurrentStreams = 100

    public init() {}
}

/// How long a client may take. They are looked at twice a second, so each may last half a second longer.
public struct HTTPTimeouts: Sendable {
    /// For a request's head, from its first byte (of the first one: from the connection) to its last; then 408.
    public var head: Duration = .seconds(10)
    /// Between two requests on a connection; then it is closed.
    public var idle: Duration = .seconds(60)
    /// For the next piece of a body that the handler reads; then 408, if the answer has not begun.
    public var body: Duration = .seconds(30)
    /// For the client to take a piece of the answer; then the connection is broken.
    public var write: Duration = .seconds(30)
    /// For a request from its head to the end of its answer; then the connection is broken. Nil for no limit.
    public var request: Duration?

    public init() {}
}
