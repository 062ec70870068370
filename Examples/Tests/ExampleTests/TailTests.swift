import Rondo
import Testing

extension ExampleTests {
    @Suite struct TailTests {
        @Test(arguments: Driver.allCases) func itBeginsWithTheLastLines(driver: Driver) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    let file = "\(folder)/log"
                    let numbers = (1...30_000).map { "line \($0)\n" }.joined()
                    let long = String(repeating: "x", count: 70_000)
                    for content in [
                        numbers, numbers + "open", "one\n", "open", "\n\n\n", "a\n\(long)\nb\n", "\(long)\nc",
                    ] {
                        for count in [1, 2, 3, 10_000] {
                            try await File.write(Array(content.utf8), to: .init(file))
                            var lines = content.split(separator: "\n", omittingEmptySubsequences: false)
                            if lines.last == "" { lines.removeLast() }
                            var expected = lines.suffix(count).joined(separator: "\n")
                            if content.hasSuffix("\n") { expected += "\n" }
                            try await withProgram("tail", "-n", "\(count)", file, environment: driver.environment) {
                                tail in
                                let text = try await tail.output.readExactly(expected.utf8.count)
                                #expect(String(decoding: text, as: UTF8.self) == expected)
                                // And nothing before what comes next.
                                try await append("next\n", to: file)
                                #expect(try await tail.output.readExactly(5) == Array("next\n".utf8))
                            }
                        }
                    }
                }
            }
        }

        @Test(arguments: Driver.allCases) func itFollowsTheName(driver: Driver) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    let file = "\(folder)/log"
                    try await File.write(Array("1\n2\n3\n".utf8), to: .init(file))
                    try await withProgram("tail", "-n", "1", file, environment: driver.environment) { tail in
                        func expectLine(_ line: String) async throws {
                            #expect(try await tail.output.readLine() == line)
                        }
                        try await expectLine("3")
                        for number in 4...50 {
                            try await append("\(number)", to: file)
                            try await append("\n", to: file)
                        }
                        for number in 4...50 { try await expectLine("\(number)") }
                        // Others in the folder are not its business.
                        try await File.write(Array("other\n".utf8), to: .init("\(folder)/other"))
                        // Emptied.
                        try await File.write(Array("anew\n".utf8), to: .init(file))
                        try await expectLine("anew")
                        // Moved away, written to once more, and then there is another one.
                        try await Files.rename(.init(file), to: .init("\(folder)/log.1"))
                        try await append("last words\n", to: "\(folder)/log.1")
                        try await append("first words\n", to: file)
                        try await expectLine("last words")
                        try await expectLine("first words")
                        // Replaced in one step, by a shorter and by a longer one.
                        for text in ["x", "much longer than all that was there before"] {
                            try await File.replace(at: .init(file), with: Array("\(text)\n".utf8))
                            try await expectLine(text)
                        }
                        // Gone, and there again.
                        try await Files.remove(.init(file))
                        try await append("back\n", to: file)
                        try await expectLine("back")
                        #expect(try await tail.end(by: .interrupt) == .signalled(.interrupt, dumpedCore: false))
                    }
                }
            }
        }

        @Test(arguments: Driver.allCases) func theWholeFolderIsMovedAway(driver: Driver) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    let below = "\(folder)/below"
                    try await Files.makeDirectory(.init(below))
                    try await File.write(Array("text\n".utf8), to: .init("\(below)/log"))
                    try await withProgram("tail", "\(below)/log", environment: driver.environment) { tail in
                        #expect(try await tail.output.readLine() == "text")
                        try await Files.rename(.init(below), to: .init("\(folder)/elsewhere"))
                        #expect(try await tail.process.waitUntilExit() == .exited(0))
                    }
                }
            }
        }

        @Test func whatCannotBeRead() throws {
            try onLoop {
                let error = "open /none/x: No such file or directory (check the path)"
                let missing = try await run("tail", ["/none/x"])
                #expect(missing == .failure(error))
                let folder = try await run("tail", ["/tmp"])
                #expect(folder.status == .exited(1))
            }
        }

        @Test(arguments: [[], ["-n", "1"], ["-n", "x", "f"], ["-n", "-1", "f"], ["-x", "1", "f"], ["a", "b"]])
        func wrongArguments(arguments: [String]) throws {
            try onLoop {
                let outcome = try await run("tail", arguments)
                #expect(outcome == .usage("tail [-n LINES] FILE"))
            }
        }

        private func append(_ text: String, to file: String) async throws {
            try await File.with(.init(file), .append()) { (file) async throws(IOError) in
                try await file.append(Array(text.utf8))
            }
        }
    }
}
