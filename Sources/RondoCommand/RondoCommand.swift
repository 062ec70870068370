// The command `rondo`. Arguments are parsed on the plain main thread; the event loop starts only for what was asked.

import ArgumentParser
import Glibc
import Rondo

@main
struct Command: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "rondo",
        abstract: "The event loop for Swift: see it run, and see whether this machine lets it.",
        discussion: """
            The environment variable RONDO_DRIVER chooses how the loop talks to the kernel: io_uring, epoll, or auto \
            (the default: io_uring where it works).
            """,
        subcommands: [
            DemoCommand.self, FetchCommand.self, ServeCommand.self, LoadCommand.self, PsCommand.self, TopCommand.self,
            TraceCommand.self, DoctorCommand.self,
        ])
}

/// What ends the command with status 1, in words for whoever called it.
struct CommandFailure: Error, CustomStringConvertible {
    var description: String

    init(_ description: String) { self.description = description }
}

extension Command {
    /// Runs `body` on an event loop that the whole process lives on, and ends the process with the status it answers;
    /// with 1 and the error on standard error if it throws.
    static func runOnLoop(_ body: sending @escaping () async throws -> Int32) -> Never {
        // A write beyond the limit of a file's size is an error that is told, and no end of the process.
        signal(SIGXFSZ, SIG_IGN)
        EventLoop.runProgram {
            var status: Int32 = 1
            do {
                status = try await body()
            } catch {
                Terminal.errors.say("error: \(error)")
            }
            Interrupt.cleanUp()
            Glibc.exit(status)
        }
    }
}
