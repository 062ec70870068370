// The probe program, and the `rondo` command, as a user starts them.

import Glibc
import SystemPackage
import Testing

@testable import Rondo

struct Probe {
    /// What is true of a task.
    struct Fact {
        var name: String
        var wait: String
        var parent: String
    }

    let process: ChildProcess
    let truth: [Fact]

    /// Where the built programs are: beside the test runner.
    static let folder: String = {
        var buffer = [UInt8](repeating: 0, count: 4096)
        // SAFETY: readlink writes at most as many bytes as there are.
        let count = unsafe buffer.withUnsafeMutableBytes { bytes in
            unsafe readlink("/proc/self/exe", bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
        }
        return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).split(separator: "/").dropLast()
            .reduce("") { "\($0)/\($1)" }
    }()

    /// Starts the probe, waits until all its tasks are where they wait, and ends it afterwards.
    static func with(
        arguments: [String] = [], environment: [String: String] = [:], _ body: (Probe) async throws -> Void
    ) async throws {
        // A probe that was built for release stands elsewhere.
        let probes = environmentValue("RONDO_PROBES") ?? folder
        var command = ChildProcess.Command("\(probes)/InspectProbe", arguments)
        command.environment = .update(environment)
        command.input = .pipe
        command.output = .pipe
        let process = try await ChildProcess.start(command)
        var truth: [Fact] = []
        let reader = BufferedReader(process.output!)
        while let line = try await reader.readLine(), line != "ready" {
            let parts = line.split(separator: "|", omittingEmptySubsequences: false).map(String.init)
            truth.append(Fact(name: parts[0], wait: parts[1], parent: parts[2]))
        }
        let probe = Probe(process: process, truth: truth)
        do {
            try await body(probe)
        } catch {
            _ = try? await process.terminate()
            throw error
        }
        try await probe.end()
        await process.output!.close()
    }

    /// Ends the program. Ending it twice is no mistake.
    func end() async throws {
        await process.input!.close()
        #expect(try await process.waitUntilExit() == .exited(0))
    }

    /// Runs the command to its end.
    func rondo(_ arguments: String...) async throws -> ChildProcess.Output {
        var command = ChildProcess.Command("\(Self.folder)/rondo", arguments)
        command.environment = .update(["COLUMNS": "80"])
        return try await ChildProcess.run(command)
    }
}
