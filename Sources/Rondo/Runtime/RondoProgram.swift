// A whole program on one event loop.

import CRondo
import Glibc

/// A program that runs on Rondo's event loop, all of it: `Task { }`, actors, the main actor, `Task.sleep`, task groups,
/// those of other libraries too.
///
/// ```
/// @main
/// struct Hello: RondoProgram {
///     func run() async throws {
///         try await Task.sleep(for: .seconds(1))
///         print("hello from the loop")
///     }
/// }
/// ```
///
/// The program ends when `run()` returns: with status 0, or with 1 and the error on standard error if it throws. What
/// it prints is seen line by line, also through a pipe.
public protocol RondoProgram: SendableMetatype {
    init()

    /// How the loop is to behave; asked once, at start.
    static var configuration: LoopConfiguration { get }

    /// How many loops the program runs on; asked once, at start. One with ``configuration``, unless the program says
    /// otherwise.
    static var runtime: RuntimeConfiguration { get }

    /// The program.
    func run() async throws
}

extension RondoProgram {
    /// The defaults.
    public static var configuration: LoopConfiguration { LoopConfiguration() }

    /// One loop.
    public static var runtime: RuntimeConfiguration { RuntimeConfiguration(loops: 1, loop: configuration) }

    /// Runs the program on its loops and ends the process.
    public static func main() {
        Runtime.runProgram(runtime) { try await Self().run() }
    }
}

extension EventLoop {
    /// Makes an event loop the executor of the whole process, runs `body` on it, and ends the process.
    ///
    /// See ``Runtime/runProgram(_:_:)``.
    public static func runProgram(
        configuration: LoopConfiguration = LoopConfiguration(), _ body: sending @escaping () async throws -> Void
    ) -> Never {
        Runtime.runProgram(RuntimeConfiguration(loops: 1, loop: configuration), body)
    }
}

extension Runtime {
    /// Makes event loops the executor of the whole process, runs `body` on them, and ends the process.
    ///
    /// What ``RondoProgram`` does, for programs whose `main` must do something first. Call it from `main`, before
    /// anything has started a thread or a task. The exit status is 0, or 1 if `body` throws, which is then reported.
    ///
    /// Each line that `print` writes is seen at once, by whoever reads standard output: a terminal, a pipe, a journal.
    /// (By itself `print` collects 4 KB for all but terminals. Who writes much uses ``StandardStreams``.)
    ///
    /// `RONDO_LOOPS` in the environment overrides the number of loops: a number, or `all` for ``Processors/available``.
    public static func runProgram(
        _ configuration: RuntimeConfiguration, _ body: sending @escaping () async throws -> Void
    ) -> Never {
        openStandardDescriptors()
        // Through a pipe, what a server prints would be seen when it ends.
        rondo_print_line_by_line()
        let main: EventLoop
        do throws(IOError) {
            var configuration = try configuration.overridden(by: "RONDO_LOOPS")
            let isObserved = configuration.isInspectable && ProgramObserver.isWanted
            configuration.loop.tracksTasks = isObserved
            // A write to a closed pipe or socket answers EPIPE; the signal would end the program without a word.
            signal(SIGPIPE, SIG_IGN)
            if configuration.loops == 1 {
                main = try EventLoop(configuration: configuration.loop)
                main.enterThread()
                main.recording = FlightRecorder.memory(
                    for: configuration.loop, loops: 1, isProgram: configuration.isInspectable)
                main.takeOverProgram()
            } else {
                main = try LoopThreads(configuration, isProgram: true).main
            }
            // SAFETY: written before `main`.
            if isObserved { unsafe ProgramObserver.start?(main.group?.loops ?? [main]) }
        } catch {
            report(error)
            exit(1)
        }
        let outcome = ProgramOutcome()
        Task {
            do { try await body() } catch { outcome.error = error }
            main.stop()
        }
        main.runTurns()
        if let error = outcome.error {
            report(error)
            exit(1)
        }
        exit(0)
    }

    /// A program may be started with standard input, output or error closed. The loop's own descriptors would then get
    /// their numbers, and what is printed would end up in them. What stands there instead refuses to be written to.
    private static func openStandardDescriptors() {
        while true {
            // SAFETY: the path is a constant.
            let descriptor = unsafe open("/dev/null", O_RDONLY)
            if descriptor > STDERR_FILENO { _ = Glibc.close(descriptor) }
            if descriptor < 0 || descriptor > STDERR_FILENO { return }
        }
    }

    private static func report(_ error: any Error) {
        let line = Array("error: \(error)\n".utf8)
        // SAFETY: writes the array's bytes within the call; what standard error refuses has nowhere else to go.
        _ = unsafe line.withUnsafeBytes { unsafe write(STDERR_FILENO, $0.baseAddress, $0.count) }
    }
}

private final class ProgramOutcome: @unchecked Sendable {
    // SAFETY: written and read on the loop's thread.
    var error: (any Error)?
}
