import ArgumentParser
import Rondo
import RondoInsight

/// `rondo demo`: what may be set, and whether it makes sense.
struct DemoCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "demo",
        abstract: "Download files for hundreds of customers at once, on one thread.",
        discussion: """
            An origin serves every file of a folder over HTTP, each answer after a while, as a distant host would. An \
            index in SQLite or PostgreSQL holds path, size and SHA-256 of each file. Customers each ask the front for \
            one file: the front looks it up in the index, downloads it from the origin, checks the SHA-256 and sends \
            it on.

            The same orders run twice: one after another, and all at once. Sockets, files and database are real, and \
            one thread runs it all (SQLite is read on a few threads for calls that block; PostgreSQL needs none). The \
            report goes to standard output, progress and errors to standard error.

            A changed file, a missing file or a dead origin is an error of the order that meets it; the others go on. \
            The exit status is 0 if no order failed, 1 if one did, 64 if the arguments make no sense.
            """)

    @Option(
        help: ArgumentHelp(
            "The folder that the origin serves. Hidden files and folders and symbolic links are left out.",
            discussion: "By default Sources and docs of the Rondo package that the working directory is in.",
            valueName: "path"))
    var folder: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("How many customers order; each file is ordered equally often.", valueName: "count"))
    var orders = 500

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "How long the origin takes for an answer, give or take a quarter.", valueName: "milliseconds"))
    var latency = 20.0

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("How long orders run one after another; as many as fit.", valueName: "seconds"))
    var sequentialBudget = 3.0

    @Option(
        help: ArgumentHelp(
            "Where the index is kept, and used again the next time: a file (SQLite) or postgres://…",
            discussion: """
                Files that are new get a row; files that were changed keep theirs, so that orders for them fail. To \
                make the index anew, delete it (in PostgreSQL: the table rondo_demo_file). By default it is made in a \
                temporary folder and removed at the end.
                """,
            valueName: "place"))
    var database: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Leave out files that are larger: orders hold them in memory.", valueName: "bytes"))
    var largestFile = 1 << 20

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("To see failures: the origin dies after this many answers.", valueName: "count"))
    var breakOriginAfter: Int?

    @Option(
        help: ArgumentHelp(
            "Write a page that shows every task of the run with all orders at once, and why it waited.",
            valueName: "path"))
    var html: String?

    @Flag(help: "Order again and again, and watch all tasks live, as `rondo top` does, until q is pressed.")
    var top = false

    @Flag(help: "Print one JSON object instead of the report.")
    var json = false

    func validate() throws {
        guard (1...1_000_000).contains(orders) else {
            throw ValidationError("--orders \(orders): use 1 to 1000000.")
        }
        guard latency.isFinite, (0...3_600_000).contains(latency) else {
            throw ValidationError("--latency \(latency): use 0 to 3600000 milliseconds.")
        }
        guard sequentialBudget.isFinite, sequentialBudget > 0, sequentialBudget <= 3600 else {
            throw ValidationError("--sequential-budget \(sequentialBudget): use more than 0, at most 3600 seconds.")
        }
        guard (0...(1 << 30)).contains(largestFile) else {
            throw ValidationError("--largest-file \(largestFile): use 0 to \(1 << 30) bytes.")
        }
        if let count = breakOriginAfter, count < 0 {
            throw ValidationError("--break-origin-after \(count): use 0 or more.")
        }
        if let database, database.isEmpty { throw ValidationError("--database: the path is empty.") }
        if let html, html.isEmpty { throw ValidationError("--html: the path is empty.") }
        if top, json || html != nil { throw ValidationError("--top shows no report: leave --json and --html out.") }
        if let folder, folder.isEmpty { throw ValidationError("--folder: the path is empty.") }
    }

    func run() throws {
        let command = self
        Command.runOnLoop {
            if command.top {
                try DemoTop.requireTerminal()
                let tally = try await DemoRun(command).runWatched()
                Terminal.output.write(tally.text)
                return tally.failed == 0 ? 0 : 1
            }
            let result = try await DemoRun(command).run()
            Terminal.output.write(command.json ? result.json : result.text(for: .output))
            if let path = command.html, let trace = result.trace {
                try write(TracePage.html(TraceModel(trace, names: Recording.names(in: trace))), to: path)
            }
            let complaints = result.complaints
            if !complaints.isEmpty { Terminal.errors.write(complaints) }
            return result.isGood ? 0 : 1
        }
    }
}
