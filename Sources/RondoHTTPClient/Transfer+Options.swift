import CCurl
import Glibc
import HTTPTypes
import Rondo
import SystemPackage

/// What is sent, and where to.
struct OutgoingRequest {
    var method: HTTPRequest.Method
    var url: RequestURL
    var fields: HTTPFields
    var body: HTTPClientRequestBody
}

/// Which way a request goes.
struct Route: Sendable {
    /// The proxy's URL.
    var proxy: String?
    /// Addresses of names that libcurl will ask for, in its own notation.
    var addresses: [String] = []
}

extension Transfer {
    // SAFETY: the handle is this transfer's while it is not nil, and libcurl takes nil for an error of its own.

    /// Sets everything that libcurl must know about a request.
    func prepare(_ request: OutgoingRequest, by route: Route, _ configuration: HTTPClientConfiguration) {
        adopt()
        set(CURLOPT_URL, request.url.text)
        // No signals, no files of the user's, nothing but HTTP, and no redirects by itself: they are the client's.
        set(CURLOPT_NOSIGNAL, 1)
        unsafe rondo_curl_allow_only_http(easy?.pointer)
        set(CURLOPT_PROXY, route.proxy ?? "")
        set(CURLOPT_NOPROXY, "")
        set(CURLOPT_SUPPRESS_CONNECT_HEADERS, 1)
        set(CURLOPT_TCP_KEEPALIVE, 1)
        set(CURLOPT_BUFFERSIZE, 64 * 1024)
        set(CURLOPT_CONNECTTIMEOUT_MS, max(1, Int(configuration.timeouts.connect / .milliseconds(1))))
        set(CURLOPT_MAXAGE_CONN, max(1, Int(configuration.pool.idleTime / .seconds(1))))
        setVersion(configuration.version, isSecure: request.url.scheme == "https")
        setTrust(configuration.tls)
        setMethod(request)
        setList(CURLOPT_RESOLVE, route.addresses)
        setList(CURLOPT_HTTPHEADER, lines(of: request, configuration))
    }

    private func setVersion(_ version: HTTPClientConfiguration.Version, isSecure: Bool) {
        switch version {
        case .automatic: set(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_2TLS))
        case .http1: set(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
        case .http2:
            set(
                CURLOPT_HTTP_VERSION,
                Int(isSecure ? CURL_HTTP_VERSION_2TLS : CURL_HTTP_VERSION_2_PRIOR_KNOWLEDGE))
        }
        // Better to wait for a connection that many requests share than to open one for each.
        if version == .http2 || (version == .automatic && isSecure) { set(CURLOPT_PIPEWAIT, 1) }
    }

    private func setTrust(_ tls: HTTPClientConfiguration.TLS) {
        set(CURLOPT_SSL_VERIFYPEER, tls.verifiesPeer ? 1 : 0)
        set(CURLOPT_SSL_VERIFYHOST, tls.verifiesPeer ? 2 : 0)
        if let path = tls.trustedCertificates { set(CURLOPT_CAINFO, path.string) }
        if let path = tls.certificate { set(CURLOPT_SSLCERT, path.string) }
        if let path = tls.privateKey { set(CURLOPT_SSLKEY, path.string) }
    }

    private func setMethod(_ request: OutgoingRequest) {
        switch request.body.content {
        case .none where request.method == .get: set(CURLOPT_HTTPGET, 1)
        case .none where request.method == .head: set(CURLOPT_NOBODY, 1)
        case .none where request.method == .post:
            set(CURLOPT_POST, 1)
            set(CURLOPT_POSTFIELDSIZE, 0)
            set(CURLOPT_COPYPOSTFIELDS, "")
        case .none: set(CURLOPT_CUSTOMREQUEST, request.method.rawValue)
        case .bytes(let bytes): setUpload(request.method, Int64(bytes.count))
        case .stream(_, let length): setUpload(request.method, length ?? -1)
        }
    }

    private func setUpload(_ method: HTTPRequest.Method, _ length: Int64) {
        set(CURLOPT_UPLOAD, 1)
        set(CURLOPT_CUSTOMREQUEST, method.rawValue)
        unsafe rondo_curl_set_offset(easy?.pointer, CURLOPT_INFILESIZE_LARGE, curl_off_t(length))
    }

    /// The header fields as libcurl wants them; a name with a colon and nothing else takes out one of its own.
    private func lines(of request: OutgoingRequest, _ configuration: HTTPClientConfiguration) -> [String] {
        var lines = ["Expect:"]
        if request.fields[.contentType] == nil { lines.append("Content-Type:") }
        if request.fields[.userAgent] == nil, let name = configuration.userAgent { lines.append("User-Agent: \(name)") }
        if Self.unpacks(request.fields, configuration) { lines.append("Accept-Encoding: gzip, deflate") }
        for field in request.fields where field.name != .contentLength && field.name != .transferEncoding {
            lines.append(field.value.isEmpty ? "\(field.name.rawName);" : "\(field.name.rawName): \(field.value)")
        }
        return lines
    }

    /// Whether bodies are unpacked. Who asks for an encoding unpacks it; and a part of something packed can't be.
    static func unpacks(_ fields: HTTPFields, _ configuration: HTTPClientConfiguration) -> Bool {
        configuration.decompresses && fields[.acceptEncoding] == nil && fields[.range] == nil
    }

    // MARK: Setting

    // SAFETY (all): libcurl copies texts, and the lists stay until the transfer has ended.

    private func set(_ option: CURLoption, _ value: Int) { unsafe rondo_curl_set_long(easy?.pointer, option, value) }

    private func set(_ option: CURLoption, _ text: String) { unsafe rondo_curl_set_text(easy?.pointer, option, text) }

    private func setList(_ option: CURLoption, _ lines: [String]) {
        var list: UnsafeMutablePointer<curl_slist>?
        for line in lines { unsafe list = curl_slist_append(list, line) ?? list }
        guard let list = unsafe list else { return }
        unsafe lists.append(list)
        unsafe rondo_curl_set_list(easy?.pointer, option, list)
    }

    // MARK: Ending

    /// What libcurl's result means.
    func cause(of result: CURLcode) -> HTTPClientError.Cause {
        // SAFETY: both are C strings; the buffer is this object's.
        let own = unsafe String(cString: words)
        let text = own.isEmpty ? unsafe String(cString: curl_easy_strerror(result)) : own
        switch result {
        case CURLE_COULDNT_RESOLVE_HOST, CURLE_COULDNT_RESOLVE_PROXY:
            return .unresolved(IOError("resolve", url.host, .unresolved(text)))
        case CURLE_COULDNT_CONNECT:
            let errno = osErrno
            return .connect(errno == 0 ? text : Errno(rawValue: errno).description, errno: errno)
        case CURLE_OPERATION_TIMEDOUT: return .timedOut(.connect, connectLimit)
        case CURLE_PROXY: return .proxy(text)
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER,
            CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ISSUER_ERROR, CURLE_SSL_INVALIDCERTSTATUS:
            return .tls(text)
        case CURLE_GOT_NOTHING: return .connectionLost("the server closed the connection without an answer")
        case CURLE_PARTIAL_FILE: return .connectionLost("the server closed the connection early: \(text)")
        case CURLE_SEND_ERROR, CURLE_SEND_FAIL_REWIND: return .connectionLost(text)
        case CURLE_RECV_ERROR where text.contains("chunk") || text.contains("Chunk") || text.contains("hexadecimal"):
            return .malformedResponse(text)
        case CURLE_RECV_ERROR, CURLE_HTTP2_STREAM, CURLE_HTTP2: return .connectionLost(text)
        case CURLE_WEIRD_SERVER_REPLY, CURLE_UNSUPPORTED_PROTOCOL, CURLE_BAD_CONTENT_ENCODING,
            CURLE_HTTP_RETURNED_ERROR:
            return .malformedResponse(text)
        // libcurl's own limit for one line.
        case CURLE_OUT_OF_MEMORY where !hasHead: return .headerLimit("a line of its header has more than 100 KB")
        case CURLE_URL_MALFORMAT: return .invalidRequest(text)
        case CURLE_ABORTED_BY_CALLBACK:
            if let failure = upload?.failure { return .requestBody(failure) }
            return .other(text)
        default: return .other("\(text) (libcurl's error \(result.rawValue))")
        }
    }

    private var osErrno: Int32 {
        var number = 0
        unsafe rondo_curl_get_long(easy?.pointer, CURLINFO_OS_ERRNO, &number)
        return Int32(truncatingIfNeeded: number)
    }

    /// How many connections were made for the transfer.
    var connectionsMade: Int {
        var number = 0
        unsafe rondo_curl_get_long(easy?.pointer, CURLINFO_NUM_CONNECTS, &number)
        return number
    }
}
