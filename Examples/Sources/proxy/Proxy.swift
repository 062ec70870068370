// A TCP proxy: each connection is passed on to one server, both ways, without a copy in this process.
//
//     swift run -c release --package-path Examples proxy 8080 example.com:80
//
// You see the address it listens on, and a line with the bytes of each connection when it has ended. Try it with
// `curl -H 'Host: example.com' http://127.0.0.1:8080/`. Ctrl-C ends it.

import Rondo

@main
struct Proxy: RondoProgram {
    func run() async throws {
        let (port, host, serverPort) = try arguments()
        let listener = try await TCPListener.listen(on: .loopback(port: port))
        print("listening on \(listener.localAddress), passing on to \(host):\(serverPort)")
        try await listener.serve { client in
            let name = try client.peerAddress  // at its end a connection has no peer
            let server: TCPStream
            do {
                server = try await TCPStream.connect(to: host, port: serverPort)
            } catch {
                print(error)
                return await client.abort()
            }
            do {
                let counts = try await relay(client, server)
                print("\(name): \(counts.forward) bytes there, \(counts.back) back")
                await server.close()
            } catch {
                // Neither peer may take what came for all there was.
                print(error)
                await client.abort()
                await server.abort()
            }
        }
    }

    /// The port to listen on, and the server.
    func arguments() throws -> (Int, String, Int) {
        let arguments = CommandLine.arguments.dropFirst()
        guard arguments.count == 2, let port = Int(arguments.first!), (0...65_535).contains(port),
            let colon = arguments.last!.lastIndex(of: ":"), colon > arguments.last!.startIndex,
            let serverPort = Int(arguments.last![colon...].dropFirst()), (1...65_535).contains(serverPort)
        else { throw UsageError() }
        return (port, String(arguments.last![..<colon]), serverPort)
    }
}

struct UsageError: Error, CustomStringConvertible {
    var description: String { "usage: proxy PORT HOST:PORT" }
}
