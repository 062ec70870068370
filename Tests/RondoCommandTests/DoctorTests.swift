import Testing

/// `rondo doctor` and `--help`.
@Suite struct DoctorTests {
    @Test func itSaysWhichDriverAndWhy() throws {
        let outcome = try CommandUnderTest.run(["doctor"], environment: ["RONDO_DRIVER="])
        #expect(outcome.status == 0, "\(outcome.errors)")
        for word in [
            "Driver", "driver", "ring", "no-op", "multishot accept", "open files", "locked memory", "somaxconn",
        ] {
            #expect(outcome.output.contains(word), "no \(word) in the report")
        }
        #expect(outcome.output.split(separator: "\n").allSatisfy { $0.count <= 80 })
    }

    @Test func machinesGetOneObject() throws {
        let outcome = try CommandUnderTest.run(["doctor", "--json"])
        #expect(outcome.status == 0)
        #expect(outcome.output.hasPrefix("{\"driver\": \""))
        #expect(outcome.output.hasSuffix("]}\n"))
    }

    @Test func aDriverThatDoesNotExistIsNamed() throws {
        let outcome = try CommandUnderTest.run(["doctor"], environment: ["RONDO_DRIVER=kqueue"])
        #expect(outcome.status == 1)
        #expect(outcome.output.contains("RONDO_DRIVER=kqueue"))
    }

    @Test func theWishForADriverIsHeard() throws {
        let outcome = try CommandUnderTest.run(["doctor"], environment: ["RONDO_DRIVER=epoll"])
        #expect(outcome.status == 0)
        #expect(outcome.output.contains("epoll: RONDO_DRIVER says epoll"))
    }

    @Test(arguments: [[], ["demo"], ["doctor"]])
    func helpIsThere(subcommand: [String]) throws {
        let outcome = try CommandUnderTest.run(subcommand + ["--help"])
        #expect(outcome.status == 0)
        #expect(outcome.output.contains("USAGE: rondo"))
        #expect(outcome.output.contains("OVERVIEW: "))
    }
}
