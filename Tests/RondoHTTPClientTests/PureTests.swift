import HTTPTypes
import Testing

@testable import RondoHTTPClient

@Suite struct ResponseHeadTests {
    private func read(
        _ lines: [String], limits: HTTPClientConfiguration.Limits = .init()
    ) throws -> ResponseHead {
        var head = ResponseHead(limits: limits)
        for line in lines { unsafe try Array(line.utf8).withUnsafeBytes { unsafe try head.read($0) } }
        return head
    }

    @Test func interimAnswersAreSkipped() throws {
        let head = try read(
            [
                "HTTP/1.1 103 Early Hints\r\n", "Link: </a>\r\n", "\r\n", "HTTP/1.1 204 No Content\r\n", "A:  b \r\n",
                "\r\n",
            ])
        #expect(head.state == .complete)
        #expect(head.status.code == 204)
        #expect(head.fields.count == 1)
        #expect(head.fields[.init("a")!] == "b")
    }

    @Test func trailersFollowTheBody() throws {
        let head = try read(["HTTP/2 200 \r\n", "\r\n", "x-sum: 1\r\n", "\r\n"])
        #expect(head.version == "2")
        #expect(head.trailers[.init("X-Sum")!] == "1")
        #expect(head.fields.isEmpty)
    }

    @Test(arguments: [["HTTP/1.1 20 OK"], ["FTP/1 200"], ["HTTP/1.1 200 OK", "\u{0}: 1"], ["HTTP/1.1 200 OK", ": 1"]])
    func nonsenseIsRefused(_ lines: [String]) {
        #expect(throws: HTTPClientError.Refusal.self) { try read(lines) }
    }

    @Test func limitsHoldForAllLinesTogether() throws {
        var limits = HTTPClientConfiguration.Limits()
        limits.headerFields = 2
        let start = ["HTTP/1.1 200 OK\r\n", "a: 1\r\n", "b: 2\r\n"]
        _ = try read(start + ["\r\n"], limits: limits)
        #expect(throws: HTTPClientError.Refusal.self) { try read(start + ["c: 3\r\n"], limits: limits) }
        #expect(throws: HTTPClientError.Refusal.self) { try read(start + ["\r\n", "c: 3\r\n"], limits: limits) }
    }
}

@Suite struct RedirectTests {
    @Test func methodsChangeAsClientsDoIt() {
        #expect(Redirect.step(status: 302, method: .post) == .init(method: .get, keepsBody: false))
        #expect(Redirect.step(status: 302, method: .put) == .init(method: .put, keepsBody: true))
        #expect(Redirect.step(status: 303, method: .put) == .init(method: .get, keepsBody: false))
        #expect(Redirect.step(status: 303, method: .head) == .init(method: .head, keepsBody: false))
        #expect(Redirect.step(status: 308, method: .post) == .init(method: .post, keepsBody: true))
        #expect(Redirect.step(status: 304, method: .get) == nil)
    }

    @Test func secretsStayWithTheirHost() {
        let fields: HTTPFields = [.authorization: "x", .cookie: "y", .accept: "z", .contentType: "t"]
        #expect(Redirect.fields(fields, keepsBody: true, sameOrigin: true).count == 4)
        let other = Redirect.fields(fields, keepsBody: false, sameOrigin: false)
        #expect(other.map(\.name) == [.accept])
    }
}

@Suite struct ProxyEnvironmentTests {
    private func proxies(_ variables: [String: String]) -> ProxyEnvironment { ProxyEnvironment { variables[$0] } }

    @Test func eachSchemeHasItsOwn() {
        let some = proxies(["http_proxy": "http://a:1", "HTTPS_PROXY": "http://b:2", "HTTP_PROXY": "http://evil"])
        #expect(some.proxy(scheme: "http", host: "x", port: 80) == "http://a:1")
        #expect(some.proxy(scheme: "https", host: "x", port: 443) == "http://b:2")
        #expect(proxies(["HTTP_PROXY": "http://evil"]).proxy(scheme: "http", host: "x", port: 80) == nil)
        #expect(proxies(["ALL_PROXY": "socks5h://c"]).proxy(scheme: "http", host: "x", port: 80) == "socks5h://c")
    }

    @Test(arguments: [
        ("example.com", true), ("a.Example.com", true), ("badexample.com", false), ("local", true), ("x.local", true),
        ("10.0.0.1", true), ("port.test", false), ("::1", true),
    ])
    func exceptionsAreNamesAndWhatIsBelow(_ host: String, _ isException: Bool) {
        let some = proxies(["all_proxy": "http://a", "no_proxy": "example.com, .local,10.0.0.1,port.test:81,[::1]"])
        #expect((some.proxy(scheme: "http", host: host, port: 80) == nil) == isException)
    }

    @Test func portsAndStars() {
        let some = proxies(["all_proxy": "http://a", "no_proxy": "port.test:81"])
        #expect(some.proxy(scheme: "http", host: "port.test", port: 81) == nil)
        #expect(proxies(["all_proxy": "http://a", "no_proxy": "*"]).proxy(scheme: "http", host: "x", port: 80) == nil)
    }
}

@Suite struct RequestURLTests {
    @Test func aURLIsTakenApart() throws {
        let url = try RequestURL("HTTP://User:pw@Example.COM:8080/a b/../c?d#e")
        #expect(url.scheme == "http")
        #expect(url.host == "example.com")
        #expect(url.port == 8080)
        #expect(url.text.hasSuffix(":8080/c?d"))
        #expect(try RequestURL("https://[::1]/").host == "::1")
        #expect(try RequestURL("https://x/").port == 443)
    }

    @Test func redirectsAreRelative() throws {
        #expect(try RequestURL("../x?y", relativeTo: "http://h/a/b/c").text == "http://h/a/x?y")
        #expect(try RequestURL("//other/z", relativeTo: "https://h/").text == "https://other/z")
    }

    @Test(arguments: [
        "", "http://", "ftp://x/", "http://a b/", "http://x:99999/", "http://x/\u{7}", "http://x\r\nA: b",
    ])
    func nonsenseIsRefused(_ text: String) { #expect(throws: RequestURL.Refusal.self) { try RequestURL(text) } }

    @Test func passwordsAreNotShown() {
        #expect(RequestURL.withoutPassword("http://me:secret@h/p@q") == "http://me:***@h/p@q")
        #expect(RequestURL.withoutPassword("http://h/p@q") == "http://h/p@q")
    }
}

@Suite struct InflaterTests {
    /// `hello hello hello hello` in gzip, made by `gzip -n`.
    static let hello: [UInt8] = [
        0x1f, 0x8b, 0x08, 0, 0, 0, 0, 0, 0, 0x03, 0xcb, 0x48, 0xcd, 0xc9, 0xc9, 0x57, 0xc8, 0x40, 0x27, 0x01, 0xe3,
        0x51,
        0x3d, 0x8d, 0x17, 0, 0, 0,
    ]

    private func unpack(_ pieces: [[UInt8]], _ coding: String = "gzip", limit: Int = 7) throws -> String {
        let inflater = try #require(Inflater(coding: coding))
        var all: [UInt8] = []
        for piece in pieces {
            inflater.take(piece)
            while let bytes = try inflater.next(limit: limit) { all += bytes }
        }
        try inflater.finish()
        return String(decoding: all, as: UTF8.self)
    }

    @Test func piecesOfAnySizeWillDo() throws {
        #expect(try unpack([Self.hello]) == "hello hello hello hello")
        #expect(try unpack(Self.hello.map { [$0] }) == "hello hello hello hello")
        #expect(try unpack([Self.hello, Self.hello]) == "hello hello hello hellohello hello hello hello")
    }

    @Test func deflateWithAndWithoutItsWrapper() throws {
        let raw = Array(Self.hello[10..<Self.hello.count - 8])
        #expect(try unpack([raw], "deflate") == "hello hello hello hello")
    }

    @Test func whatIsBrokenIsRefused() {
        #expect(throws: HTTPClientError.Refusal.self) { try unpack([Array(Self.hello.dropLast(4))]) }
        #expect(throws: HTTPClientError.Refusal.self) { try unpack([Self.hello + [1, 2, 3]]) }
        #expect(Inflater(coding: "br") == nil)
    }
}
