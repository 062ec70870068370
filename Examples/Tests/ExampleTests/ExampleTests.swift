// Starts the built examples as a user does: each is a process of its own, whose output is read as it comes. Nothing
// here waits for a time: a test goes on when it has read what it waits for, and fails if that has not come after two
// minutes.

import Rondo
import Testing

/// All of them, one at a time: programs want processors.
@Suite(.serialized) struct ExampleTests {}

/// Which driver a program is to choose.
enum Driver: CaseIterable {
    case ofThisMachine, epoll

    var environment: [String: String?] { self == .epoll ? ["RONDO_DRIVER": "epoll"] : [:] }
}

/// Runs a test on a loop of its own.
func onLoop(_ body: @escaping @Sendable () async throws -> Void) throws {
    try EventLoop.run { try await withTimeout(.seconds(120)) { try await body() } }
}

/// Starts an example, and ends it when `body` has, if it has not ended by then.
func withProgram(
    _ name: String, _ arguments: String..., environment: [String: String?] = [:],
    _ body: (Program) async throws -> Void
) async throws {
    var command = try await Program.command(name, arguments, environment)
    (command.input, command.output, command.errors) = (.null, .pipe, .pipe)
    let process = try await ChildProcess.start(command)
    do { try await body(Program(process)) } catch {
        try await process.terminate(within: .zero)
        throw error
    }
    try await process.terminate(within: .zero)
}

/// Runs an example to its end.
func run(
    _ name: String, _ arguments: [String] = [], in folder: String? = nil, environment: [String: String?] = [:]
) async throws -> Outcome {
    var command = try await Program.command(name, arguments, environment)
    if let folder { command.workingDirectory = .init(folder) }
    let result = try await ChildProcess.run(command)
    return Outcome(
        status: result.status, output: result.text, errors: String(decoding: result.errors, as: UTF8.self))
}

/// What a program has done.
struct Outcome: Equatable {
    var status: ChildProcess.ExitStatus
    var output: String
    var errors: String

    /// A program that was called in a way that it does not know.
    static func usage(_ text: String) -> Outcome {
        Outcome(status: .exited(1), output: "", errors: "error: usage: \(text)\n")
    }

    /// A program that has printed this, and nothing else.
    static func success(_ output: String) -> Outcome { Outcome(status: .exited(0), output: output, errors: "") }

    /// A program that could not do what it was to do.
    static func failure(_ error: String, output: String = "") -> Outcome {
        Outcome(status: .exited(1), output: output, errors: "error: \(error)\n")
    }
}

/// An example that runs.
struct Program {
    let process: ChildProcess
    /// What it prints.
    let output: BufferedReader

    init(_ process: ChildProcess) {
        self.process = process
        output = BufferedReader(process.output!)
    }

    /// The built programs stand beside the program that runs the tests.
    static func command(
        _ name: String, _ arguments: [String], _ environment: [String: String?]
    ) async throws -> ChildProcess.Command {
        let tests = try await Files.readLink("/proc/self/exe")
        var command = ChildProcess.Command("\(tests.removingLastComponent())/\(name)", arguments)
        command.environment = .update(environment)
        return command
    }

    /// Where it listens, as its next line says.
    func address() async throws -> SocketAddress {
        let line = try await output.readLine() ?? ""
        let port = line.split(separator: ":").dropFirst().first?.prefix { $0.isNumber } ?? ""
        return .loopback(port: try #require(Int(port), "no port in '\(line)'"))
    }

    /// Sends a signal, and waits for the end.
    func end(by signal: Signal) async throws -> ChildProcess.ExitStatus {
        try process.signal(signal)
        return try await process.waitUntilExit()
    }

    /// What it writes to standard error, up to its end.
    func errors() async throws -> String { String(decoding: try await process.errors!.readToEnd(), as: UTF8.self) }

    /// The most memory that it has had so far, in kilobytes.
    func peakMemory() async throws -> Int {
        let bytes = try await File.contents(of: .init("/proc/\(process.processID)/status"))
        let line = String(decoding: bytes, as: UTF8.self).split(separator: "\n")
            .first { $0.hasPrefix("VmHWM:") }
        return try #require(line.flatMap { Int($0.filter(\.isNumber)) })
    }
}

/// Goes on when nobody listens there any more. A program that uses io_uring and has ended listens for a moment more:
/// the kernel takes its ring apart later.
func waitUntilRefused(_ connect: () async throws(IOError) -> Void) async throws {
    while true {
        do throws(IOError) { try await connect() } catch {
            if error.errno == .connectionRefused { return }
            #expect(error.errno == .connectionReset)
        }
        await EventLoop.yield()
    }
}

/// Some bytes that are not all the same.
func pattern(_ count: Int, seed: Int = 0) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: ($0 &+ seed) &* 31 &+ ($0 >> 8)) }
}

/// The words of a text.
func words(_ text: some StringProtocol) -> [String] { String(text).split(separator: " ").map(String.init) }
