import CRondo
import Glibc
import SystemPackage

/// A program that this one has started.
///
/// ```
/// let result = try await ChildProcess.run(ChildProcess.Command("git", ["status"]))
///
/// let sort = try await ChildProcess.start(sortCommand)   // its streams are pipes
/// try await sort.input!.write("b\na\n")
/// await sort.input!.close()
/// let text = try await sort.output!.readToEnd()
/// let status = try await sort.waitUntilExit()
/// ```
///
/// A child inherits no descriptor but its three standard streams, blocks no signal and ignores none. It leaves no
/// zombie, whether anybody waits for it or not. Dropping this object does not end the child, nor does the end of the
/// loop: use ``run(_:input:outputLimit:gracePeriod:)`` for a child that must not outlive its task, or
/// ``terminate(within:)``.
public final class ChildProcess: Sendable {
    /// The loop that waits for it.
    public var loop: EventLoop { state.loop }
    /// Its process number.
    public var processID: Int32 { state.processID }
    /// Leads to its standard input, if that is a pipe. Close it to let the child find the end.
    public let input: PipeWriter?
    /// Comes from its standard output, if that is a pipe.
    public let output: PipeReader?
    /// Comes from its standard error, if that is a pipe.
    public let errors: PipeReader?
    let state: ChildState

    private init(state: ChildState, pipes: ChildPipes) {
        self.state = state
        func reader(_ descriptor: Descriptor?, _ name: String) -> PipeReader? {
            descriptor.map {
                PipeReader(
                    StreamEnd(
                        $0, kind: .nonBlocking, name: "\(name) of \(state.name)", forWriting: false, loop: state.loop))
            }
        }
        input = pipes.ours[0].map {
            PipeWriter(
                StreamEnd(
                    $0, kind: .nonBlocking, name: "standard input of \(state.name)", forWriting: true,
                    loop: state.loop))
        }
        output = reader(pipes.ours[1], "standard output")
        errors = reader(pipes.ours[2], "standard error")
    }

    /// Starts a program.
    ///
    /// The call that starts it is made in the offload pool, as loading a program may block. A task that is cancelled
    /// before it is made throws, and nothing is started.
    ///
    /// - Throws: `IOError`, if the program does not run: `run /no/such: No such file or directory`,
    ///   `run ls in /no/such: No such file or directory`.
    public static func start(_ command: Command) async throws(IOError) -> ChildProcess {
        let loop = EventLoop.required(for: "ChildProcess.start")
        let name = command.executable
        guard loop.driver is any KernelDriver else {
            throw IOError("run", name, .invalid("a simulation has no processes"))
        }
        try command.check()
        var pipes = try ChildPipes(command)
        let plan = SpawnPlan(command, streams: pipes.forChild)
        let work = OffloadWork { plan.run() }
        // SAFETY: `work` outlives the wait.
        let answer = await unsafe loop.perform(.offload(.passUnretained(work)))
        withExtendedLifetime(work) {}
        pipes.closeTheirs()
        guard answer >= 0 else {
            pipes.closeOurs()
            throw command.failure(answer, at: plan.step)
        }
        let state = ChildState(plan.descriptor, processID: plan.processID, name: name, loop: loop)
        return ChildProcess(state: state, pipes: pipes)
    }

    /// Waits until it has ended. Any number of tasks may wait; cancelling one ends its wait, not the child.
    ///
    /// It may have ended while others still hold its pipes open: its own children, say.
    ///
    /// - Throws: `IOError`: `.cancelled`; or `ECHILD` if this program ignores SIGCHLD: then the kernel keeps no status.
    public func waitUntilExit() async throws(IOError) -> ExitStatus {
        try await loop.onLoop { () async throws(IOError) in try await state.wait() }
    }

    /// How it has ended; nil if it still runs.
    public var exitStatus: ExitStatus? {
        get async { await loop.onLoop { state.status } }
    }

    /// Sends a signal, to this process and never to a later one of the same number.
    ///
    /// - Returns: false if it has ended already.
    @discardableResult
    public func signal(_ signal: Signal) throws(IOError) -> Bool { try state.send(signal) }

    /// Ends it at once (SIGKILL).
    public func kill() throws(IOError) { try signal(.kill) }

    /// Asks it to end (SIGTERM), ends it (SIGKILL) if it has not done so within `gracePeriod`, and waits for that. Not
    /// even cancellation of the task cuts this short.
    @discardableResult
    public func terminate(within gracePeriod: Duration = .seconds(5)) async throws(IOError) -> ExitStatus {
        let outcome = Outcome()
        // A task of its own does not hear of the caller's cancellation.
        await loop.onLoop {
            await loop.startTask {
                do throws(IOError) {
                    outcome.result = .success(try await self.state.terminate(within: gracePeriod))
                } catch {
                    outcome.result = .failure(error)
                }
            }.value
        }
        return try outcome.result!.get()
    }

    private final class Outcome: @unchecked Sendable {
        // SAFETY: written by the task, read when it has ended.
        var result: Result<ExitStatus, IOError>?
    }
}

extension ChildProcess.Command {
    fileprivate func check() throws(IOError) {
        var texts = [executable, workingDirectory?.string ?? ""] + arguments
        switch environment {
        case .inherit: break
        case .replace(let variables): texts += variables.flatMap { [$0.key, $0.value] }
        case .update(let changes): texts += changes.flatMap { [$0.key, $0.value ?? ""] }
        }
        if texts.contains(where: { $0.utf8.contains(0) }) {
            throw IOError("run", executable, .invalid("a text that a program is given can't hold a zero byte"))
        }
        if input == .sameAsOutput || output == .sameAsOutput {
            throw IOError("run", executable, .invalid("only standard error can be sent where standard output goes"))
        }
    }

    fileprivate func failure(_ answer: Int32, at step: UInt32) -> IOError {
        let cause = IOError.cause(ofAnswer: answer)
        if step == RONDO_STEP_DIRECTORY.rawValue, let workingDirectory {
            return IOError("run \(executable) in", workingDirectory.string, cause)
        }
        if step == RONDO_STEP_STREAMS.rawValue { return IOError("set up the streams of", executable, cause) }
        return IOError("run", executable, cause)
    }
}

/// The pipes of a child that is being started.
private struct ChildPipes {
    /// Our ends, by the child's stream number.
    private(set) var ours: [Descriptor?] = [nil, nil, nil]
    /// The child's ends.
    private var theirs: [Descriptor] = []
    /// What the child's streams are, in the words of `rondo_spawn`.
    private(set) var forChild: (Int32, Int32, Int32) = (0, 0, 0)

    init(_ command: ChildProcess.Command) throws(IOError) {
        do throws(IOError) {
            forChild.0 = try add(command.input ?? .inherit, 0, command)
            forChild.1 = try add(command.output ?? .inherit, 1, command)
            forChild.2 = try add(command.errors ?? .inherit, 2, command)
        } catch {
            closeTheirs()
            closeOurs()
            throw error
        }
    }

    private mutating func add(
        _ stream: ChildProcess.Stream, _ number: Int, _ command: ChildProcess.Command
    ) throws(IOError) -> Int32 {
        switch stream {
        case .inherit: return RONDO_STREAM_INHERIT
        case .null: return RONDO_STREAM_NULL
        case .sameAsOutput: return RONDO_STREAM_AS_OUTPUT
        case .descriptor(let descriptor): return descriptor.rawValue
        case .pipe:
            let (reader, writer) = try StreamEnd.pipe(name: "a pipe for \(command.executable)")
            let (our, their) = number == 0 ? (writer, reader) : (reader, writer)
            _ = rondo_set_nonblocking(our.rawValue)
            ours[number] = our
            theirs.append(their)
            return their.rawValue
        }
    }

    mutating func closeTheirs() {
        for descriptor in theirs { close(descriptor.rawValue) }
        theirs = []
    }

    mutating func closeOurs() {
        for descriptor in ours { if let descriptor { close(descriptor.rawValue) } }
        ours = [nil, nil, nil]
    }
}
