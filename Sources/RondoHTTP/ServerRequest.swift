// A request as its handler sees it.

public import HTTPTypes
public import Rondo

/// A request: its head, and a body that may still be on its way. It belongs to the handler's task, until the handler
/// ends.
public final class ServerRequest {
    /// The body. Of a request without one it is empty.
    public internal(set) var body: RequestBody

    /// The head, as the field of swift-http-types has it. It is taken apart when it is asked for.
    public var head: HTTPRequest {
        if let made { return made }
        let head = raw.makeHead()
        made = head
        return head
    }

    /// GET, POST…
    public var method: HTTPRequest.Method { head.method }
    /// Path and query, as they were sent: `/search?q=x`. (Of a whole URL, which clients send to proxies, this part.)
    public var target: String { made?.path ?? raw.target }
    /// The path without the query, as it was sent (`%20` and `+` are not decoded).
    public var path: Substring { target.prefix { $0 != "?" } }
    /// What stands behind the `?`, as it was sent; nil without one.
    public var query: Substring? {
        guard let mark = target.firstIndex(of: "?") else { return nil }
        return target[target.index(after: mark)...]
    }
    /// The header fields.
    public var headers: HTTPFields { head.headerFields }
    /// `HTTP/1.1`, `HTTP/1.0` or `HTTP/2`.
    public internal(set) var version: String
    /// Whose connection it is, as `127.0.0.1:54321`.
    public var peer: String { peerName() }

    private var made: HTTPRequest?
    private let raw: RawHead
    private let peerName: () -> String

    /// Of HTTP/1.
    init(raw: RawHead, minorVersion: Int, body: RequestBody, peer: @escaping () -> String) {
        self.raw = raw
        self.body = body
        version = minorVersion == 1 ? "HTTP/1.1" : "HTTP/1.0"
        peerName = peer
    }

    /// Of other versions.
    init(head: HTTPRequest, version: String, body: RequestBody, peer: @escaping () -> String) {
        made = head
        raw = RawHead()
        self.body = body
        self.version = version
        peerName = peer
    }
}

/// The bytes of a head, and where its parts stand.
struct RawHead {
    var bytes: [UInt8] = []
    var head = HTTP1Head()
    /// Whether the connection is TLS.
    var isSecure = false

    func text(_ range: Range<Int>) -> String { String(decoding: bytes[range], as: UTF8.self) }

    var target: String {
        let target = text(head.target)
        return AbsoluteTarget(target)?.pathAndQuery ?? target
    }

    /// The head that swift-http-types has. All of it was checked when it was read.
    func makeHead() -> HTTPRequest {
        var fields = HTTPFields()
        fields.reserveCapacity(head.fields.count)
        let target = text(head.target)
        let absolute = AbsoluteTarget(target)
        var authority: String?
        for field in head.fields {
            guard let name = HTTPField.Name(text(field.name)) else { continue }
            let value = text(field.value)
            if field.name.count == 4 && name.canonicalName == "host" {
                authority = value
            } else {
                fields.append(HTTPField(name: name, value: value))
            }
        }
        return HTTPRequest(
            method: HTTPRequest.Method(text(head.method)) ?? .get, scheme: isSecure ? "https" : "http",
            authority: absolute?.authority ?? authority, path: absolute?.pathAndQuery ?? target, headerFields: fields)
    }
}

/// A target that is a whole URL, as proxies get it; a server must take it, too, and then it counts more than `Host`
/// (RFC 9112, 3.2.2).
struct AbsoluteTarget {
    var authority: String
    var pathAndQuery: String

    /// - Returns: nil for what is none.
    init?(_ target: String) {
        // Nearly all begin with their path.
        if target.utf8.first == UInt8(ascii: "/") { return nil }
        guard let scheme = ["http://", "https://"].first(where: { target.prefix($0.count).lowercased() == $0 }) else {
            return nil
        }
        let rest = target.dropFirst(scheme.count)
        let name = rest.prefix { $0 != "/" && $0 != "?" && $0 != "#" }
        let path = rest.dropFirst(name.count)
        // Names of users have no place here, and only make one host look like another.
        if name.isEmpty || name.contains("@") || path.first == "#" { return nil }
        authority = String(name)
        pathAndQuery = path.first == "/" ? String(path) : "/" + path
    }
}

/// A request's body: it is read piece by piece, and what is not read is not received.
public final class RequestBody: ByteSource {
    /// How many bytes the client has announced; nil if it has not.
    public let announcedCount: Int?
    /// Bytes read so far.
    public private(set) var count = 0
    /// Who reads it; nil if there is none.
    private let source: (any BodySource)?

    init(announcedCount: Int?, from source: (any BodySource)?) {
        self.announcedCount = announcedCount
        self.source = source
    }

    /// `the body of a request`
    public var subject: String { "the body of a request" }

    /// The next bytes, at most `limit`; nil at the end.
    ///
    /// - Throws: `IOError`: the client has gone, is too slow, or has sent what is no body; ``bodyTooLarge`` if it is
    ///   larger than the server's limit. The server answers the client by itself if the handler lets the error through.
    public func read(upTo limit: Int = .max) async throws(IOError) -> ByteChunk? {
        guard let source else { return nil }
        if source.isHome(#isolation) {
            guard let chunk = try await source.readBody(upTo: limit) else { return nil }
            count += chunk.count
            return chunk
        }
        let bytes = try await source.atHome { () async throws(IOError) -> [UInt8]? in
            guard let chunk = try await source.readBody(upTo: limit) else { return nil }
            return Array(chunk)
        }
        guard let bytes else { return nil }
        count += bytes.count
        return ByteChunk(bytes)
    }

    /// All that is left of the body.
    ///
    /// - Parameter limit: the most bytes to accept.
    /// - Throws: `IOError`: `.limitExceeded` if there are more; the client gets 413 if the handler lets it through.
    public func collect(upTo limit: Int) async throws(IOError) -> [UInt8] {
        if let announcedCount, announcedCount > limit { throw IOError("read", subject, .limitExceeded(limit)) }
        var all: [UInt8] = []
        all.reserveCapacity(min(announcedCount ?? 0, 1 << 20))
        while let chunk = try await read() {
            guard chunk.count <= limit - all.count else { throw IOError("read", subject, .limitExceeded(limit)) }
            all.append(copying: chunk.bytes)
        }
        return all
    }
}

/// Where a body comes from: a connection of HTTP/1, or a stream of HTTP/2.
protocol BodySource: LoopBound {
    /// The next piece, at most `limit` bytes; nil at the end. On the loop.
    func readBody(upTo limit: Int) async throws(IOError) -> ByteChunk?
}
