import CCurl
import Glibc

/// A URL taken apart by libcurl, so that both mean the same host by it.
struct RequestURL: Hashable, Sendable {
    /// The whole, normalised, without a fragment.
    let text: String
    /// `http` or `https`.
    let scheme: String
    /// As it is asked for: lower case, international names in ASCII, IPv6 without brackets.
    let host: String
    let port: Int

    /// Who answers: requests may share connections, and secrets, only within it.
    var origin: String { "\(scheme)://\(host):\(port)" }

    /// - Throws: what is wrong with it, in words.
    ///
    /// - Parameter base: what `text` is relative to, if it is.
    init(_ text: String, relativeTo base: String? = nil) throws(Refusal) {
        let parts = try Parts(base ?? text)
        if base != nil { try parts.follow(text) }
        scheme = try parts.part(CURLUPART_SCHEME) ?? "http"
        guard scheme == "http" || scheme == "https" else {
            throw Refusal(words: "\(scheme) is no protocol of this client: use http or https")
        }
        host = try Self.host(parts)
        port = try parts.part(CURLUPART_PORT, UInt32(CURLU_DEFAULT_PORT)).flatMap { Int($0) } ?? 0
        try parts.clear(CURLUPART_FRAGMENT)
        self.text = try parts.part(CURLUPART_URL) ?? text
    }

    /// A proxy's name and port, whatever it speaks; nil where libcurl looks for no name.
    static func proxyHost(_ text: String) throws(Refusal) -> (scheme: String, host: String, port: Int) {
        let parts = try Parts(text, flags: UInt32(CURLU_NON_SUPPORT_SCHEME | CURLU_DEFAULT_SCHEME), isProxy: true)
        let scheme = try parts.part(CURLUPART_SCHEME) ?? "http"
        let port = try parts.part(CURLUPART_PORT).flatMap { Int($0) } ?? (scheme == "https" ? 443 : 1080)
        return (scheme, try host(parts), port)
    }

    private static func host(_ parts: Parts) throws(Refusal) -> String {
        guard var host = try parts.part(CURLUPART_HOST, rondo_curl_host_flags), !host.isEmpty else {
            throw Refusal(words: "it has no host")
        }
        if host.hasPrefix("["), host.hasSuffix("]") { host = String(host.dropFirst().dropLast()) }
        return host.lowercased()
    }

    /// `text` with what is between the user's name and the @ struck out.
    static func withoutPassword(_ text: String) -> String {
        guard let slashes = text.range(of: "//") else { return text }
        let end = text[slashes.upperBound...].firstIndex { "/?#".contains($0) } ?? text.endIndex
        guard let at = text[slashes.upperBound..<end].lastIndex(of: "@") else { return text }
        let user = text[slashes.upperBound..<at].prefix { $0 != ":" }
        return text[..<slashes.upperBound] + user + ":***" + text[at...]
    }

    /// Why a text is no URL.
    struct Refusal: Error, Hashable {
        var words: String
    }
}

extension String {
    /// Where `other` stands first. (Foundation's, without Foundation.)
    fileprivate func range(of other: String) -> Range<String.Index>? {
        var start = startIndex
        while start < endIndex {
            if self[start...].hasPrefix(other) { return start..<index(start, offsetBy: other.count) }
            start = index(after: start)
        }
        return nil
    }
}

/// libcurl's taken-apart URL.
@safe
private final class Parts {
    // SAFETY: made in init, freed in deinit; what libcurl hands out is copied and freed at once.
    private let handle: OpaquePointer

    init(_ text: String, flags: UInt32 = 0, isProxy: Bool = false) throws(RequestURL.Refusal) {
        guard let handle = unsafe curl_url() else { throw RequestURL.Refusal(words: "no memory") }
        unsafe self.handle = handle
        try set(text, isProxy ? flags : UInt32(CURLU_URLENCODE))
    }

    /// Goes where a redirect leads.
    func follow(_ text: String) throws(RequestURL.Refusal) {
        try set(text, UInt32(CURLU_URLENCODE | CURLU_NON_SUPPORT_SCHEME))
    }

    /// With CURLU_URLENCODE, what is not ASCII is percent-encoded; international host names are left to libcurl.
    private func set(_ text: String, _ flags: UInt32) throws(RequestURL.Refusal) {
        if text.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f }) {
            throw RequestURL.Refusal(words: "a URL has no control characters")
        }
        try check(unsafe curl_url_set(handle, CURLUPART_URL, text, flags))
    }

    deinit { unsafe curl_url_cleanup(handle) }

    func part(_ part: CURLUPart, _ flags: UInt32 = 0) throws(RequestURL.Refusal) -> String? {
        var text: UnsafeMutablePointer<CChar>?
        let code = unsafe curl_url_get(handle, part, &text, flags)
        defer { unsafe curl_free(text) }
        if code == CURLUE_NO_PORT || code == CURLUE_NO_HOST { return nil }
        try check(code)
        return unsafe text.map { unsafe String(cString: $0) }
    }

    func clear(_ part: CURLUPart) throws(RequestURL.Refusal) { try check(unsafe curl_url_set(handle, part, nil, 0)) }

    private func check(_ code: CURLUcode) throws(RequestURL.Refusal) {
        guard code != CURLUE_OK else { return }
        // SAFETY: a constant of libcurl's.
        throw unsafe RequestURL.Refusal(words: "it is no URL: \(String(cString: curl_url_strerror(code)))")
    }
}
