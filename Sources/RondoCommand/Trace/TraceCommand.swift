import ArgumentParser
import Glibc
import Rondo
import RondoInsight
import SystemPackage

/// `rondo trace`: what a program's flight recorder has kept.
struct TraceCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "trace",
        abstract: "Show what the tasks of a program did, and why they waited.",
        discussion: """
            Every RondoProgram records what happens on its loops in a file of fixed size, which outlives it: in \
            $XDG_RUNTIME_DIR/rondo, or in /tmp/rondo-UID. Name the process, or the file; without a name, the files \
            that are there are listed. RONDO_INSPECT=off in a program's environment turns its recorder off.

            The latest events are kept, of older ones only how many they were. The summary is for people; --json is \
            for Perfetto (ui.perfetto.dev) and chrome://tracing, --html is a page that needs nothing but a browser.
            """)

    @Argument(help: ArgumentHelp("A process's number, or a trace file.", valueName: "pid-or-file"))
    var source: String?

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp(
            "Of a process that runs: what it does in the coming seconds. Of one that has ended: its last seconds.",
            valueName: "seconds"))
    var seconds: Double?

    @Flag(help: "Print Trace Event JSON instead of the summary.")
    var json = false

    @Option(help: ArgumentHelp("Write a page to look at in a browser.", valueName: "path"))
    var html: String?

    func validate() throws {
        if let seconds, !seconds.isFinite || seconds <= 0 || seconds > 3600 {
            throw ValidationError("--seconds \(seconds): use more than 0, at most 3600.")
        }
        if source == nil, json || html != nil || seconds != nil {
            throw ValidationError("Name a process or a trace file.")
        }
        if let html, html.isEmpty { throw ValidationError("--html: the path is empty.") }
        if json, html != nil { throw ValidationError("Use --json or --html, not both.") }
    }

    func run() throws {
        do throws(TraceError) {
            guard let source else { return try list() }
            let path = Self.path(of: source)
            let before = try TraceReading.file(at: path)
            let isFollowed = before.isAlive && seconds != nil
            let trace = isFollowed ? try follow(path) : before
            let model = TraceModel(trace, lastSeconds: isFollowed ? nil : seconds)
            if json { return Terminal.output.write(TraceJSON.string(model)) }
            if let html { return try write(TracePage.html(model), to: html) }
            let summary = TraceSummary(model, isAlive: trace.isAlive)
            for (number, line) in summary.lines.enumerated() {
                Terminal.output.say(number == 0 ? Terminal.output.paint(line, .bold) : line)
            }
        } catch {
            Terminal.errors.say("error: \(error)")
            throw ExitCode(1)
        }
    }

    /// A number is a process's, unless there is a file of that name.
    private static func path(of source: String) -> String {
        // SAFETY: reads the C string within the call.
        guard let process = Int32(source), unsafe access(source, F_OK) != 0 else { return source }
        return TraceReading.path(ofProcess: process)
    }

    private func follow(_ path: String) throws(TraceError) -> TraceFile {
        let end = ContinuousClock.now + .seconds(seconds ?? 0)
        return try TraceReading.following(path: path) {
            let left = end - ContinuousClock.now
            if left <= .zero { return false }
            usleep(UInt32(min(left, .milliseconds(20)).nanosecondsRoundedUp / 1000) + 1)
            return true
        }
    }

    private func list() throws(TraceError) {
        let listings = try TraceReading.all()
        if listings.isEmpty {
            return Terminal.output.say("no traces in \(TraceFolder.path): start a RondoProgram")
        }
        Terminal.output.say(
            Terminal.output.paint("    pid  state    loops      events  started                  program", .faint))
        for listing in listings {
            let trace = listing.trace
            let events = trace.rings.reduce(0) { $0 + $1.recorded }
            let started = spoken(secondsSince1970: Int(truncatingIfNeeded: trace.startRealtime / 1_000_000_000))
            var line = "\(trace.process)".right(7) + "  " + (trace.isAlive ? "running" : "ended").left(7)
            line += "\(trace.rings.count)".right(7) + events.grouped.right(12) + "  " + started.left(25)
            Terminal.output.say(line + JSON.string(trace.program).dropFirst().dropLast())
        }
    }
}

/// Writes a text file.
func write(_ text: String, to path: String) throws(TraceError) {
    do {
        let file = try FileDescriptor.open(
            FilePath(path), .writeOnly, options: [.create, .truncate], permissions: .ownerReadWrite)
        _ = try file.closeAfter { try file.writeAll(text.utf8) }
    } catch {
        throw TraceError("\(path): \(error)")
    }
}
