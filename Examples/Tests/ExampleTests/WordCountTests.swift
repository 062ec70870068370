import Rondo
import Testing

extension ExampleTests {
    @Suite struct WordCountTests {
        @Test(arguments: Driver.allCases, ["1", "all"]) func itCountsAsTheOtherOneDoes(
            driver: Driver, loops: String
        ) throws {
            try onLoop {
                let environment = driver.environment.merging(["RONDO_LOOPS": loops]) { $1 }
                try await TemporaryDirectory.with { folder in
                    let contents = [
                        "", "\n", "word", " \t\r\n", "two words\n", "a\u{b}b\u{c}c d\n\n\ne", " lead and trail \n",
                        // A word that goes on from one chunk to the next.
                        String(repeating: "x", count: 300_000) + "\n",
                        String(repeating: "some words and a line\n", count: 20_000),
                    ]
                    try await Files.makeDirectory(.init("\(folder)/deep/deeper"), withParents: true)
                    var names: [String] = []
                    for number in 0..<200 {
                        let name = "\(["", "deep/", "deep/deeper/"][number % 3])file \(100 + number)"
                        try await File.write(Array(contents[number % 9].utf8), to: .init("\(folder)/\(name)"))
                        names.append(name)
                    }
                    let all = try await run("wc", ["."], in: "\(folder)", environment: environment)
                    #expect(all == .success(try await other(names.map { "./\($0)" }.sorted(), in: "\(folder)")))
                    for some in [["file 100"], ["file 106", "file 103", "file 106"], Array(names.prefix(40))] {
                        let outcome = try await run("wc", some, in: "\(folder)", environment: environment)
                        #expect(outcome == .success(try await other(some, in: "\(folder)")))
                    }
                }
            }
        }

        /// What the system's own says.
        private func other(_ files: [String], in folder: String) async throws -> String {
            var command = ChildProcess.Command("wc", files)
            command.workingDirectory = .init(folder)
            command.environment = .update(["LC_ALL": "C"])
            return try await ChildProcess.run(command).text
        }

        @Test(arguments: Driver.allCases) func whatCannotBeReadIsNamed(driver: Driver) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    try await File.write(Array("one line\n".utf8), to: .init("\(folder)/a"))
                    try await Files.makeSymbolicLink(at: .init("\(folder)/loop"), to: "loop")
                    let outcome = try await run(
                        "wc", ["a", "none", "loop", "a"], in: "\(folder)", environment: driver.environment)
                    #expect(outcome.status == .exited(1))
                    #expect(outcome.output == " 1  2  9 a\n 1  2  9 a\n 2  4 18 total\n")
                    let errors = outcome.errors.split(separator: "\n")
                    #expect(errors.contains("wc: open none: No such file or directory (check the path)"))
                    #expect(errors.contains { $0.hasPrefix("wc: open loop: Too many levels of symbolic links") })
                    #expect(errors.last == "error: not everything could be counted")
                    #expect(errors.count == 3)
                    let none = try await run("wc", ["none"], in: "\(folder)", environment: driver.environment)
                    #expect(none.status == .exited(1) && none.output.isEmpty)
                }
            }
        }

        @Test(arguments: Driver.allCases) func anEmptyFolder(driver: Driver) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    let outcome = try await run("wc", ["\(folder)"], environment: driver.environment)
                    #expect(outcome == .success(""))
                }
            }
        }

        @Test func wrongArguments() throws {
            try onLoop {
                let outcome = try await run("wc")
                #expect(outcome == .usage("wc PATH..."))
            }
        }
    }
}
