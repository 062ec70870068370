import Rondo
import Testing

extension ExampleTests {
    @Suite struct ProxyTests {
        @Test(arguments: Driver.allCases) func whatOneSideHasFinishedTheOtherStillAnswers(driver: Driver) throws {
            try onLoop {
                let server = try await TCPListener.listen(on: .loopback(port: 0))
                try await withProgram("proxy", "0", "\(server.localAddress)", environment: driver.environment) {
                    proxy in
                    let client = try await TCPStream.connect(to: try await proxy.address())
                    let served = try await server.accept()
                    let (question, answer) = (pattern(3_000_000), pattern(2_000_000, seed: 7))
                    async let heard = served.readToEnd(limit: question.count)
                    try await client.write(question)
                    try await client.finishWriting()
                    #expect(try await heard == question)
                    // The client has said all; the server begins only now.
                    async let answered = client.readToEnd(limit: answer.count)
                    try await served.write(answer)
                    await served.close()
                    #expect(try await answered == answer)
                    let line = "\(try client.localAddress): \(question.count) bytes there, \(answer.count) back"
                    #expect(try await proxy.output.readLine() == line)
                    await client.close()
                    #expect(try await proxy.end(by: .interrupt) == .signalled(.interrupt, dumpedCore: false))
                }
                await server.close()
            }
        }

        @Test(arguments: Driver.allCases, [true, false]) func oneSideLeavesInTheMiddle(
            driver: Driver, isClient: Bool
        ) throws {
            try onLoop {
                let server = try await TCPListener.listen(on: .loopback(port: 0))
                try await withProgram("proxy", "0", "\(server.localAddress)", environment: driver.environment) {
                    proxy in
                    let address = try await proxy.address()
                    for _ in 0..<3 {
                        let client = try await TCPStream.connect(to: address)
                        let served = try await server.accept()
                        let (leaving, staying) = isClient ? (client, served) : (served, client)
                        try await leaving.write("hel")
                        #expect(try await staying.readExactly(3) == Array("hel".utf8))
                        await leaving.abort()
                        // The other one is not told that this was all.
                        let error = await #expect(throws: IOError.self) { _ = try await staying.read() }
                        #expect(error?.errno == .connectionReset)
                        await staying.close()
                        #expect(try await proxy.output.readLine()?.contains("Connection reset by peer") == true)
                    }
                    #expect(try await proxy.end(by: .terminate) == .signalled(.terminate, dumpedCore: false))
                }
                await server.close()
            }
        }

        @Test func noServer() throws {
            try onLoop {
                let server = try await TCPListener.listen(on: .loopback(port: 0))
                let nobody = server.localAddress
                await server.close()
                try await withProgram("proxy", "0", "\(nobody)") { proxy in
                    let client = try await TCPStream.connect(to: try await proxy.address())
                    let error = await #expect(throws: IOError.self) { _ = try await client.read() }
                    #expect(error?.errno == .connectionReset)
                    #expect(try await proxy.output.readLine()?.contains("Connection refused") == true)
                    await client.close()
                }
            }
        }

        @Test(arguments: [
            [], ["0"], ["x", "h:1"], ["0", "h"], ["0", ":80"], ["0", "h:"], ["0", "h:0"], ["0", "h:65536"],
            ["65536", "h:1"],
        ])
        func wrongArguments(arguments: [String]) throws {
            try onLoop {
                let outcome = try await run("proxy", arguments)
                #expect(outcome == .usage("proxy PORT HOST:PORT"))
            }
        }
    }
}
