import Glibc
public import Rondo

/// What went wrong with a request, whose, why, and what to do about it:
///
/// ```
/// GET http://127.0.0.1:1/: Connection refused (is the server running?)
/// ```
public struct HTTPClientError: Error, Sendable, CustomStringConvertible {
    /// Parts of a request that have a time limit: see ``HTTPClientConfiguration/Timeouts``.
    public enum Phase: String, Sendable {
        case connect = "making the connection"
        case firstByte = "waiting for the answer"
        case idle = "waiting for more of the answer"
        case whole = "the whole request"
    }

    /// Why a request failed.
    public enum Cause: Sendable {
        /// The task was cancelled. The transfer has ended.
        case cancelled
        /// The client was closed before, or meanwhile: a mistake of the caller.
        case closed
        /// The caller's request makes no sense, in these words.
        case invalidRequest(String)
        /// The host's name has no address.
        case unresolved(IOError)
        /// No connection could be made.
        case connect(String, errno: Int32)
        /// The proxy refused.
        case proxy(String)
        /// The handshake of TLS failed, or a certificate is not to be trusted.
        case tls(String)
        /// A part of the request took longer than it may.
        case timedOut(Phase, Duration)
        /// The connection broke, or the server closed it early.
        case connectionLost(String)
        /// The server sent what HTTP does not allow.
        case malformedResponse(String)
        /// More header bytes or fields than ``HTTPClientConfiguration/Limits`` allow.
        case headerLimit(String)
        /// A body of more bytes than this.
        case bodyLimit(Int)
        /// More redirects than this.
        case tooManyRedirects(Int)
        /// A redirect that is not followed, and why.
        case redirectRefused(String)
        /// The request's own body failed.
        case requestBody(any Error)
        /// A file that a body was to be saved in.
        case file(any Error)
        /// libcurl failed for another reason.
        case other(String)
    }

    /// The method: `GET`.
    public let operation: String
    /// The URL, without a password.
    public let url: String
    /// Why it failed.
    public let cause: Cause

    init(_ operation: String, _ url: String, _ cause: Cause) {
        self.operation = operation
        self.url = RequestURL.withoutPassword(url)
        self.cause = cause
    }

    /// Whether the same request may well succeed a little later: the connection was refused or broke, a name was not
    /// found, time was up.
    public var isTransient: Bool {
        switch cause {
        case .connect, .connectionLost, .unresolved, .timedOut: true
        case .proxy, .other: true
        default: false
        }
    }

    /// Whether the task's cancellation ended the request.
    public var isCancellation: Bool {
        if case .cancelled = cause { return true }
        return false
    }

    public var description: String {
        let hint = hint.map { " (\($0))" } ?? ""
        return "\(operation) \(url): \(reason)\(hint)"
    }

    /// Why it failed, in words.
    public var reason: String {
        switch cause {
        case .cancelled: "the task was cancelled"
        case .closed: "the client is closed"
        case .invalidRequest(let words): words
        case .unresolved(let error): "no address for \(error)"
        case .connect(let words, _): words
        case .proxy(let words): "the proxy: \(words)"
        case .tls(let words): "TLS: \(words)"
        case .timedOut(let phase, let limit): "\(phase.rawValue) took longer than \(limit)"
        case .connectionLost(let words): words
        case .malformedResponse(let words): "the server's answer is not HTTP: \(words)"
        case .headerLimit(let words): words
        case .bodyLimit(let limit): "the body has more than the limit of \(limit) bytes"
        case .tooManyRedirects(let limit): "more than \(limit) redirects"
        case .redirectRefused(let words): words
        case .requestBody(let error): "the request's body: \(error)"
        case .file(let error): "\(error)"
        case .other(let words): words
        }
    }

    /// What to do about it, where there is one thing that usually helps.
    public var hint: String? {
        switch cause {
        case .connect(_, let errno) where errno == ECONNREFUSED: "is the server running?"
        case .closed: "do not use it after close()"
        case .tls: "see HTTPClientConfiguration.tls for certificates of your own"
        case .bodyLimit: "raise limits.bodyBytes, or read it as a stream"
        case .headerLimit: "raise limits.headerBytes or limits.headerFields"
        case .tooManyRedirects: "it may be a circle; else raise limits.redirects"
        case .timedOut(let phase, _): "timeouts.\(phase) sets the limit"
        case .proxy: "check http_proxy, https_proxy and no_proxy"
        default: nil
        }
    }
}
