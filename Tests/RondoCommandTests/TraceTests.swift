import Testing

/// `rondo trace`, as a user meets it: of this command's own demo, which is a program like any other.
@Suite struct TraceTests {
    private func recorded() throws -> ScratchFolder {
        let folder = try ScratchFolder()
        folder.makeFolder("files")
        try folder.write("alpha", to: "files/a.txt")
        let outcome = try CommandUnderTest.run(
            ["demo", "--folder", "\(folder.path)/files", "--orders", "20", "--latency", "2", "--html", "page.html"],
            in: folder.path, environment: ["XDG_RUNTIME_DIR=\(folder.path)"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        return folder
    }

    private func trace(_ folder: ScratchFolder, _ arguments: String...) throws -> CommandOutcome {
        try CommandUnderTest.run(
            ["trace"] + arguments, in: folder.path, environment: ["XDG_RUNTIME_DIR=\(folder.path)"])
    }

    @Test func aProgramThatHasEndedIsToldOf() throws {
        let folder = try recorded()
        let file = try #require(ScratchFolder.names(in: "\(folder.path)/rondo").first { $0.hasSuffix(".trace") })
        let process = String(file.prefix { $0 != "." })
        let list = try trace(folder)
        #expect(list.status == 0)
        #expect(list.output.contains(process))
        #expect(list.output.contains("ended"))
        for source in ["rondo/\(file)", process] {
            let summary = try trace(folder, source)
            #expect(summary.status == 0, "\(summary.errors)")
            for words in ["rondo, process \(process), not running any more", "busiest tasks", "longest waits", "loop"] {
                #expect(summary.output.contains(words), "no \(words)")
            }
            #expect(summary.output.split(separator: "\n").allSatisfy { $0.count <= 80 })
        }
        let json = try trace(folder, process, "--json")
        #expect(json.output.hasPrefix("{\"displayTimeUnit\":\"ns\""))
        #expect(try trace(folder, process, "--html", "trace.html").output.isEmpty)
        #expect(CommandUnderTest.read("\(folder.path)/trace.html").hasPrefix("<!doctype html>"))
    }

    @Test func theDemoWritesItsPage() throws {
        let folder = try recorded()
        let page = CommandUnderTest.read("\(folder.path)/page.html")
        #expect(page.hasPrefix("<!doctype html>"))
        #expect(page.contains("\"order 20\""))
        #expect(page.contains("\"customer 20\""))
    }

    @Test func whatIsNoTraceIsRefused() throws {
        let folder = try ScratchFolder()
        try folder.write("hello", to: "hello.txt")
        let outcome = try trace(folder, "hello.txt")
        #expect(outcome.status == 1)
        #expect(outcome.errors == "error: hello.txt: this is no trace file\n")
        #expect(try trace(folder, "999999999").errors.contains("No such file or directory"))
        #expect(try trace(folder, "--json").status == 64)
        #expect(try trace(folder, "1", "--seconds", "0").status == 64)
        #expect(try trace(folder).output.contains("no traces in \(folder.path)/rondo"))
    }
}
