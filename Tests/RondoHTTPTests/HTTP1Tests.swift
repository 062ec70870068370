// Requests and answers of HTTP/1.1.

import HTTPTypes
import Rondo
import RondoHTTP
import Synchronization
import Testing

@Suite struct HTTP1Tests {
    @Test(arguments: [
        ("http://a.b:80/c?d", "/c?d a.b:80"), ("HTTP://a", "/ a"), ("https://a?b", "/?b a"),
        ("http:///c", "http:///c x"),
        ("http://u@a/c", "http://u@a/c x"), ("/http://a/c", "/http://a/c x"), ("*", "* x"),
        ("ftp://a/c", "ftp://a/c x"),
    ]) func wholeURLsAreTargets(_ target: String, _ expected: String) throws {
        try serving(HTTPServerConfiguration()) { request, response in
            try await response.send(
                "\(request.path)\(request.query.map { "?\($0)" } ?? "") \(request.head.authority ?? "")")
        } _: { address in
            let method = target == "*" ? "OPTIONS" : "GET"
            let answer = try await ask(address, "\(method) \(target) HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(parts(answer).body == expected)
        }
    }

    @Test func oneRequest() throws {
        try serving(HTTPServerConfiguration(), describe) { address in
            let answer = try await ask(address, "GET /a?b=c HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            let head = answer.split(separator: "\r\n")
            #expect(head[0] == "HTTP/1.1 200 OK")
            #expect(head.contains { $0.hasPrefix("Date: ") && $0.hasSuffix(" GMT") })
            #expect(head.contains("Content-Type: text/plain; charset=utf-8"))
            #expect(head.contains("Content-Length: 11"))
            #expect(head.contains("Connection: close"))
            #expect(parts(answer).body == "GET /a?b=c ")
        }
    }

    @Test func theHeadIsWhatWasSent() throws {
        try serving { request, response in
            #expect(request.method == .put)
            #expect(request.path == "/a/%20b" && request.query == "q=1&r")
            #expect(request.head.authority == "example.com:81" && request.head.scheme == "http")
            #expect(request.headers[.accept] == "*/*")
            #expect(request.headers[values: .init("X-Twice")!] == ["one", "två"])
            #expect(request.headers[.init("x-EMPTY")!] == "")
            #expect(request.version == "HTTP/1.1" && request.peer.hasPrefix("127.0.0.1:"))
            try await response.send(.noContent)
        } _: { address in
            let answer = try await ask(
                address,
                "PUT /a/%20b?q=1&r HTTP/1.1\r\nhOsT: example.com:81\r\nAccept:*/*\r\nX-Twice: one\r\n"
                    + "X-Twice: \t två \t\r\nX-Empty:\r\nConnection: close\r\n\r\n")
            #expect(parts(answer).status == 204)
            #expect(!answer.contains("Content-Length"))
        }
    }

    @Test func connectionsAreKept() throws {
        try serving(HTTPServerConfiguration(), describe) { address in
            let stream = try await TCPStream.connect(to: address)
            let reader = BufferedReader(stream)
            for number in 0..<100 {
                let body = String(repeating: "x", count: number)
                try await stream.write(
                    "POST /\(number) HTTP/1.1\r\nHost: x\r\nContent-Length: \(number)\r\n\r\n\(body)")
                let head = try #require(try await reader.readUntil(Array("\r\n\r\n".utf8), limit: 1000))
                let expected = "POST /\(number) \(body)"
                #expect(String(decoding: head, as: UTF8.self).hasSuffix("Content-Length: \(expected.utf8.count)"))
                let answer = String(decoding: try await reader.readExactly(expected.utf8.count), as: UTF8.self)
                #expect(answer == expected)
            }
            await stream.close()
        }
    }

    @Test func pipelinedRequestsAreAnsweredInOrder() throws {
        try serving(HTTPServerConfiguration(), describe) { address in
            let requests = (0..<500).map { number in
                number % 3 == 0
                    ? "POST /\(number) HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"
                    : "GET /\(number) HTTP/1.1\r\nHost: x\r\n\r\n"
            }
            let answer = try await ask(
                address, requests.joined() + "GET /last HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            let targets = answer.split(separator: "\r\n\r\n").dropFirst().map { $0.split(separator: " ")[1] }
            #expect(targets == (0..<500).map { "/\($0)" } + ["/last"])
        }
    }

    /// Wherever the network cuts a request in two, it is the same request.
    @Test func requestsComeInPieces() throws {
        let request =
            "\r\nPOST /p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"
            + "4;x=y\r\nwiki\r\n5\r\npedia\r\n0\r\nTrailer: t\r\n\r\n"
            + "GET /q HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
        let bytes = Array(request.utf8)
        try serving(HTTPServerConfiguration(), describe) { address in
            for cut in 1..<bytes.count {
                let stream = try await TCPStream.connect(to: address)
                try await stream.write(Array(bytes[..<cut]))
                for _ in 0..<4 { await EventLoop.yield() }
                try await stream.write(Array(bytes[cut...]))
                let answer = String(decoding: try await stream.readToEnd(limit: 10_000), as: UTF8.self)
                #expect(answer.contains("\r\n\r\nPOST /p wikipedia"), "cut at \(cut)")
                #expect(answer.hasSuffix("\r\n\r\nGET /q "), "cut at \(cut)")
                await stream.close()
            }
        }
    }

    @Test func byteByByte() throws {
        try serving(HTTPServerConfiguration(), describe) { address in
            let stream = try await TCPStream.connect(to: address)
            for byte in "POST /p HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nConnection: close\r\n\r\nabc".utf8 {
                try await stream.write([byte])
                for _ in 0..<4 { await EventLoop.yield() }
            }
            let answer = String(decoding: try await stream.readToEnd(limit: 1000), as: UTF8.self)
            #expect(answer.hasSuffix("POST /p abc"))
            await stream.close()
        }
    }

    @Test func http10() throws {
        try serving(HTTPServerConfiguration(), describe) { address in
            let closed = try await ask(address, "GET / HTTP/1.0\r\n\r\n")
            #expect(closed.hasSuffix("GET / ") && closed.contains("Connection: close"))
            let kept = try await ask(
                address, "GET /1 HTTP/1.0\r\nConnection: keep-alive\r\n\r\nGET /2 HTTP/1.0\r\n\r\n")
            #expect(kept.contains("Connection: keep-alive\r\n") && kept.hasSuffix("GET /2 "))
        }
    }

    @Test func headAnswersHaveNoBody() throws {
        try serving { _, response in
            try await response.send("four")
        } _: { address in
            let answer = try await ask(address, "HEAD / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(answer.contains("Content-Length: 4\r\n") && answer.hasSuffix("\r\n\r\n"))
        }
    }

    @Test func piecesAreChunks() throws {
        try serving { _, response in
            response.headers[.init("Trailer")!] = "X-Sum"
            for piece in ["one", "", "two", String(repeating: "3", count: 17)] { try await response.write(piece) }
            try await response.finish(trailers: [.init("X-Sum")!: "22"])
        } _: { address in
            let answer = try await ask(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(answer.contains("Transfer-Encoding: chunked\r\n"))
            #expect(
                parts(answer).body == "3\r\none\r\n3\r\ntwo\r\n11\r\n33333333333333333\r\n0\r\nX-Sum: 22\r\n\r\n")
            let old = try await ask(address, "GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
            #expect(parts(old).body == "onetwo33333333333333333" && old.contains("Connection: close"))
        }
    }

    @Test func announcedLengthsAreKept() throws {
        try serving { request, response in
            response.headers[.contentLength] = "6"
            try await response.write("abc")
            if request.path == "/long" { try await response.write("defg") }
            if request.path == "/exact" { try await response.write("def") }
            try await response.finish()
        } _: { address in
            let exact = try await ask(address, "GET /exact HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(parts(exact).body == "abcdef" && !exact.contains("chunked"))
            // What is wrong with an answer that has begun can only be said by breaking the connection.
            for path in ["/long", "/short"] {
                let stream = try await TCPStream.connect(to: address)
                try await stream.write("GET \(path) HTTP/1.1\r\nHost: x\r\n\r\n")
                await #expect(throws: IOError.self) { _ = try await stream.readToEnd(limit: 1000) }
                await stream.close()
            }
        }
    }

    @Test func largeBodiesGoBothWays() throws {
        let size = 20 << 20
        try serving { request, response in
            while let chunk = try await request.body.read() { try await response.write(chunk) }
            try await response.finish()
        } _: { address in
            let stream = try await TCPStream.connect(to: address)
            let reader = BufferedReader(stream)
            let writing = start {
                try await stream.write("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: \(size)\r\n\r\n")
                let piece = [UInt8](repeating: 7, count: 1 << 20)
                for _ in 0..<20 { try await stream.write(piece) }
            }
            _ = try await reader.readUntil(Array("\r\n\r\n".utf8), limit: 1000)
            var count = 0
            while true {
                let line = try #require(try await reader.readUntil(Array("\r\n".utf8), limit: 100))
                let chunk = try #require(Int(String(decoding: line, as: UTF8.self), radix: 16))
                if chunk == 0 { break }
                count += try await reader.readExactly(chunk).count { $0 == 7 }
                _ = try await reader.readExactly(2)
            }
            #expect(count == size)
            try await writing.value
            await stream.close()
        }
    }

    @Test func aClientThatDoesNotReadStopsTheHandler() throws {
        let written = Mutex(0)
        try serving { _, response in
            let piece = [UInt8](repeating: 1, count: 1 << 16)
            for _ in 0..<4096 {
                try await response.write(piece)
                written.withLock { $0 += piece.count }
            }
            try await response.finish()
        } _: { address in
            let stream = try await TCPStream.connect(to: address)
            try await stream.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            var last = -1
            while written.withLock({ $0 }) != last || last == 0 {
                last = written.withLock { $0 }
                for _ in 0..<200 { await EventLoop.yield() }
            }
            #expect(last < 64 << 20)
            await stream.abort()
        }
    }

    @Test func continueIsSaidWhenTheBodyIsWanted() throws {
        try serving { request, response in
            if request.path == "/no" { return try await response.send("no", status: .forbidden) }
            try await describe(request, response)
        } _: { address in
            let stream = try await TCPStream.connect(to: address)
            let reader = BufferedReader(stream)
            try await stream.write("PUT /yes HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            let first = try #require(try await reader.readUntil(Array("\r\n\r\n".utf8), limit: 1000))
            #expect(String(decoding: first, as: UTF8.self) == "HTTP/1.1 100 Continue")
            try await stream.write("ok")
            let second = try #require(try await reader.readUntil(Array("\r\n\r\n".utf8), limit: 1000))
            #expect(String(decoding: second, as: UTF8.self).hasPrefix("HTTP/1.1 200 OK"))
            await stream.close()
            let refused = try await ask(
                address, "PUT /no HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n")
            #expect(parts(refused).status == 403 && !refused.contains("100 Continue"))
        }
    }

    @Test func unwantedBodiesDoNotSpoilTheNextRequest() throws {
        try serving { request, response in
            try await response.send(request.target)
        } _: { address in
            let body = String(repeating: "GET /evil HTTP/1.1\r\n", count: 50)
            let answer = try await ask(
                address,
                "POST /1 HTTP/1.1\r\nHost: x\r\nContent-Length: \(body.utf8.count)\r\n\r\n\(body)"
                    + "GET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(!answer.contains("evil") && answer.hasSuffix("/2"))
        }
    }

    @Test func handlersThatFailAre500() throws {
        struct Trouble: Error {}
        try serving { request, response in
            if request.path == "/throw" {
                response.headers[.init("X-Secret")!] = "1"
                throw Trouble()
            }
        } _: { address in
            let thrown = try await ask(address, "GET /throw HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(parts(thrown).status == 500 && !thrown.contains("Secret"))
            let silent = try await ask(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(parts(silent).status == 500)
        }
    }

    @Test func theAccessLogSeesEveryRequest() throws {
        let log = Mutex<[String]>([])
        var configuration = HTTPServerConfiguration()
        configuration.accessLog = { access in
            #expect(access.duration > .zero && access.peer.hasPrefix("127.0.0.1:"))
            log.withLock {
                $0.append(
                    "\(access.method) \(access.target) \(access.version) \(access.status.code) \(access.bodyBytes)")
            }
        }
        configuration.serverName = "rondo"
        try serving(configuration, describe) { address in
            let answer = try await ask(
                address, "GET /1 HTTP/1.1\r\nHost: x\r\n\r\nGET /2 HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(answer.contains("Server: rondo\r\n"))
        }
        #expect(log.withLock { $0 } == ["GET /1 HTTP/1.1 200 7", "GET /2 HTTP/1.1 200 7"])
    }
}
