// What an attacker may send: it is refused with the status that says why, and costs nothing that lasts.

import Rondo
import RondoHTTP
import Testing

@Suite struct HostileTests {
    static let head = "POST / HTTP/1.1\r\nHost: x\r\n"

    /// A request, and the status that it gets.
    static let refused: [(String, Int)] = [
        // Two ways to find the end of the body: the smuggler's tools.
        (head + "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (head + "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n\r\n0\r\n\r\n", 400),
        (head + "Content-Length: 4\r\nContent-Length: 4\r\n\r\nabcd", 400),
        (head + "Content-Length: 4\r\nContent-Length: 5\r\n\r\nabcd", 400),
        (head + "Content-Length: 4, 4\r\n\r\nabcd", 400),
        (head + "Content-Length: +4\r\n\r\nabcd", 400),
        (head + "Content-Length: -4\r\n\r\nabcd", 400),
        (head + "Content-Length: 0x4\r\n\r\nabcd", 400),
        (head + "Content-Length: 4 4\r\n\r\nabcd", 400),
        (head + "Content-Length:\r\n\r\nabcd", 400),
        (head + "Content-Length: 99999999999999999999\r\n\r\nabcd", 400),
        (head + "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (head + "Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n", 501),
        (head + "Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", 501),
        (head + "Transfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n", 501),
        ("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        // Lines that two readers see differently.
        (head + "Transfer-Encoding : chunked\r\n\r\n0\r\n\r\n", 400),
        (head + " Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400),
        (head + "X: a\r\n b\r\n\r\n", 400),
        (head + "X: a\r\n\tb\r\n\r\n", 400),
        (head + "X: a\nContent-Length: 4\r\n\r\nabcd", 400),
        (head + "X: a\rb\r\n\r\n", 400),
        (head + "X: a\u{0}b\r\n\r\n", 400),
        (head + "X: a\u{1}b\r\n\r\n", 400),
        (head + ": a\r\n\r\n", 400),
        (head + "X\r\n\r\n", 400),
        (head + "X Y: a\r\n\r\n", 400),
        (head + "X\u{0}: a\r\n\r\n", 400),
        (head + "é: a\r\n\r\n", 400),
        // Hosts.
        ("GET / HTTP/1.1\r\n\r\n", 400),
        ("GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        // First lines.
        ("GET /\r\n\r\n", 400),
        ("GET  / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /  HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET / HTTP/1.1 \r\nHost: x\r\n\r\n", 400),
        ("GET / HTTP/1.1\nHost: x\r\n\r\n", 400),
        ("GET /\u{0} HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET /é HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("G(T / HTTP/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET / HTTPS/1.1\r\nHost: x\r\n\r\n", 400),
        ("GET / HTTP/2.0\r\nHost: x\r\n\r\n", 505),
        ("GET / HTTP/1.2\r\nHost: x\r\n\r\n", 505),
        ("GET / HTTP/0.9\r\nHost: x\r\n\r\n", 505),
        ("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 505),
        (String(repeating: "M", count: 100) + " / HTTP/1.1\r\nHost: x\r\n\r\n", 501),
        ("\u{16}\u{3}\u{1}\u{2}\u{0}", 400),
        // Bombs.
        ("GET /" + String(repeating: "a", count: 9000) + " HTTP/1.1\r\nHost: x\r\n\r\n", 414),
        (head + "X: " + String(repeating: "a", count: 17_000) + "\r\n\r\n", 431),
        (head + String(repeating: "X: a\r\n", count: 101) + "\r\n", 431),
        (head + String(repeating: "X-Y: a\r\n", count: 100_000) + "\r\n", 431),
        (head + "Expect: the unexpected\r\n\r\n", 417),
        // Bodies.
        (head + "Content-Length: 1073741825\r\n\r\nabc", 413),
        (head + "Transfer-Encoding: chunked\r\n\r\nFFFFFFFFFFFFFFFF\r\nabc", 413),
        (head + "Transfer-Encoding: chunked\r\n\r\n40000001\r\nabc", 413),
        (head + "Transfer-Encoding: chunked\r\n\r\n-1\r\nabc", 400),
        (head + "Transfer-Encoding: chunked\r\n\r\n\r\nabc", 400),
        (head + "Transfer-Encoding: chunked\r\n\r\n3 \r\nabc\r\n0\r\n\r\n", 400),
        (head + "Transfer-Encoding: chunked\r\n\r\n3\nabc\r\n0\r\n\r\n", 400),
        (head + "Transfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n0\r\n\r\n", 400),
        (head + "Transfer-Encoding: chunked\r\n\r\n3;x=\ny\r\nabc\r\n0\r\n\r\n", 400),
        (head + "Transfer-Encoding: chunked\r\n\r\n3;" + String(repeating: "x", count: 20_000) + "\r\n", 431),
        (head + "Transfer-Encoding: chunked\r\n\r\n0\r\n" + String(repeating: "T: x\r\n", count: 5_000) + "\r\n", 431),
    ]

    @Test(arguments: refused.indices) func isRefused(_ number: Int) throws {
        let (request, status) = Self.refused[number]
        try serving { request, response in
            _ = try await request.body.collect(upTo: .max)
            try await response.send("accepted")
        } _: { address in
            // Behind it comes what a smuggler would want to be answered.
            let answer = try await ask(address, request + "GET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(parts(answer).status == status, "\(request.prefix(200)) got \(answer)")
            #expect(answer.contains("Connection: close") && !answer.contains("accepted"))
            #expect(answer.components(separatedBy: "HTTP/1.1 ").count == 2, "one answer")
        }
    }

    @Test func textThatIsNoUTF8IsRefused() throws {
        try serving(HTTPServerConfiguration(), describe) { address in
            for bytes in [[0xFF], [0xC3], [0xC0, 0x80], [0xED, 0xA0, 0x80]] as [[UInt8]] {
                let request = Array("GET / HTTP/1.1\r\nHost: x\r\nX: ".utf8) + bytes + Array("\r\n\r\n".utf8)
                let header = try await ask(address, request)
                #expect(parts(header).status == 400)
                let target = Array("GET /".utf8) + bytes + Array(" HTTP/1.1\r\nHost: x\r\n\r\n".utf8)
                let line = try await ask(address, target)
                #expect(parts(line).status == 400)
            }
        }
    }

    @Test func aBodyLargerThanTheHandlerWantsIs413() throws {
        try serving { request, response in
            try await response.send(try await request.body.collect(upTo: 10))
        } _: { address in
            let announced = Self.head + "Content-Length: 11\r\n\r\n12345678901"
            let first = try await ask(address, announced)
            #expect(parts(first).status == 413)
            let chunked = Self.head + "Transfer-Encoding: chunked\r\n\r\n6\r\n123456\r\n5\r\n78901\r\n0\r\n\r\n"
            let second = try await ask(address, chunked)
            #expect(parts(second).status == 413)
        }
    }

    @Test func aSlowHeadIs408() throws {
        var configuration = HTTPServerConfiguration()
        configuration.timeouts.head = .milliseconds(600)
        try serving(configuration, describe) { address in
            // Nothing at all, a part, and a byte now and then.
            for text in ["", "GET / HT"] {
                let answer = try await ask(address, text)
                #expect(parts(answer).status == 408)
            }
            let stream = try await TCPStream.connect(to: address)
            let dripping = start {
                try? await stream.write("GET / HTTP/1.1\r\n")
                while (try? await stream.write("X")) != nil { try await Task.sleep(for: .milliseconds(50)) }
            }
            let answer = String(decoding: (try? await stream.readToEnd(limit: 1000)) ?? [], as: UTF8.self)
            #expect(answer.isEmpty || parts(answer).status == 408)
            await stream.abort()
            _ = await dripping.result
        }
    }

    @Test func anIdleConnectionIsClosed() throws {
        var configuration = HTTPServerConfiguration()
        configuration.timeouts.idle = .milliseconds(300)
        try serving(configuration, describe) { address in
            let answer = try await ask(address, "GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            #expect(parts(answer).status == 200 && parts(answer).body == "GET / ")
        }
    }

    @Test func aSlowBodyIs408() throws {
        var configuration = HTTPServerConfiguration()
        configuration.timeouts.body = .milliseconds(300)
        try serving(configuration, describe) { address in
            let answer = try await ask(address, Self.head + "Content-Length: 10\r\n\r\nabc")
            #expect(parts(answer).status == 408)
        }
    }

    @Test func aClientThatDoesNotReadIsLeft() throws {
        var configuration = HTTPServerConfiguration()
        configuration.timeouts.write = .milliseconds(300)
        let isLeft = AsyncEvent()
        try serving(configuration) { _, response in
            defer { isLeft.set() }
            while true { try await response.write([UInt8](repeating: 1, count: 1 << 20)) }
        } _: { address in
            let stream = try await TCPStream.connect(to: address)
            try await stream.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try await isLeft.wait()
            await #expect(throws: IOError.self) { while try await stream.read() != nil {} }
            await stream.close()
        }
    }

    @Test func aRequestHasItsTime() throws {
        var configuration = HTTPServerConfiguration()
        configuration.timeouts.request = .milliseconds(300)
        try serving(configuration) { request, response in
            while let piece = try await request.body.read() { _ = piece.count }
            try await response.send("done")
        } _: { address in
            let stream = try await TCPStream.connect(to: address)
            try await stream.write(Self.head + "Content-Length: 1000\r\n\r\n")
            var count = 0
            while (try? await stream.write("x")) != nil, count < 100 {
                count += 1
                try await Task.sleep(for: .milliseconds(50))
            }
            #expect(count < 100)
            await stream.close()
        }
    }

    @Test func tooManyConnectionsAre503() throws {
        var configuration = HTTPServerConfiguration()
        configuration.limits.connections = 2
        try serving(configuration, describe) { address in
            let first = try await TCPStream.connect(to: address)
            let second = try await TCPStream.connect(to: address)
            for stream in [first, second] {
                try await stream.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
                _ = try await stream.read()
            }
            let third = try await TCPStream.connect(to: address)
            let answer = String(decoding: try await third.readToEnd(limit: 1000), as: UTF8.self)
            #expect(parts(answer).status == 503)
            for stream in [first, second, third] { await stream.close() }
        }
    }

    @Test func aConnectionHasItsNumberOfRequests() throws {
        var configuration = HTTPServerConfiguration()
        configuration.limits.requestsPerConnection = 3
        try serving(configuration, describe) { address in
            let answer = try await ask(address, String(repeating: "GET / HTTP/1.1\r\nHost: x\r\n\r\n", count: 10))
            #expect(answer.components(separatedBy: "HTTP/1.1 200 OK").count == 4)
            #expect(answer.components(separatedBy: "Connection: close").count == 2)
        }
    }

    @Test func memoryStaysFlat() throws {
        try serving { request, response in
            var count = 0
            while let piece = try await request.body.read() { count += piece.count }
            try await response.send("\(count)")
        } _: { address in
            let bomb = Self.head + String(repeating: "X-Y: a\r\n", count: 100_000)
            _ = try await ask(address, bomb)
            let before = try residentBytes()
            for _ in 0..<30 { _ = try await ask(address, bomb) }
            let stream = try await TCPStream.connect(to: address)
            try await stream.write(Self.head + "Content-Length: 268435456\r\n\r\n")
            let piece = [UInt8](repeating: 1, count: 1 << 20)
            for _ in 0..<256 { try await stream.write(piece) }
            var answer = ""
            while !answer.hasSuffix("268435456"), let chunk = try await stream.read() {
                answer += String(decoding: Array(chunk), as: UTF8.self)
            }
            await stream.close()
            let grown = try residentBytes() - before
            #expect(grown < 32 << 20)
        }
    }
}
