// Services on a loop, for the tests to start: a server that answers one line per connection, under ServiceGroup. It
// says its port, and at its end how many it has answered and how many threads the process has.

import Rondo
import RondoServices
import ServiceLifecycle
import SystemPackage

@main
struct ServicesProbe: RondoProgram {
    func run() async throws {
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        let output = try StandardStreams.output()
        try await output.write("\(listener.localAddress.port)\n")
        let answered = Answered()
        let service = ListenerService(listener) { stream in
            guard let line = try await stream.read() else { return }
            try await stream.write(line)
            answered.count += 1
        }
        try await ServiceGroup(services: [service]).run(untilSignalled: [.terminate])
        try await output.write("\(answered.count) answered with \(try threadCount()) threads\n")
    }
}

/// The threads of this process. Blocking calls, so that nothing starts one for them.
func threadCount() throws -> Int {
    let file = try FileDescriptor.open(FilePath("/proc/self/status"), .readOnly)
    defer { try? file.close() }
    var bytes = [UInt8](repeating: 0, count: 4096)
    // SAFETY: fills in the array within the call.
    let count = try unsafe bytes.withUnsafeMutableBytes { try unsafe file.read(into: $0) }
    let lines = String(decoding: bytes[..<count], as: UTF8.self).split(separator: "\n")
    let line = lines.first { $0.hasPrefix("Threads:") }
    return line.flatMap { Int($0.split(separator: "\t")[1]) } ?? 0
}

/// What the server has done. It belongs to the loop's thread, as all of this program does.
final class Answered: @unchecked Sendable {
    // SAFETY: every task of the program runs on the one thread.
    var count = 0
}
