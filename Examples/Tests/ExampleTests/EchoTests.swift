import Rondo
import Testing

extension ExampleTests {
    @Suite struct EchoTests {
        @Test(arguments: Driver.allCases, ["1", "2"]) func everyoneHearsHimself(driver: Driver, loops: String) throws {
            try onLoop {
                let environment = driver.environment.merging(["RONDO_LOOPS": loops]) { $1 }
                try await withProgram("echo", environment: environment) { echo in
                    let address = try await echo.address()
                    try await withThrowingTaskGroup { group in
                        for seed in 0..<20 {
                            group.addTask { try await talk(to: address, pattern(100_000, seed: seed)) }
                        }
                        try await group.waitForAll()
                    }
                    // One who leaves in the middle is nobody else's trouble.
                    let other = try await TCPStream.connect(to: address)
                    let leaving = try await TCPStream.connect(to: address)
                    try await leaving.write(pattern(1_000_000 >> 4))
                    await leaving.abort()
                    try await other.write("still here")
                    #expect(try await other.readExactly(10) == Array("still here".utf8))
                    #expect(try await echo.end(by: .interrupt) == .signalled(.interrupt, dumpedCore: false))
                    #expect(try await echo.errors() == "")
                    try await waitUntilRefused { () async throws(IOError) in
                        await (try TCPStream.connect(to: address)).close()
                    }
                    await other.close()
                }
            }
        }

        /// Says all of it, and no more, while it listens.
        private func talk(to address: SocketAddress, _ bytes: [UInt8]) async throws {
            let stream = try await TCPStream.connect(to: address)
            async let heard = stream.readToEnd(limit: bytes.count)
            try await stream.write(bytes)
            try await stream.finishWriting()
            #expect(try await heard == bytes)
            await stream.close()
        }

        @Test func itEndsWhenItIsAsked() throws {
            try onLoop {
                try await withProgram("echo") { echo in
                    _ = try await echo.address()
                    #expect(try await echo.end(by: .terminate) == .signalled(.terminate, dumpedCore: false))
                }
            }
        }

        @Test func aPortThatIsTaken() throws {
            try onLoop {
                try await withProgram("echo") { echo in
                    let address = try await echo.address()
                    let outcome = try await run("echo", ["--port", "\(address.port)"])
                    #expect(outcome.status == .exited(1) && outcome.output.isEmpty)
                    #expect(outcome.errors.hasPrefix("error: listen on \(address): Address already in use ("))
                }
            }
        }

        @Test(arguments: [
            ["--port"], ["--port", "x"], ["--port", "65536"], ["--port", "-1"], ["7777"], ["--port", "1", "2"],
        ])
        func wrongArguments(arguments: [String]) throws {
            try onLoop {
                let outcome = try await run("echo", arguments)
                #expect(outcome == .usage("echo [--port N], N from 0 to 65535"))
            }
        }
    }
}
