// Messages by topic, over a Unix socket. Who reads too slowly misses some and is told so; nobody waits for him.
//
//     swift run -c release --package-path Examples pubsub serve /tmp/news.sock
//     swift run -c release --package-path Examples pubsub sub /tmp/news.sock weather
//     swift run -c release --package-path Examples pubsub pub /tmp/news.sock weather "it rains"
//
// Every subscriber of the topic shows the message. Ctrl-C ends a subscriber, and the server, which removes its socket.

import Rondo

@main
struct PubSub: RondoProgram {
    let news = Broadcast<(topic: String, text: String)>(capacity: 1024)

    func run() async throws {
        let words = Array(CommandLine.arguments.dropFirst())
        switch (words.first, words.count) {
        case ("serve", 2): try await serve(at: .path(.init(words[1])))
        case ("sub", 3), ("pub", 4):
            let server = try await UnixStream.connect(to: .path(.init(words[1])))
            try await server.write("\(words[0]) \(words[2...].joined(separator: " "))\n")
            if words[0] == "pub" { try await server.finishWriting() }
            try await copy(from: server, to: StandardStreams.output())
        default: throw Failure(description: "usage: pubsub serve PATH | sub PATH TOPIC | pub PATH TOPIC MESSAGE")
        }
    }

    func serve(at address: UnixAddress) async throws {
        let listener = try await UnixListener.listen(on: address, replacingStale: true, permissions: .ownerReadWrite)
        print("serving at \(address)")
        try await withGracefulShutdown(deadline: .seconds(2)) { shutdown in
            try await listener.serve(until: shutdown) { client in
                for try await line in BufferedReader(client).lines() {
                    let words = line.split(separator: " ", maxSplits: 2).map(String.init)
                    if words.count == 2, words[0] == "sub" { return try await tell(client, words[1], shutdown) }
                    if words.count == 3, words[0] == "pub" { try news.send((words[1], words[2])) }
                    await Task.yield()  // many may come at once: subscribers that are quick enough hear each
                }
            }
        }
    }

    func tell(_ client: UnixStream, _ topic: String, _ shutdown: Shutdown) async throws {
        let heard = news.subscribe()
        try await client.write("subscribed to \(topic)\n")
        try await withThrowingTaskGroup { group in
            group.addTask {
                for try await delivery in heard {
                    if case .missed(let count) = delivery { try await client.write("* \(count) messages missed\n") }
                    if case .value((topic, let text)) = delivery { try await client.write(text + "\n") }
                }
            }
            group.addTask { while try await client.read() != nil {} }
            group.addTask { await shutdown.wait() }
            for try await _ in group { group.cancelAll() }  // the first to end ends the others
        }
    }
}

struct Failure: Error, CustomStringConvertible { let description: String }
