// Terminals: a pseudo terminal of the test's own.

import CRondo
import CTestSupport
import Glibc
import SystemPackage
import Testing

@testable import Rondo

/// The two ends of a pseudo terminal.
private struct PseudoTerminal {
    let controller: Int32
    let terminal: Int32
    let path: String

    init() throws {
        var (controller, terminal): (Int32, Int32) = (-1, -1)
        var name = [CChar](repeating: 0, count: 64)
        try #require(unsafe test_open_terminal(&controller, &terminal, &name) == 0)
        self.controller = controller
        self.terminal = terminal
        path = String(decoding: name.prefix { $0 != 0 }.map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    func close() {
        Glibc.close(terminal)
        Glibc.close(controller)
    }

    /// Whether it gives lines (and not each key).
    var isCooked: Bool {
        var settings = termios()
        unsafe #expect(tcgetattr(terminal, &settings) == 0)
        return settings.c_lflag & tcflag_t(ICANON) != 0
    }
}

extension LoopSuites {
    @Suite struct TerminalTests {
        @Test(arguments: World.real) func sizes(world: World) throws {
            let pseudo = try PseudoTerminal()
            defer { pseudo.close() }
            try world.run {
                #expect(test_set_terminal_size(pseudo.terminal, 80, 24) == 0)
                let terminal = try #require(Terminal(FileDescriptor(rawValue: pseudo.terminal)))
                let size = try terminal.size
                #expect(size == Terminal.Size(columns: 80, rows: 24))
                var changes = try terminal.sizeChanges().makeAsyncIterator()
                #expect(test_set_terminal_size(pseudo.terminal, 100, 50) == 0)
                #expect(kill(getpid(), SIGWINCH) == 0)
                #expect(await changes.next() == Terminal.Size(columns: 100, rows: 50))
                let null = try FileDescriptor.open(FilePath("/dev/null"), .readWrite)
                #expect(Terminal(null) == nil)
                try null.close()
            }
        }

        @Test(arguments: World.real) func rawModeEndsWithItsScope(world: World) throws {
            let pseudo = try PseudoTerminal()
            defer { pseudo.close() }
            try world.run {
                let terminal = try #require(Terminal(FileDescriptor(rawValue: pseudo.terminal)))
                let keys = try PipeReader.sharing(terminal.descriptor, name: "the terminal")
                let screen = try PipeWriter.sharing(terminal.descriptor, name: "the terminal")
                let typing = try PipeWriter.sharing(FileDescriptor(rawValue: pseudo.controller), name: "the keyboard")
                #expect(pseudo.isCooked)
                try await terminal.withRawMode {
                    #expect(!pseudo.isCooked)
                    try await typing.write("x")
                    #expect(try await keys.read() == Array("x".utf8), "without a line's end")
                    let second = await ioError { try await terminal.withRawMode {} }
                    #expect(second?.errno == .resourceBusy)
                }
                #expect(pseudo.isCooked)
                struct Failure: Error {}
                await #expect(throws: Failure.self) { try await terminal.withRawMode { throw Failure() } }
                #expect(pseudo.isCooked)
                // A line at a time again; the description of whoever lent it blocks as before.
                try await typing.write("line\n")
                #expect(try await keys.read() == Array("line\n".utf8))
                try await screen.write("shown")
                #expect(fcntl(pseudo.terminal, F_GETFL) & O_NONBLOCK == 0)
                for end in [screen, typing] { await end.close() }
                await keys.close()
            }
        }

        /// In processes of their own, which end while their terminal is raw.
        @Test func theEndOfTheProcessRestores() async throws {
            let pseudo = try PseudoTerminal()
            defer { pseudo.close() }
            let path = pseudo.path
            await #expect(processExitsWith: .signal(SIGTERM)) { [path = path as String] in
                makeRaw(path)
                // To the process: this may be a thread that blocks signals.
                kill(getpid(), SIGTERM)
                while true { pause() }
            }
            #expect(pseudo.isCooked)
            await #expect(processExitsWith: .exitCode(7)) { [path = path as String] in
                makeRaw(path)
                exit(7)
            }
            #expect(pseudo.isCooked)
        }
    }
}

/// Makes the terminal at a path raw.
private func makeRaw(_ path: String) {
    let terminal = unsafe open(path, O_RDWR | O_NOCTTY)
    let answer = rondo_terminal_make_raw(terminal)
    var settings = termios()
    unsafe tcgetattr(terminal, &settings)
    if answer != 0 || settings.c_lflag & tcflag_t(ICANON) != 0 { exit(99) }
}
