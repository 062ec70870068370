public import SystemPackage

/// How a client behaves: limits, time-outs, pools, TLS, proxies.
public struct HTTPClientConfiguration: Sendable {
    /// How long parts of a request may take; nil for as long as it takes.
    public struct Timeouts: Sendable {
        /// To make a connection, handshakes of TLS and proxies included.
        public var connect: Duration = .seconds(10)
        /// From there to the first byte of the answer, and while a request body is sent: without any byte of it.
        public var firstByte: Duration? = .seconds(60)
        /// Between two pieces of the answer. A program that does not read is not counted.
        public var idle: Duration? = .seconds(60)
        /// The whole request: waiting for a permit, names, redirects, and the body to its end.
        public var whole: Duration?

        /// The defaults.
        public init() {}
    }

    /// What is too much, of an answer.
    public struct Limits: Sendable {
        /// The most bytes of a body, after decompression.
        public var bodyBytes: Int = .max
        /// The most bytes of all header fields and trailers together.
        public var headerBytes: Int = 64 * 1024
        /// The most header fields and trailers.
        public var headerFields: Int = 256
        /// The most redirects of one request; 0 hands redirects to the caller as they are.
        public var redirects: Int = 10

        /// The defaults.
        public init() {}
    }

    /// How connections and what runs over them are shared out.
    public struct Pool: Sendable {
        /// The most requests under way at once; others wait for their turn, first come, first served.
        public var requests: Int = 256
        /// The most requests under way at once to one host and port.
        public var requestsPerHost: Int = 64
        /// The most connections that are kept open for later requests.
        public var idleConnections: Int = 64
        /// How long a connection without work may be used again.
        public var idleTime: Duration = .seconds(60)

        /// The defaults.
        public init() {}
    }

    /// Whom to trust.
    public struct TLS: Sendable {
        /// Whether certificates are verified, and their names. Without it nobody knows who answers.
        public var verifiesPeer = true
        /// The file of certificates to trust (PEM) instead of the system's.
        public var trustedCertificates: FilePath?
        /// This client's own certificate and its key (PEM).
        public var certificate: FilePath?
        /// The key of ``certificate``, where it is not in the same file.
        public var privateKey: FilePath?

        /// The defaults.
        public init() {}
    }

    /// Which version of HTTP is spoken.
    public enum Version: Hashable, Sendable {
        /// HTTP/2 over TLS where the server knows it, else HTTP/1.1.
        case automatic
        /// HTTP/1.1.
        case http1
        /// HTTP/2 from the first byte, without TLS too.
        case http2
    }

    /// Through whom requests go.
    public enum Proxy: Hashable, Sendable {
        /// What `http_proxy`, `HTTPS_PROXY`, `ALL_PROXY` and `NO_PROXY` say, read when the client is made.
        case fromEnvironment
        /// Directly.
        case none
        /// Always through this one: `http://user:password@proxy.example:3128`, `socks5h://…`.
        case url(String)
    }

    /// Time-outs.
    public var timeouts = Timeouts()
    /// Limits.
    public var limits = Limits()
    /// Pools.
    public var pool = Pool()
    /// TLS.
    public var tls = TLS()
    /// The version of HTTP.
    public var version = Version.automatic
    /// The proxy.
    public var proxy = Proxy.fromEnvironment
    /// Whether compressed bodies are asked for (gzip, deflate) and unpacked. `Content-Encoding` and `Content-Length`
    /// are taken out of an answer that was.
    public var decompresses = true
    /// The `User-Agent` of requests that have none; nil for no such field.
    public var userAgent: String? = "rondo"
    /// How many bytes of a body wait for the program before the sender is told to pause.
    public var bodyBuffer: Int = 128 * 1024

    /// The defaults.
    public init() {}
}
