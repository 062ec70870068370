import Rondo
import Testing

extension ExampleTests {
    @Suite struct CopyTests {
        @Test(arguments: Driver.allCases) func theCopyIsTheSame(driver: Driver) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    let line = Array("a line\n".utf8)
                    let contents = [[], line, line + Array("and an open one".utf8), pattern(3_000_000)]
                    let (from, to) = ("\(folder)/from", "\(folder)/to")
                    for content in contents {
                        try await File.write(content, to: .init(from))
                        var lines = content.count { $0 == UInt8(ascii: "\n") }
                        if let last = content.last, last != UInt8(ascii: "\n") { lines += 1 }
                        let outcome = try await run("copy", [from, to], environment: driver.environment)
                        #expect(outcome == .success("\(content.count) bytes, \(lines) lines\n"))
                        #expect(try await File.contents(of: .init(to)) == content)
                    }
                }
            }
        }

        @Test(arguments: Driver.allCases) func whatCannotBeCopiedTouchesNothing(driver: Driver) throws {
            try onLoop {
                try await TemporaryDirectory.with { folder in
                    let (one, link) = ("\(folder)/one", "\(folder)/link")
                    let content = pattern(1000)
                    try await File.write(content, to: .init(one))
                    try await Files.link(.init(one), to: .init(link))
                    let cases = [
                        ([one, one], "\(one) and \(one) are the same file"),
                        ([one, link], "\(one) and \(link) are the same file"),
                        (["\(folder)", one], "\(folder) is a folder"),
                        (["/none", one], "open /none: No such file or directory (check the path)"),
                        ([one, "/none/x"], "open /none/x: No such file or directory (check the path)"),
                        ([one, "\(folder)"], "open \(folder): Is a directory (name a file, not a folder)"),
                    ]
                    for (arguments, error) in cases {
                        #expect(try await run("copy", arguments, environment: driver.environment) == .failure(error))
                        #expect(try await File.contents(of: .init(one)) == content)
                    }
                }
            }
        }

        @Test(arguments: [[], ["a"], ["a", "b", "c"]]) func wrongArguments(arguments: [String]) throws {
            try onLoop {
                let outcome = try await run("copy", arguments)
                #expect(outcome == .usage("copy FROM TO"))
            }
        }
    }
}
