import Rondo
import Testing

extension ExampleTests {
    @Suite struct PubSubTests {
        @Test(arguments: Driver.allCases) func subscribersHearTheirTopic(driver: Driver) throws {
            try onLoop {
                try await withServer(driver) { server, path in
                    func publish(_ topic: String, _ text: String) async throws {
                        let outcome = try await run(
                            "pubsub", ["pub", path, topic, text], environment: driver.environment)
                        #expect(outcome == .success(""))
                    }
                    try await publish("weather", "nobody hears it")
                    try await withProgram("pubsub", "sub", path, "weather", environment: driver.environment) { one in
                        #expect(try await one.output.readLine() == "subscribed to weather")
                        try await withProgram("pubsub", "sub", path, "sport") { other in
                            #expect(try await other.output.readLine() == "subscribed to sport")
                            try await publish("weather", "it rains  a lot ")
                            try await publish("sport", "one to nil")
                            try await publish("weather", "it is dry")
                            #expect(try await one.output.readLine() == "it rains  a lot ")
                            #expect(try await one.output.readLine() == "it is dry")
                            #expect(try await other.output.readLine() == "one to nil")
                            // One leaves, the other stays.
                            let status = try await other.end(by: .interrupt)
                            #expect(status == .signalled(.interrupt, dumpedCore: false))
                        }
                        try await publish("sport", "over")
                        try await publish("weather", "snow")
                        #expect(try await one.output.readLine() == "snow")
                        // The server's end is the subscriber's, and removes the socket.
                        #expect(try await server.end(by: .interrupt) == .exited(0))
                        #expect(try await one.process.waitUntilExit() == .exited(0))
                    }
                    #expect(try await !Files.exists(.init(path)))
                    #expect(try await server.errors() == "")
                }
            }
        }

        @Test(arguments: Driver.allCases) func nobodyWaitsForWhoReadsTooSlowly(driver: Driver) throws {
            try onLoop {
                try await withServer(driver) { server, path in
                    let slow = try await UnixStream.connect(to: .path(.init(path)))
                    try await slow.write("sub flood\n")
                    let lines = BufferedReader(slow)
                    #expect(try await lines.readLine() == "subscribed to flood")
                    let publisher = try await UnixStream.connect(to: .path(.init(path)))
                    let count = 60_000
                    let message = "pub flood \(String(repeating: "bla", count: 300))\n"
                    for _ in 0..<count / 100 { try await publisher.write(String(repeating: message, count: 100)) }
                    try await publisher.finishWriting()
                    #expect(try await publisher.readToEnd(limit: 0).isEmpty, "all was taken")
                    #expect(try await server.peakMemory() < 30_000, "and not all was kept")
                    let end = try await run("pubsub", ["pub", path, "flood", "end"])
                    #expect(end == .success(""))
                    var (heard, missed) = (0, 0)
                    while let line = try await lines.readLine(), line != "end" {
                        if line.hasPrefix("* ") { missed += try #require(Int(words(line)[1])) } else { heard += 1 }
                    }
                    #expect(heard + missed == count && missed > 0)
                    // It breaks off, and the server goes on.
                    await slow.abort()
                    #expect(try await run("pubsub", ["pub", path, "flood", "again"]) == .success(""))
                    #expect(try await server.end(by: .terminate) == .exited(0))
                    await publisher.close()
                }
            }
        }

        @Test(arguments: Driver.allCases) func aSecondServer(driver: Driver) throws {
            try onLoop {
                try await withServer(driver) { server, path in
                    let second = try await run("pubsub", ["serve", path], environment: driver.environment)
                    #expect(second.status == .exited(1))
                    #expect(second.errors.hasPrefix("error: listen on \(path): Address already in use"))
                    // One that was killed leaves its socket behind; the next one takes the name.
                    #expect(try await server.end(by: .kill) == .signalled(.kill, dumpedCore: false))
                    try await waitUntilRefused { () async throws(IOError) in
                        await (try UnixStream.connect(to: .path(.init(path)))).close()
                    }
                    let refused = try await run("pubsub", ["sub", path, "x"])
                    #expect(refused == .failure("connect to \(path): Connection refused (is the server running?)"))
                    try await withProgram("pubsub", "serve", path) { next in
                        #expect(try await next.output.readLine() == "serving at \(path)")
                        let outcome = try await run("pubsub", ["pub", path, "x", "y"])
                        #expect(outcome == .success(""))
                    }
                }
            }
        }

        @Test func noServer() throws {
            try onLoop {
                let error = "connect to /none/x: No such file or directory (check the path)"
                for arguments in [["sub", "/none/x", "topic"], ["pub", "/none/x", "topic", "text"]] {
                    let outcome = try await run("pubsub", arguments)
                    #expect(outcome == .failure(error))
                }
                let server = try await run("pubsub", ["serve", "/none/x"])
                #expect(server.status == .exited(1))
            }
        }

        @Test(arguments: [
            [], ["serve"], ["serve", "a", "b"], ["sub", "a"], ["sub", "a", "b", "c"], ["pub", "a", "b"], ["stop", "a"],
        ])
        func wrongArguments(arguments: [String]) throws {
            let usage = "pubsub serve PATH | sub PATH TOPIC | pub PATH TOPIC MESSAGE"
            try onLoop {
                let outcome = try await run("pubsub", arguments)
                #expect(outcome == .usage(usage))
            }
        }

        private func withServer(_ driver: Driver, _ body: (Program, String) async throws -> Void) async throws {
            try await TemporaryDirectory.with { folder in
                let path = "\(folder)/news.sock"
                try await withProgram("pubsub", "serve", path, environment: driver.environment) { server in
                    #expect(try await server.output.readLine() == "serving at \(path)")
                    try await body(server, path)
                }
            }
        }
    }
}
