// Programs that a loop starts, feeds, waits for and ends.

import CRondo
import Glibc
import SystemPackage
import Testing

@testable import Rondo

private typealias Command = ChildProcess.Command

/// A shell that runs a script.
private func shell(_ script: String, _ arguments: String...) -> Command {
    Command("/bin/sh", ["-c", script, "sh"] + arguments)
}

/// Whether a process number is a child of ours, living or not yet taken.
private func isOurChild(_ processID: Int32) -> Bool {
    var info = unsafe siginfo_t()
    return unsafe waitid(P_PID, id_t(processID), &info, WEXITED | WNOHANG | WNOWAIT) == 0
}

extension LoopSuites {
    @Suite struct ChildProcessTests {
        @Test(arguments: World.real) func collectsWhatAProgramWrites(world: World) throws {
            try world.run {
                let result = try await ChildProcess.run(shell("echo out; echo err >&2; exit 7"))
                #expect(result.status == .exited(7))
                #expect(result.text == "out\n")
                #expect(result.errors == Array("err\n".utf8))
                // Looked for in PATH; nothing is a shell's business.
                let echo = try await ChildProcess.run(Command("echo", ["a  b", "$HOME", "*"]))
                #expect(echo.text == "a  b $HOME *\n" && echo.status.isSuccess)
                let merged = try await {
                    var command = shell("echo 1; echo 2 >&2; echo 3")
                    command.errors = .sameAsOutput
                    return try await ChildProcess.run(command)
                }()
                #expect(merged.text == "1\n2\n3\n" && merged.errors.isEmpty)
                // Standard input is empty if nobody says else.
                #expect(try await ChildProcess.run(Command("cat")).output.isEmpty)
            }
        }

        @Test(arguments: World.real) func muchGoesInAndOut(world: World) throws {
            try world.run {
                let bytes = pattern(2_000_000)
                let result = try await ChildProcess.run(Command("cat"), input: bytes)
                #expect(result.output == bytes && result.status.isSuccess)
                // One that does not read what it is given.
                let deaf = try await ChildProcess.run(shell("exec 0<&-; exit 3"), input: bytes)
                #expect(deaf.status == .exited(3))
            }
        }

        @Test(arguments: World.real) func pipesAreUsedAsTheyCome(world: World) throws {
            try world.run {
                var command = Command("cat")
                command.input = .pipe
                command.output = .pipe
                let cat = try await ChildProcess.start(command)
                #expect(cat.errors == nil)
                for round in 0..<20 {
                    try await cat.input!.write("round \(round)\n")
                    #expect(try await cat.output!.read() == Array("round \(round)\n".utf8))
                }
                #expect(await cat.exitStatus == nil)
                await cat.input!.close()
                #expect(try await cat.output!.read() == nil)
                #expect(try await cat.waitUntilExit() == .exited(0))
                #expect(await cat.exitStatus == .exited(0))
                await cat.output!.close()
            }
        }

        @Test(.enabled(if: getuid() != 0), arguments: World.real)
        func aFolderThatMayNotBeSearchedIsPassedOver(world: World) throws {
            let folder = TemporaryFolder()
            // SAFETY: the path lives across the call.
            unsafe chmod(folder.path, 0)
            defer { unsafe chmod(folder.path, 0o700) }
            try world.run {
                var command = Command("no-such-program")
                command.environment = .update(["PATH": "\(folder.path):/usr/bin"])
                #expect(await ioError { try await ChildProcess.start(command) }?.errno == .noSuchFileOrDirectory)
                command.executable = "true"
                let status = try await ChildProcess.start(command).waitUntilExit()
                #expect(status == .exited(0))
            }
        }

        @Test(arguments: World.real) func errorsOfStartingHaveNames(world: World) throws {
            try world.run {
                func text(_ command: Command) async -> String {
                    await ioError { try await ChildProcess.start(command) }.map { "\($0)" } ?? "no error"
                }
                #expect(
                    await text(Command("/no/such")) == "run /no/such: No such file or directory (check the path)")
                #expect(
                    await text(Command("no-such-program"))
                        == "run no-such-program: No such file or directory "
                        + "(is it installed, and in a directory of PATH?)")
                #expect(
                    await text(Command("/etc/passwd"))
                        == "run /etc/passwd: Permission denied (is it a program, with the permission to execute it?)")
                var elsewhere = Command("ls")
                elsewhere.workingDirectory = "/no/such"
                #expect(await text(elsewhere) == "run ls in /no/such: No such file or directory (check the path)")
                var closed = Command("ls")
                closed.output = .descriptor(FileDescriptor(rawValue: 1_000_003))
                #expect(await text(closed) == "set up the streams of ls: Bad file descriptor")
                #expect(await text(Command("ls", ["a\0b"])).contains("zero byte"))
            }
        }

        @Test(arguments: World.real) func surroundings(world: World) throws {
            try world.run {
                var command = shell("pwd; echo $ONE; echo $TWO; echo ${HOME-none}")
                command.workingDirectory = "/usr"
                command.environment = .replace(["ONE": "1", "TWO": "zwei"])
                let replaced = try await ChildProcess.run(command)
                #expect(replaced.text == "/usr\n1\nzwei\nnone\n")
                unsafe setenv("RONDO_TEST_KEPT", "kept", 1)
                unsafe setenv("RONDO_TEST_GONE", "there", 1)
                var updated = shell("echo $RONDO_TEST_KEPT ${RONDO_TEST_GONE-gone} $RONDO_TEST_NEW")
                updated.environment = .update(["RONDO_TEST_GONE": nil, "RONDO_TEST_NEW": "new=1"])
                #expect(try await ChildProcess.run(updated).text == "kept gone new=1\n")
                #expect(
                    try await ChildProcess.run(shell("echo $RONDO_TEST_GONE")).text == "there\n", "ours is as it was")
            }
        }

        /// Neither descriptors nor blocked or ignored signals.
        @Test(arguments: World.real) func nothingIsInherited(world: World) throws {
            try world.run {
                // What another library may have: a descriptor without close-on-exec.
                let leaky = unsafe Glibc.open("/dev/null", O_RDONLY)
                defer { close(leaky) }
                #expect(fcntl(leaky, F_GETFD) & FD_CLOEXEC == 0)
                let before = signal(SIGPIPE, SIG_IGN)
                defer { signal(SIGPIPE, before) }
                // The fourth is the directory that ls reads.
                let listed = try await ChildProcess.run(Command("ls", ["/proc/self/fd"]))
                #expect(listed.text == "0\n1\n2\n3\n")
                let status = try await ChildProcess.run(Command("grep", ["^Sig[BI]", "/proc/self/status"])).text
                for line in status.split(separator: "\n") {
                    #expect(line.hasSuffix("\t0000000000000000"), "\(line)")
                }
                #expect(status.split(separator: "\n").count == 2)
            }
        }

        @Test(arguments: World.real) func descriptorsAreGivenOn(world: World) throws {
            let folder = TemporaryFolder()
            let path = FilePath(folder.path + "/out")
            try world.run {
                let file = try FileDescriptor.open(path, .readWrite, options: [.create], permissions: .ownerReadWrite)
                var command = shell("echo out; echo err >&2")
                command.input = .null
                command.output = .descriptor(file)
                command.errors = .sameAsOutput
                let child = try await ChildProcess.start(command)
                #expect(try await child.waitUntilExit().isSuccess)
                try file.close()
                #expect(try await File.contents(of: path) == Array("out\nerr\n".utf8))
            }
        }

        @Test(arguments: World.real) func manyWaitForOne(world: World) throws {
            try world.run {
                var command = Command("cat")
                command.input = .pipe
                command.output = .null
                let child = try await ChildProcess.start(command)
                let waiters = (0..<10).map { _ in start { try await child.waitUntilExit() } }
                await settle()
                waiters[3].cancel()
                #expect(await ioError(of: waiters[3])?.isCancellation == true)
                await child.input!.close()
                for (index, waiter) in waiters.enumerated() where index != 3 {
                    #expect(try await waiter.value == .exited(0))
                }
                #expect(try await child.waitUntilExit() == .exited(0), "and once more when it has ended")
                #expect(!isOurChild(child.processID), "no zombie is left")
            }
        }

        @Test(arguments: World.real) func signalsReachIt(world: World) throws {
            try world.run {
                let sleeping = Command("sleep", ["1000"])
                let killed = try await ChildProcess.start(sleeping)
                try killed.kill()
                #expect(try await killed.waitUntilExit() == .signalled(.kill, dumpedCore: false))
                #expect(try !killed.signal(.terminate), "it has ended")
                let terminated = try await ChildProcess.start(sleeping)
                #expect(try await terminated.terminate() == .signalled(.terminate, dumpedCore: false))
                // One that does not listen.
                var stubborn = shell("trap '' TERM; echo ready; while :; do sleep 1000; done")
                stubborn.output = .pipe
                stubborn.ownsProcessGroup = true
                let child = try await ChildProcess.start(stubborn)
                #expect(try await child.output!.read() == Array("ready\n".utf8))
                #expect(
                    try await child.terminate(within: .milliseconds(30)) == .signalled(.kill, dumpedCore: false))
                // The shell's own child is left.
                #expect(kill(-child.processID, SIGKILL) == 0)
                await child.output!.close()
            }
        }

        @Test(arguments: World.real) func cancellingARunEndsTheChild(world: World) throws {
            try world.run {
                let numbers = Journal(Int32.self)
                for script in ["exec sleep 1000", "trap '' TERM; while :; do read x; done"] {
                    var command = shell("echo $$ >&2; \(script)")
                    let (reader, writer) = try PipeReader.makePipe()
                    command.errors = .descriptor(
                        FileDescriptor(rawValue: rondo_duplicate(writer.descriptorForTests)))
                    command.input = .pipe
                    let prepared = command
                    let running = start { try await ChildProcess.run(prepared, gracePeriod: .milliseconds(20)) }
                    let line = String(decoding: try await reader.read()!, as: UTF8.self)
                    let number = try #require(Int32(line.dropLast()))
                    numbers.add(number)
                    #expect(isOurChild(number))
                    running.cancel()
                    #expect(await ioError(of: running)?.isCancellation == true)
                    #expect(!isOurChild(number), "it is gone when run returns")
                    if case .descriptor(let descriptor) = prepared.errors { try descriptor.close() }
                    await reader.close()
                    await writer.close()
                }
                #expect(numbers.count == 2)
                // Before it began.
                let early = start { try await ChildProcess.run(Command("sleep", ["1000"])) }
                early.cancel()
                #expect(await ioError(of: early)?.isCancellation == true)
            }
        }

        @Test(arguments: World.real) func tooMuchOutputEndsTheChild(world: World) throws {
            try world.run {
                let error = await ioError { try await ChildProcess.run(Command("yes"), outputLimit: 100_000) }
                #expect(error?.cause == .limitExceeded(100_000))
            }
        }

        @Test(arguments: World.real) func droppedChildrenLeaveNoZombies(world: World) throws {
            try world.run {
                var numbers: [Int32] = []
                var ends: [PipeReader] = []
                for _ in 0..<5 {
                    let (reader, writer) = try PipeReader.makePipe()
                    var command = Command("true")
                    command.output = .descriptor(FileDescriptor(rawValue: writer.descriptorForTests))
                    numbers.append(try await ChildProcess.start(command).processID)
                    await writer.close()
                    ends.append(reader)
                }
                for end in ends {
                    #expect(try await end.read() == nil)
                    await end.close()
                }
                // Their pipes are closed a moment before they have ended.
                for number in numbers {
                    while isOurChild(number) { await EventLoop.yield() }
                }
            }
        }

        /// A thread takes the end of a child that outlives its loop.
        @Test(arguments: World.real) func aChildOutlivesItsLoop(world: World) throws {
            var command = Command("cat")
            command.output = .null
            var (read, write): (Int32, Int32) = (-1, -1)
            unsafe #expect(rondo_pipe(&read, &write) == 0)
            command.input = .descriptor(FileDescriptor(rawValue: read))
            let prepared = command
            let number = try world.run { try await ChildProcess.start(prepared).processID }
            close(read)
            #expect(isOurChild(number), "it still runs")
            close(write)
            while isOurChild(number) { sched_yield() }
        }

        @Test func aSimulationHasNoProcesses() throws {
            try World.simulated.run {
                let error = await ioError { try await ChildProcess.start(Command("true")) }
                #expect("\(error!)" == "run true: a simulation has no processes")
            }
        }
    }
}

extension PipeWriter {
    /// The number of its descriptor.
    fileprivate var descriptorForTests: Int32 { end.descriptor.rawValue }
}
