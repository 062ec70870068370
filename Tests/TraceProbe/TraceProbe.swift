// A program whose trace is known: what it does stands in its first argument. It says "ready" when there is something to
// see, and then goes on until it is killed.

import Rondo

@main
struct TraceProbe: RondoProgram {
    func run() async throws {
        switch CommandLine.arguments.dropFirst().first {
        case "echo": try await echo()
        case "brief": await EventLoop.yield()
        default: throw UnknownWay()
        }
    }

    /// Ten clients and a server send a message to and fro, for ever.
    private func echo() async throws {
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        let server = Task(name: "server") {
            try await listener.serve { stream in
                while let chunk = try await stream.read() { try await stream.write(chunk) }
            }
        }
        // One for each task that the trace must show.
        let rounds = (0..<10).map { _ in AsyncEvent() }
        let (hasSlept, hasCalculated) = (AsyncEvent(), AsyncEvent())
        for number in 0..<10 {
            Task(name: "client \(number)") {
                let stream = try await TCPStream.connect(to: listener.localAddress)
                var count = 0
                while true {
                    try await stream.write([1, 2, 3])
                    _ = try await stream.read()
                    count += 1
                    if count == 100 { rounds[number].set() }
                }
            }
        }
        Task(name: "sleeper") {
            while true {
                try await Task.sleep(for: .milliseconds(1))
                hasSlept.set()
            }
        }
        Task(name: "calculator") {
            while true {
                try await offload { () }
                hasCalculated.set()
            }
        }
        for event in rounds + [hasSlept, hasCalculated] { try await event.wait() }
        try await StandardStreams.output().write("ready\n")
        try await server.value
    }
}

struct UnknownWay: Error, CustomStringConvertible {
    var description: String { "usage: TraceProbe echo|brief" }
}
