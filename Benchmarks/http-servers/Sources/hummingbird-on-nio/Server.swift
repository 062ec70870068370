// Hummingbird as it comes, on NIO's own loop: one, as there is one processor.

import Hummingbird
import Logging
import NIOPosix

@main
struct Server {
    static func main() async throws {
        let router = Router()
        router.get("/") { _, _ in "Hello, world!\n" }
        var logger = Logger(label: "server")
        logger.logLevel = .error
        let address = BindAddress.hostname("127.0.0.1", port: Int(CommandLine.arguments[1])!)
        let application = Application(
            router: router, configuration: .init(address: address),
            eventLoopGroupProvider: .shared(MultiThreadedEventLoopGroup(numberOfThreads: 1)), logger: logger)
        try await application.runService()
    }
}
