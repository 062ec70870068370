import Rondo
import Testing

extension IntegrationTests {
    @Suite struct HummingbirdTests {
        @Test(arguments: Driver.allCases, Way.allCases) func handlersRunOnTheLoop(driver: Driver, way: Way) throws {
            try onLoop {
                try await withServer(way.options, environment: driver.environment) { server in
                    #expect(try await curl("\(server.url)/") == "Hello, world!\n")
                    let place = try await curl("\(server.url)/where")
                    #expect(place.contains(#""isOnLoop":true"#), "\(place)")
                    if driver == .epoll { #expect(place.contains(#""driver":"epoll""#), "\(place)") }
                    let head = try await curl("--include", "\(server.url)/")
                    #expect(head.hasPrefix("HTTP/1.1 200 OK\r\n") && head.contains("Hummingbird on Rondo"), "\(head)")
                    let date = #/\r\nDate: [A-Z][a-z]{2}, \d\d [A-Z][a-z]{2} \d{4} \d\d:\d\d:\d\d GMT\r\n/#
                    #expect(head.contains(date), "\(head)")
                    #expect(try await curl("--write-out", "%{http_code}", "\(server.url)/nobody") == "404")
                    // Nobody started threads of NIO's.
                    let threads = try await server.threads()
                    #expect(!threads.isEmpty && !threads.contains { $0.hasPrefix("NIO") }, "\(threads)")
                }
            }
        }

        @Test(arguments: Way.allCases) func oneConnectionForManyRequests(way: Way) throws {
            try onLoop {
                try await withServer(way.options) { server in
                    let urls = Array(repeating: "\(server.url)/", count: 20)
                    let command = ChildProcess.Command("curl", ["--silent", "--write-out", "%{num_connects}\n"] + urls)
                    let lines = try await ChildProcess.run(command).text.split(separator: "\n")
                    #expect(lines.filter { $0 == "Hello, world!" }.count == 20)
                    #expect(lines.filter { $0 == "1" }.count == 1 && lines.filter { $0 == "0" }.count == 19)
                }
            }
        }

        @Test(arguments: Driver.allCases, Way.allCases) func pipelinedRequests(driver: Driver, way: Way) throws {
            try onLoop {
                try await withServer(way.options, environment: driver.environment) { server in
                    let stream = try await TCPStream.connect(to: server.address)
                    let count = 500
                    let request = "GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
                    async let answers = stream.readToEnd(limit: 1 << 20)
                    try await stream.write(String(repeating: request, count: count))
                    // All of it was said: the answers come, and then the server ends, too.
                    try await stream.finishWriting()
                    let text = String(decoding: try await answers, as: UTF8.self)
                    let parts = text.split(separator: "\r\n\r\nHello, world!\n", omittingEmptySubsequences: false)
                    #expect(parts.count == count + 1)
                    await stream.close()
                }
            }
        }

        @Test(arguments: Driver.allCases, Way.allCases) func largeBodiesBothWays(driver: Driver, way: Way) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    let bytes = pattern(3_000_001)
                    try await File.write(bytes, to: folder.appending("sent"))
                    var sum = 0
                    for byte in bytes { sum = (sum &* 31 &+ Int(byte)) & 0xFFFF_FFFF }
                    try await withServer(way.options, environment: driver.environment) { server in
                        let answer = try await curl("--upload-file", "\(folder)/sent", "\(server.url)/checksum")
                        #expect(answer == "\(bytes.count) bytes, sum \(sum)\n")
                        _ = try await curl(
                            "--upload-file", "\(folder)/sent", "--output", "\(folder)/received", "\(server.url)/echo")
                        #expect(try await File.contents(of: folder.appending("received")) == bytes)
                        _ = try await curl("--output", "\(folder)/zeros", "\(server.url)/zeros/8000001")
                        let zeros = try await File.contents(of: folder.appending("zeros"))
                        #expect(zeros.count == 8_000_001 && zeros.allSatisfy { $0 == 0 })
                    }
                }
            }
        }

        @Test(arguments: Driver.allCases, Way.allCases) func http2OverTLS(driver: Driver, way: Way) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    let identity = try await makeIdentity(in: folder)
                    let bytes = pattern(3_000_001)
                    try await File.write(bytes, to: folder.appending("sent"))
                    let options = ["--cert", identity.certificate, "--key", identity.key]
                    try await withServer(way.options + options, environment: driver.environment) { server in
                        let url = "https://\(server.address)"
                        for (option, version) in [("--http2", "2"), ("--http1.1", "1.1")] {
                            let place = try await curl(option, "--write-out", "%{http_version}", "\(url)/where")
                            #expect(place.contains(#""isOnLoop":true"#) && place.hasSuffix(version), "\(place)")
                            _ = try await curl(
                                option, "--upload-file", "\(folder)/sent", "--output", "\(folder)/received",
                                "\(url)/echo")
                            #expect(try await File.contents(of: folder.appending("received")) == bytes)
                        }
                        // Many at once, over one connection.
                        let urls = Array(repeating: "\(url)/", count: 50)
                        let command = ChildProcess.Command(
                            "curl", ["--silent", "--insecure", "--parallel", "--parallel-max", "50"] + urls)
                        let text = try await ChildProcess.run(command).text
                        #expect(text == String(repeating: "Hello, world!\n", count: 50))
                    }
                }
            }
        }

        @Test(arguments: Way.allCases) func badRequestsAreAnswered(way: Way) throws {
            try onLoop {
                try await withServer(way.options) { server in
                    let stream = try await TCPStream.connect(to: server.address)
                    try await stream.write("NONSENSE\r\n\r\n")
                    let answer = String(decoding: try await stream.readToEnd(limit: 1 << 16), as: UTF8.self)
                    #expect(answer.hasPrefix("HTTP/1.1 400 Bad Request\r\n"), "\(answer)")
                    await stream.close()
                    #expect(try await curl("\(server.url)/") == "Hello, world!\n")
                }
            }
        }

        /// Clients that leave in the middle of an upload, of a download, or of nothing, leave no descriptor behind.
        @Test(arguments: Driver.allCases, Way.allCases) func clientsThatLeave(driver: Driver, way: Way) throws {
            try onLoop {
                try await withServer(way.options, environment: driver.environment) { server in
                    #expect(try await curl("\(server.url)/") == "Hello, world!\n")
                    let before = try await server.descriptors()
                    for round in 0..<60 {
                        let stream = try await TCPStream.connect(to: server.address)
                        switch round % 3 {
                        case 0:
                            try await stream.write("PUT /echo HTTP/1.1\r\nHost: a\r\nContent-Length: 9999\r\n\r\nabc")
                        case 1: try await stream.write("GET /zeros/99999999 HTTP/1.1\r\nHost: a\r\n\r\n")
                        default: break
                        }
                        if round % 3 != 2 { _ = try await stream.readExactly(12) }
                        if round % 2 == 0 { await stream.abort() } else { await stream.close() }
                    }
                    while try await server.descriptors() > before { await EventLoop.yield() }
                }
            }
        }

        /// A request under way is answered, one who waits is let go, and nobody is let in any more.
        @Test(arguments: Driver.allCases, Way.allCases) func itEndsInOrder(driver: Driver, way: Way) throws {
            try onLoop {
                try await withServer(way.options, environment: driver.environment) { server in
                    let idle = try await TCPStream.connect(to: server.address)
                    try await idle.write("GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                    _ = try await idle.readExactly(12)
                    let busy = try await TCPStream.connect(to: server.address)
                    try await busy.write(
                        "PUT /checksum HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 4\r\n\r\nab")
                    // Served on one loop in order: when this is answered, the request before was seen.
                    #expect(try await curl("\(server.url)/") == "Hello, world!\n")
                    try server.process.signal(.terminate)
                    _ = try await idle.readToEnd(limit: 1 << 16)
                    try await waitUntilRefused(server.address)
                    try await busy.write("cd")
                    let answer = String(decoding: try await busy.readToEnd(limit: 1 << 16), as: UTF8.self)
                    #expect(answer.contains("4 bytes"), "\(answer)")
                    #expect(try await server.process.waitUntilExit() == .exited(0))
                    await idle.close()
                    await busy.close()
                }
            }
        }

        @Test(arguments: Way.allCases) func severalLoops(way: Way) throws {
            try onLoop {
                try await withServer(way.options, environment: ["RONDO_LOOPS": "2"]) { server in
                    for _ in 0..<4 {
                        let place = try await curl("\(server.url)/where")
                        #expect(place.contains(#""isOnLoop":true"#), "\(place)")
                    }
                }
            }
        }
    }
}
