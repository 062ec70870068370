// A server that ends gracefully, for the tests to start: it says its port, answers one line per connection, and says at
// its end how many it has accepted and answered. A line `hold` is answered when a second line has come. The argument
// is the deadline in milliseconds.

import Rondo

@main
struct ShutdownProbe: RondoProgram {
    func run() async throws {
        let deadline = CommandLine.arguments.dropFirst().first.flatMap { Int($0) } ?? 10_000
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        let output = try StandardStreams.output()
        print(listener.localAddress.port)  // seen at once, though it goes into a pipe
        let counts = Counts()
        do {
            try await withGracefulShutdown(deadline: .milliseconds(deadline)) { shutdown in
                try await listener.serve(until: shutdown) { stream in
                    counts.accepted += 1
                    let line = try await readLine(stream)
                    if line == "hold" { _ = try await readLine(stream) }
                    try await stream.write(Array("answer to \(line)\n".utf8))
                    counts.answered += 1
                }
            }
        } catch {
            try await output.write("\(counts.answered) of \(counts.accepted)\n")
            throw error
        }
        try await output.write("\(counts.answered) of \(counts.accepted)\n")
    }
}

/// What the server has done. It belongs to the loop's thread, as all of this program does.
final class Counts: @unchecked Sendable {
    // SAFETY: every task of the program runs on the one thread.
    var accepted = 0
    var answered = 0
}

func readLine(_ stream: TCPStream) async throws -> String {
    var line: [UInt8] = []
    while let chunk = try await stream.read(upTo: 1) {
        let byte = Array(chunk)[0]
        if byte == UInt8(ascii: "\n") { break }
        line.append(byte)
    }
    return String(decoding: line, as: UTF8.self)
}
