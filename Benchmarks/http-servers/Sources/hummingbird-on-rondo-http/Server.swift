import Hummingbird
import Logging
import Rondo
import RondoHTTP
import RondoHummingbird
import RondoNIO

@main
struct Server: RondoProgram {
    func run() async throws {
        let router = Router()
        router.get("/") { _, _ in "Hello, world!\n" }
        var logger = Logger(label: "server")
        logger.logLevel = .error
        let application = Application(
            router: router, eventLoopGroupProvider: .shared(NIOLoopGroup()), logger: logger)
        let server = try await HTTPServer.listen(on: .loopback(port: Int(CommandLine.arguments[1])!))
        try await application.runService(on: server)
    }
}
