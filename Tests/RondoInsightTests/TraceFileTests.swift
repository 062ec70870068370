// Trace files: where they are, who may see them, what they tell of a dead process, and what becomes of broken ones.

import Glibc
import RondoTesting
import Testing

@testable import Rondo
@testable import RondoInsight

extension InsightSuites {
    @Suite struct TraceFileTests {
        /// The path of the trace of a probe, and the folder that holds it.
        private func traces(in folder: ScratchFolder) -> [String] {
            ScratchFolder.names(in: "\(folder.path)/rondo").map { "\(folder.path)/rondo/\($0)" }
        }

        private func probe(_ way: String, in folder: ScratchFolder, _ variables: [String: String] = [:])
            -> ChildProcess.Command
        {
            var command = ChildProcess.Command("\(productFolder)/TraceProbe", [way])
            let changes = variables.merging(["XDG_RUNTIME_DIR": folder.path]) { $1 }
            command.environment = .update(changes.mapValues { $0 })
            command.output = .pipe
            return command
        }

        @Test(arguments: ["io_uring", "epoll"]) func aKilledProgramShowsItsLastMoments(driver: String) throws {
            let folder = try ScratchFolder()
            let command = probe("echo", in: folder, driver == "epoll" ? ["RONDO_DRIVER": "epoll"] : [:])
            try EventLoop.run {
                let program = try await ChildProcess.start(command)
                let line = try await program.output!.read()
                #expect(line.map { String(decoding: $0, as: UTF8.self) } == "ready\n")
                try program.kill()
                _ = try await program.waitUntilExit()
            }
            let path = try #require(traces(in: folder).first)
            let trace = try TraceReading.file(at: path)
            #expect(!trace.isAlive)
            #expect(trace.program == "TraceProbe")
            let model = TraceModel(trace)
            for number in 0..<10 {
                let client = model.tasks[try model.task("client \(number)")]
                #expect(client.jobs > 0)
            }
            #expect(model.stretches.contains { $0.wait == .sleep })
            #expect(!model.offloads.isEmpty)
            #expect(model.operations[.receive, default: 0] > 0)
            #expect(model.turns.count > 10)
            // Nanoseconds, not ticks: a millisecond's sleep takes a millisecond and the time to be served. It counts
            // from the call: who is stopped between the call and the wait waits for the rest only.
            let sleeper = model.stretches(of: try model.task("sleeper")).sorted { $0.start < $1.start }
            let sleeps = zip(sleeper, sleeper.dropFirst()).filter { call, sleep in
                call.state == .running && sleep.wait == .sleep && !sleep.isOpen
            }
            #expect(!sleeps.isEmpty)
            for (call, sleep) in sleeps {
                #expect(sleep.end - call.start > 500_000, "\(model.start) \(model.end) \(call) \(sleep)")
            }
        }

        @Test func onlyTheUserMayLook() throws {
            let folder = try ScratchFolder()
            try run(probe("brief", in: folder))
            var status = stat()
            #expect(unsafe stat("\(folder.path)/rondo", &status) == 0)
            #expect(status.st_mode & 0o777 == 0o700)
            let path = try #require(traces(in: folder).first)
            #expect(unsafe stat(path, &status) == 0)
            #expect(status.st_mode & 0o777 == 0o600)
        }

        @Test func theEnvironmentTurnsItOff() throws {
            let folder = try ScratchFolder()
            try run(probe("brief", in: folder, ["RONDO_INSPECT": "off"]))
            #expect(ScratchFolder.names(in: folder.path).isEmpty)
        }

        /// A folder that others may write to, a link, a file, none at all: no trace, and no harm.
        @Test func aFolderOfOthersIsNotUsed() throws {
            let open = try ScratchFolder()
            unsafe mkdir("\(open.path)/rondo", 0o700)
            unsafe chmod("\(open.path)/rondo", 0o777)
            let link = try ScratchFolder()
            unsafe symlink(open.path, "\(link.path)/rondo")
            let file = try ScratchFolder()
            try file.write([], to: "rondo")
            for folder in [open, link, file] {
                try run(probe("brief", in: folder))
                #expect(traces(in: folder).filter { $0.hasSuffix(".trace") }.isEmpty)
            }
            let none = try ScratchFolder()
            try run(probe("brief", in: none, ["XDG_RUNTIME_DIR": "\(none.path)/not/there"]))
        }

        @Test func filesOfDeadProcessesAreRemovedBeyondAFew() throws {
            let folder = try ScratchFolder()
            unsafe mkdir("\(folder.path)/rondo", 0o700)
            // No process has a number as high as these.
            for number in 0..<20 { try folder.write([], to: "rondo/\(2_000_000_000 + number).trace") }
            try folder.write([], to: "rondo/notes")
            try folder.write([], to: "rondo/\(getpid()).trace")
            try run(probe("brief", in: folder))
            let names = ScratchFolder.names(in: "\(folder.path)/rondo")
            #expect(names.count { $0.hasPrefix("20000000") } == 8)
            #expect(names.contains("notes"))
            #expect(names.contains("\(getpid()).trace"))
        }

        private func run(_ command: ChildProcess.Command) throws {
            try EventLoop.run {
                var command = command
                command.output = nil
                let status = try await ChildProcess.start(command).waitUntilExit()
                #expect(status.isSuccess, "\(status)")
            }
        }

        @Test func aLoopRecordsIfItIsAsked() throws {
            let folder = try ScratchFolder()
            let before = environmentValue("XDG_RUNTIME_DIR")
            unsafe setenv("XDG_RUNTIME_DIR", folder.path, 1)
            defer {
                if let before {
                    unsafe setenv("XDG_RUNTIME_DIR", before, 1)
                } else {
                    unsafe unsetenv("XDG_RUNTIME_DIR")
                }
            }
            try EventLoop.run { await EventLoop.yield() }
            #expect(traces(in: folder).isEmpty)
            var configuration = LoopConfiguration()
            configuration.recorder = .on
            for _ in 0..<2 { try EventLoop.run(configuration: configuration) { await EventLoop.yield() } }
            let paths = traces(in: folder)
            #expect(paths.count == 2)
            for path in paths { #expect(try TraceReading.file(at: path).isAlive) }
        }

        // MARK: Broken files

        @Test func bytesThatAreNoTraceAreRefused() throws {
            #expect(throws: TraceError.self) { try TraceFile([]) }
            #expect(throws: TraceError.self) { try TraceFile([UInt8](repeating: 0, count: 10_000)) }
            let memory = try EventMemory(eventCapacity: 2000)
            #expect(throws: TraceError.self) { try TraceFile(Array(memory.bytes.prefix(9000))) }
            var later = memory.bytes
            later[8] = 99
            #expect(throws: TraceError.self) { try TraceFile(later) }
        }

        /// Whatever stands in a file, reading it ends, and drawing it too.
        @Test(arguments: 0..<200 as Range<UInt64>) func brokenBytesDoNoHarm(seed: UInt64) throws {
            var bytes = Self.sample
            var generator = SeededGenerator(seed: seed)
            for _ in 0..<Int.random(in: 1...50, using: &generator) {
                let range = Bool.random(using: &generator) ? 8..<4400 : bytes.indices
                let place = range.randomElement(using: &generator)!
                bytes[place] = UInt8.random(in: 0...255, using: &generator)
            }
            guard let trace = try? TraceFile(bytes) else { return }
            let model = TraceModel(trace)
            #expect(model.stretches.allSatisfy { $0.start <= $0.end })
        }

        private static let sample: [UInt8] = {
            let memory = try! EventMemory(eventCapacity: 1024)
            try! EventLoop.run {
                await EventLoop.current!.record(into: memory)
                for _ in 0..<300 { await EventLoop.yield() }
                EventLoop.current!.recording = nil
            }
            return memory.bytes
        }()
    }
}
