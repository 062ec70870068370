import Rondo
import RondoDatabase
import Testing

/// `rondo demo`, as a user meets it. Real sockets, files and databases; no clock decides anything.
@Suite struct DemoTests {
    private static let keys: Set<String> = [
        "orders", "failed", "bytesVerified", "sequentialOrdersPerSecond", "concurrentOrdersPerSecond", "ratio",
        "mostWaiting", "loopThreads", "driver", "driverReason",
    ]

    /// A folder of three files: 5, 7 and 70,000 bytes.
    private func makeFolder() throws -> ScratchFolder {
        let folder = try ScratchFolder()
        folder.makeFolder("files")
        folder.makeFolder("files/deep")
        try folder.write("alpha", to: "files/a.txt")
        try folder.write("bravo-b", to: "files/deep/b.txt")
        try folder.write(String(repeating: "charlie 10", count: 7000), to: "files/c d.txt")
        return folder
    }

    private func demo(_ folder: ScratchFolder, _ more: String...) throws -> CommandOutcome {
        try CommandUnderTest.run(
            ["demo", "--folder", "\(folder.path)/files", "--latency", "2", "--sequential-budget", "0.05"] + more)
    }

    @Test func machinesGetOneObjectWithEveryKey() throws {
        let outcome = try demo(makeFolder(), "--orders", "60", "--json")
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(Set(outcome.fields.keys) == Self.keys)
        #expect(outcome.output.split(separator: "\n").count == 1)
        #expect(outcome.integer("orders") == 60)
        #expect(outcome.integer("failed") == 0)
        #expect(outcome.integer("bytesVerified") == 20 * (5 + 7 + 70_000))
        #expect(outcome.integer("loopThreads") == 1)
        #expect(outcome.number("sequentialOrdersPerSecond") ?? 0 > 0)
        #expect(outcome.number("concurrentOrdersPerSecond") ?? 0 > 0)
        #expect(outcome.number("ratio") ?? 0 > 0)
        #expect(outcome.fields["driver"] == "io_uring" || outcome.fields["driver"] == "epoll")
        #expect(outcome.fields["driverReason"]?.isEmpty == false)
    }

    @Test func manyOrdersWaitAtOnce() throws {
        // While the origin takes 200 ms for an answer, every customer gets as far as waiting for it.
        let outcome = try demo(makeFolder(), "--orders", "100", "--json", "--latency", "200")
        #expect(outcome.number("mostWaiting") ?? 0 > 50, "\(outcome.output)")
    }

    @Test func peopleGetATimeline() throws {
        let outcome = try demo(makeFolder(), "--orders", "30")
        #expect(outcome.status == 0, "\(outcome.errors)")
        for word in [
            "one after another", "all at once", "ratio", "driver", "█ running", "for origin", "bytes verified",
        ] {
            #expect(outcome.output.contains(word), "no \(word) in the report")
        }
        #expect(!outcome.output.contains("\u{1B}"), "colour in a file")
        #expect(outcome.output.split(separator: "\n").allSatisfy { $0.count <= 80 || $0.contains(" of /") })
        #expect(outcome.errors.contains("30 of 30 orders"))
    }

    @Test func aChangedFileIsAnErrorOfItsOrders() throws {
        let folder = try makeFolder()
        #expect(try demo(folder, "--database", "\(folder.path)/index").status == 0)
        try folder.write("brave-b", to: "files/deep/b.txt")
        let outcome = try demo(folder, "--database", "\(folder.path)/index", "--orders", "6", "--json")
        #expect(outcome.status == 1)
        #expect(outcome.integer("failed") == 2)
        #expect(outcome.integer("bytesVerified") == 2 * (5 + 70_000))
        #expect(outcome.errors.contains("(deep/b.txt): its SHA-256 is"))
        #expect(outcome.errors.contains("2 of 6 orders failed"))
    }

    @Test func aFileOfAnotherSizeIsAnErrorOfItsOrders() throws {
        let folder = try makeFolder()
        #expect(try demo(folder, "--database", "\(folder.path)/index").status == 0)
        try folder.write("alphabet", to: "files/a.txt")
        let outcome = try demo(folder, "--database", "\(folder.path)/index", "--orders", "3")
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("order 1 (a.txt): from the origin: it has 8 bytes, and the index says 5"))
    }

    @Test func aMissingFileIsAnErrorOfItsOrders() throws {
        let folder = try makeFolder()
        #expect(try demo(folder, "--database", "\(folder.path)/index").status == 0)
        folder.removeFile("files/a.txt")
        let outcome = try demo(folder, "--database", "\(folder.path)/index", "--orders", "60")
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("order 1 (a.txt): from the origin: open"))
        #expect(outcome.errors.contains("No such file or directory"))
        #expect(outcome.errors.contains("and 10 more\n20 of 60 orders failed"))
    }

    @Test func aDeadOriginIsAnErrorOfEveryOrder() throws {
        let outcome = try demo(makeFolder(), "--break-origin-after", "0", "--orders", "12", "--json")
        #expect(outcome.status == 1)
        #expect(outcome.integer("failed") == 12)
        #expect(outcome.integer("bytesVerified") == 0)
        #expect(outcome.number("ratio") == 0)
        #expect(outcome.errors.contains("GET http://127.0.0.1:"))
        #expect(outcome.errors.contains("Connection refused"))
    }

    @Test func anOriginThatDiesFailsEveryOrderAfter() throws {
        // The budget ends with the first order, which gets the only answer.
        let outcome = try demo(
            makeFolder(), "--break-origin-after", "1", "--orders", "12", "--json", "--sequential-budget", "0.0001")
        #expect(outcome.status == 1)
        #expect(outcome.number("sequentialOrdersPerSecond") ?? 0 > 0)
        #expect(outcome.integer("failed") == 12)
    }

    @Test func theIndexIsKeptAndGrows() throws {
        let folder = try makeFolder()
        let index = ["--database", "\(folder.path)/index"]
        #expect(try demo(folder, index[0], index[1], "--orders", "3").output.contains("for 3 files"))
        try folder.write("delta", to: "files/e.txt")
        #expect(try demo(folder, index[0], index[1], "--orders", "4").output.contains("for 4 files"))
        #expect(folder.names == ["files", "index"])
    }

    @Test func nothingIsLeftInTheTemporaryFolder() throws {
        let temporary = try ScratchFolder()
        let folder = try makeFolder()
        let outcome = try CommandUnderTest.run(
            [
                "demo", "--folder", "\(folder.path)/files", "--orders", "3", "--latency", "0", "--sequential-budget",
                "0.01",
            ],
            environment: ["TMPDIR=\(temporary.path)"])
        #expect(outcome.status == 0, "\(outcome.errors)")
        #expect(temporary.names == [])
    }

    @Test func anIndexHoldsTheFilesOfSeveralFolders() throws {
        let (folder, other) = try (makeFolder(), makeFolder())
        try other.write("other", to: "files/a.txt")
        for place in [folder, other, folder] {
            #expect(try demo(place, "--database", "\(folder.path)/index").status == 0)
        }
    }

    @Test func aDatabaseOfAnotherProgramIsLeftAlone() throws {
        let folder = try makeFolder()
        let path = "\(folder.path)/theirs"
        try EventLoop.run {
            let database = try await SQLiteDatabase.open(path)
            try await database.execute("CREATE TABLE important (value TEXT)")
            await database.close()
        }
        let outcome = try demo(folder, "--database", path)
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("open index \(path): it is a database of another program"))
    }

    #if !PostgreSQL
    @Test func withoutTheTraitPostgreSQLIsRefused() throws {
        let outcome = try demo(makeFolder(), "--database", "postgres://127.0.0.1/x")
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("built without PostgreSQL: build it with"))
    }
    #endif

    @Test(arguments: [
        (["--folder", "/does/not/exist"], "stat /does/not/exist: No such file or directory"),
        (["--folder", "/dev/null"], "it is not a folder"),
        (["--database", "/does/not/exist/index"], "unable to open database file"),
        (["--database", "/dev/null/index"], "unable to open database file"),
        ([], "say which files to serve: --folder PATH"),
    ])
    func whatCannotBeDoneIsSaid(arguments: [String], words: String) throws {
        let folder = try makeFolder()
        let rest = arguments.first == "--database" ? ["--folder", folder.path] : []
        let outcome = try CommandUnderTest.run(["demo"] + arguments + rest, in: folder.path)
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains(words), "\(outcome.errors)")
        #expect(outcome.output == "")
    }

    @Test func anEmptyFolderIsSaid() throws {
        let folder = try ScratchFolder()
        try folder.write("hidden", to: ".hidden")
        let outcome = try CommandUnderTest.run(["demo", "--folder", folder.path])
        #expect(outcome.status == 1)
        #expect(outcome.errors.contains("there is no file to serve in \(folder.path)"))
    }

    @Test(arguments: [
        ["--orders", "0"], ["--orders", "many"], ["--latency", "-5"], ["--latency", "nan"],
        ["--sequential-budget", "0"], ["--folder", ""], ["--no-such-option"], ["surplus"],
    ])
    func argumentsThatMakeNoSenseAreRefused(arguments: [String]) throws {
        let outcome = try CommandUnderTest.run(["demo"] + arguments)
        #expect(outcome.status == 64)
        #expect(outcome.errors.contains("Error: "))
        #expect(outcome.output == "")
    }
}
