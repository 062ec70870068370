// A chat room: what one says, all others hear. Who reads too slowly is told how much he has missed.
//
//     swift run -c release --package-path Examples chat --port 7777
//
// Join with `nc 127.0.0.1 7777` from two terminals; the first line is your name. Ctrl-C ends it.

import Rondo

@main
struct Chat: RondoProgram {
    func run() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        guard arguments.isEmpty || arguments.count == 2 && arguments.first == "--port",
            let port = Int(arguments.last ?? "0"), (0...65_535).contains(port)
        else { throw UsageError() }
        let listener = try await TCPListener.listen(on: .loopback(port: port))
        print("chat room at \(listener.localAddress)")
        let room = Broadcast<Line>(capacity: 64)
        try await listener.serve { stream in try await visit(stream, room) }
    }

    func visit(_ stream: TCPStream, _ room: Broadcast<Line>) async throws {
        let lines = BufferedReader(stream)
        guard let name = try await lines.readLine(limit: 100) else { return }
        let heard = room.subscribe()
        try room.send(Line(text: "* \(name) is here"))
        defer { try? room.send(Line(text: "* \(name) has left")) }
        try await withThrowingTaskGroup { group in
            group.addTask {
                for try await element in heard {
                    switch element {
                    case .value(let line) where line.speaker == ObjectIdentifier(stream): break
                    case .value(let line): try await stream.write("\(line.text)\n")
                    case .missed(let count): try await stream.write("* you missed \(count) lines\n")
                    }
                }
            }
            while let text = try await lines.readLine(limit: 1000) {
                try room.send(Line(speaker: ObjectIdentifier(stream), text: "\(name): \(text)"))
                await Task.yield()  // many lines may come at once: whoever is quick enough hears each
            }
            group.cancelAll()
        }
    }
}

struct Line: Sendable {
    var speaker: ObjectIdentifier?
    var text: String
}

struct UsageError: Error, CustomStringConvertible {
    var description: String { "usage: chat [--port N], N from 0 to 65535" }
}
