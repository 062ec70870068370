import Rondo
import Testing

extension IntegrationTests {
    /// NIO's threads do the I/O of these clients; what calls them, and their own async code, does not leave the loop.
    @Suite struct ClientTests {
        @Test(arguments: Driver.allCases) func asyncHTTPClient(driver: Driver) throws {
            try onLoop {
                let output = try await probe("http", driver)
                #expect(output.first == "200 answers were right")
                #expect(output.dropFirst().first == "4000000 bytes came back")
                expectHome(output.last, atLeast: 1000)
            }
        }

        @Test(arguments: Driver.allCases) func grpc(driver: Driver) throws {
            try onLoop {
                let output = try await probe("grpc", driver)
                #expect(output.first == "200 answers were right")
                #expect(output.dropFirst().first == "200 messages came back in order")
                expectHome(output.last, atLeast: 1600)
            }
        }

        private func probe(_ kind: String, _ driver: Driver) async throws -> [Substring] {
            let result = try await ChildProcess.run(try await command("client-probe", [kind], driver.environment))
            #expect(result.status == .exited(0), "\(String(decoding: result.errors, as: UTF8.self))")
            return result.text.split(separator: "\n")
        }

        /// Looks where the code runs were taken, and found nothing.
        private func expectHome(_ line: Substring?, atLeast count: Int) {
            let numbers = (line ?? "").split { !$0.isNumber }.compactMap { Int($0) }
            #expect(numbers.count == 2 && numbers[0] >= count && numbers[1] == 0, "\(line ?? "nothing")")
        }
    }
}
