// Whom `rondo load` asks.

/// Whom to ask, and the bytes that do it.
struct LoadTarget: Sendable {
    /// What is asked there.
    struct Request {
        var method = "GET"
        /// Each “Name: value”.
        var headers: [String] = []
        var body: String?
    }

    let url: String
    let isSecure: Bool
    let host: String
    let port: Int
    /// Whether answers have no bodies.
    let isHead: Bool
    /// A whole request.
    let request: [UInt8]

    init(_ url: String, _ request: Request) throws {
        let isSecure = url.lowercased().hasPrefix("https://")
        guard isSecure || url.lowercased().hasPrefix("http://") else {
            throw CommandFailure("\(url): begin with http:// or https://")
        }
        if url.utf8.contains(where: { $0 <= 0x20 || $0 >= 0x7f }) {
            throw CommandFailure("\(url): percent-encode what is no plain ASCII")
        }
        let rest = url.dropFirst(isSecure ? 8 : 7).prefix { $0 != "#" }
        let authority = rest.prefix { $0 != "/" && $0 != "?" }
        var path = String(rest.dropFirst(authority.count))
        if !path.hasPrefix("/") { path = "/" + path }
        var name = authority
        var port = isSecure ? 443 : 80
        if let colon = authority.lastIndex(of: ":"), authority[colon...].firstIndex(of: "]") == nil {
            guard let number = Int(authority[authority.index(after: colon)...]), (1...65_535).contains(number) else {
                throw CommandFailure("\(url): what stands behind the colon is no port")
            }
            port = number
            name = authority[..<colon]
        }
        if name.hasPrefix("["), name.hasSuffix("]") { name = name.dropFirst().dropLast() }
        guard !name.isEmpty, !name.contains("@") else { throw CommandFailure("\(url): it has no host, or a password") }
        self.url = url
        self.isSecure = isSecure
        host = String(name)
        self.port = port
        isHead = request.method == "HEAD"
        let body = Array((request.body ?? "").utf8)
        var lines = ["\(request.method) \(path) HTTP/1.1"]
        var ours = ["Host: \(authority)", "User-Agent: rondo-load"]
        if request.body != nil { ours.append("Content-Length: \(body.count)") }
        for line in ours {
            // What the user sets is the user's.
            let name = line.prefix { $0 != ":" }.lowercased() + ":"
            if !request.headers.contains(where: { $0.lowercased().hasPrefix(name) }) { lines.append(line) }
        }
        self.request = Array(((lines + request.headers).joined(separator: "\r\n") + "\r\n\r\n").utf8) + body
    }
}
