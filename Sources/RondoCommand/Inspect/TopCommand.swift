import ArgumentParser
import Glibc
import Rondo

/// `rondo top`: a program's loops and tasks, live.
struct TopCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "top",
        abstract: "Watch the loops and tasks of a running program, live.",
        discussion: "Press ? for the keys. The program goes on meanwhile, also when this ends.")

    @Argument(help: ArgumentHelp("The process to watch.", valueName: "pid"))
    var processID: Int32

    @Option(name: .shortAndLong, help: ArgumentHelp("Seconds between two looks, 0.2 to 60.", valueName: "seconds"))
    var delay = 1.0

    @Flag(help: "Print one picture, taken over the time of --delay, and end.")
    var once = false

    func validate() throws {
        if !(0.2...60).contains(delay) { throw ValidationError("--delay is 0.2 to 60 seconds.") }
    }

    func run() throws {
        let (processID, delay, once) = (processID, Duration.milliseconds(Int64(self.delay * 1000)), once)
        Command.runOnLoop {
            let top = await Top(processID, delay)
            if once {
                try await top.printOnce()
            } else {
                guard let terminal = Rondo.Terminal(), isatty(STDOUT_FILENO) == 1 else {
                    throw CommandFailure("rondo top needs a terminal: use --once, or `rondo ps`")
                }
                try await top.run(on: terminal)
            }
            return 0
        }
    }
}

/// Asks, listens to keys, and draws.
@MainActor
private final class Top {
    private let processID: Int32
    private let delay: Duration
    private var screen = TopScreen()
    private let start = ContinuousClock.now

    init(_ processID: Int32, _ delay: Duration) {
        self.processID = processID
        self.delay = delay
    }

    func printOnce() async throws {
        try await look()
        try await Task.sleep(for: delay)
        try await look()
        let lines = screen.lines(width: Terminal.output.width, height: 24, for: .output)
        Terminal.output.write(lines.joined(separator: "\n") + "\n")
    }

    func run(on terminal: Rondo.Terminal) async throws {
        try await look()
        // The other screen, without a cursor; and back.
        Terminal.output.write("\u{1B}[?1049h\u{1B}[?25l")
        defer { Terminal.output.write("\u{1B}[?25h\u{1B}[?1049l") }
        try await terminal.withRawMode {
            draw(terminal)
            try await withThrowingTaskGroup { group in
                group.addTask { try await self.listen(terminal) }
                group.addTask { try await self.watch(terminal) }
                group.addTask { for await _ in try terminal.sizeChanges() { await self.draw(terminal) } }
                group.addTask { for await _ in try Signals.of(.terminate, .hangup) { return } }
                // Who leaves first takes the others along.
                try await group.next()
                group.cancelAll()
            }
        }
    }

    private func look() async throws {
        let program = try InspectedProgram(try await InspectedProgram.ask(processID))
        screen.update(program, at: start.duration(to: .now) / .seconds(1))
    }

    private func watch(_ terminal: Rondo.Terminal) async throws {
        while true {
            try await Task.sleep(for: delay)
            do {
                try await look()
            } catch let error as CancellationError {
                throw error
            } catch {
                // The last picture stays, to be looked at.
                screen.fail("it has ended, or does not answer")
            }
            draw(terminal)
        }
    }

    private func listen(_ terminal: Rondo.Terminal) async throws {
        let input = try StandardStreams.input()
        while let bytes = try await input.read() {
            for key in Keys.read(bytes) {
                if key == nil || !screen.handle(key!) { return }
            }
            draw(terminal)
        }
    }

    private func draw(_ terminal: Rondo.Terminal) {
        guard let size = try? terminal.size else { return }
        let lines = screen.lines(width: size.columns, height: size.rows, for: .output)
        // Each line replaces what stood there, so that nothing flickers.
        let picture = lines.map { $0 + "\u{1B}[K" }.joined(separator: "\r\n")
        Terminal.output.write("\u{1B}[?2026h\u{1B}[H" + picture + "\u{1B}[J\u{1B}[?2026l")
    }
}

/// What a terminal in raw mode sends for keys.
private enum Keys {
    /// nil is Ctrl-C.
    static func read(_ bytes: [UInt8]) -> [TopScreen.Key?] {
        var keys: [TopScreen.Key?] = []
        var rest = bytes[...]
        let sequences: [([UInt8], TopScreen.Key)] = [
            (Array("\u{1B}[A".utf8), .up), (Array("\u{1B}[B".utf8), .down), (Array("\u{1B}OA".utf8), .up),
            (Array("\u{1B}OB".utf8), .down), (Array("\u{1B}[5~".utf8), .pageUp), (Array("\u{1B}[6~".utf8), .pageDown),
        ]
        while let byte = rest.first {
            if let (sequence, key) = sequences.first(where: { rest.starts(with: $0.0) }) {
                keys.append(key)
                rest = rest.dropFirst(sequence.count)
                continue
            }
            rest = rest.dropFirst()
            switch byte {
            case 3: keys.append(nil)
            case 10, 13: keys.append(.enter)
            case 8, 127: keys.append(.backspace)
            case 27:
                // A sequence that is not known here, or the key itself.
                if rest.first == UInt8(ascii: "[") { rest = [] } else { keys.append(.escape) }
            case 32..<127: keys.append(.character(Character(UnicodeScalar(byte))))
            default: break
            }
        }
        return keys
    }
}
