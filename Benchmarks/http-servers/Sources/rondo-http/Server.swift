import Rondo
import RondoHTTP

@main
struct Server: RondoProgram {
    func run() async throws {
        let port = Int(CommandLine.arguments[1])!
        let server = try await HTTPServer.listen(on: .loopback(port: port))
        try await server.serve { _, response in try await response.send("Hello, world!\n") }
    }
}
