// A TCP echo server: each connection is a task that reads and writes in a straight line.
//
//     swift run -c release --package-path Examples echo --port 7777
//
// You see the address it listens on; talk to it with `nc 127.0.0.1 7777`. Ctrl-C ends it. RONDO_LOOPS=2 in the
// environment makes it two loops.

import Rondo

@main
struct Echo: RondoProgram {
    func run() async throws {
        let listener = try await TCPListener.listen(on: .loopback(port: try port()))
        print("listening on \(listener.localAddress)")
        try await listener.serve(over: Runtime.current) { stream in
            while let chunk = try await stream.read() {
                try await stream.write(chunk)
            }
        }
    }

    /// The number after `--port`; 0, for any free port, without it.
    func port() throws -> Int {
        let arguments = CommandLine.arguments.dropFirst()
        if arguments.isEmpty { return 0 }
        guard arguments.count == 2, arguments.first == "--port", let port = Int(arguments.last!),
            (0...65_535).contains(port)
        else { throw UsageError() }
        return port
    }
}

struct UsageError: Error, CustomStringConvertible {
    var description: String { "usage: echo [--port N], N from 0 to 65535" }
}
