// Starts the built programs as a user does: each is a process of its own, whose output is read as it comes. Nothing
// here waits for a time: a test goes on when it has read what it waits for, and fails if that has not come after two
// minutes.

import Rondo
import SystemPackage
import Testing

/// All of them, one at a time: programs want processors.
@Suite(.serialized) struct IntegrationTests {}

/// Which driver a program is to choose.
enum Driver: CaseIterable {
    case ofThisMachine, epoll

    var environment: [String: String?] { self == .epoll ? ["RONDO_DRIVER": "epoll"] : [:] }
}

/// What speaks HTTP for an application.
enum Way: CaseIterable {
    case hummingbirdsChannels, rondoHTTP

    var options: [String] { self == .rondoHTTP ? ["--protocol", "rondo"] : [] }
}

/// Runs a test on a loop of its own.
func onLoop(_ body: @escaping @Sendable () async throws -> Void) throws {
    try EventLoop.run { try await withTimeout(.seconds(120)) { try await body() } }
}

/// The command that starts a program of this package: they stand beside the one that runs the tests.
func command(
    _ name: String, _ arguments: [String], _ environment: [String: String?] = [:]
) async throws -> ChildProcess.Command {
    let tests = try await Files.readLink("/proc/self/exe")
    var command = ChildProcess.Command("\(tests.removingLastComponent())/\(name)", arguments)
    command.environment = .update(environment)
    return command
}

/// A server that runs.
struct Server {
    let process: ChildProcess
    let address: SocketAddress
    var url: String { "http://\(address)" }

    /// How many descriptors it has open.
    func descriptors() async throws -> Int {
        var count = 0
        for _ in try await Directory.entries(of: .init("/proc/\(process.processID)/fd")) { count += 1 }
        return count
    }

    /// The names of its threads.
    func threads() async throws -> [String] {
        var names: [String] = []
        for thread in try await Directory.entries(of: .init("/proc/\(process.processID)/task")) {
            let path = "/proc/\(process.processID)/task/\(thread.name)/comm"
            names.append(String(decoding: try await File.contents(of: .init(path)).dropLast(), as: UTF8.self))
        }
        return names
    }
}

/// Starts the Hummingbird server, and ends it when `body` has, if it has not ended by then.
func withServer(
    _ arguments: [String] = [], environment: [String: String?] = [:], _ body: (Server) async throws -> Void
) async throws {
    var command = try await command("hummingbird-server", arguments, environment)
    (command.input, command.output) = (.null, .pipe)
    let process = try await ChildProcess.start(command)
    do {
        let line = try await BufferedReader(process.output!).readLine() ?? ""
        let port = try #require(Int(line.split(separator: ":").last ?? ""), "no port in '\(line)'")
        try await body(Server(process: process, address: .loopback(port: port)))
    } catch {
        try await process.terminate(within: .zero)
        throw error
    }
    try await process.terminate(within: .zero)
}

/// Goes on when nobody listens there any more.
func waitUntilRefused(_ address: SocketAddress) async throws {
    while true {
        do throws(IOError) {
            await (try TCPStream.connect(to: address)).close()
        } catch {
            if error.errno == .connectionRefused { return }
            #expect(error.errno == .connectionReset)
        }
        await EventLoop.yield()
    }
}

/// What curl prints.
func curl(_ arguments: String...) async throws -> String {
    let result = try await ChildProcess.run(
        ChildProcess.Command("curl", ["--silent", "--show-error", "--insecure"] + arguments), outputLimit: 1 << 26)
    #expect(result.status == .exited(0), "curl: \(String(decoding: result.errors, as: UTF8.self))")
    return result.text
}

/// Makes a certificate that signs itself, and its key.
func makeIdentity(in folder: FilePath) async throws -> (certificate: String, key: String) {
    let (certificate, key) = ("\(folder)/cert.pem", "\(folder)/key.pem")
    let arguments = [
        "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2", "-subj",
        "/CN=localhost", "-keyout", key, "-out", certificate,
    ]
    let result = try await ChildProcess.run(ChildProcess.Command("openssl", arguments))
    #expect(result.status == .exited(0), "openssl: \(String(decoding: result.errors, as: UTF8.self))")
    return (certificate, key)
}

/// Some bytes that are not all the same.
func pattern(_ count: Int) -> [UInt8] {
    (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ ($0 >> 8)) }
}
