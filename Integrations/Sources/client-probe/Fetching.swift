import AsyncHTTPClient
import Hummingbird
import NIOCore
import Rondo
import RondoHummingbird
import RondoNIO

extension Home {
    /// Requests by AsyncHTTPClient, all at once, to a Hummingbird application of the same program and loop.
    func fetch(count: Int) async throws {
        let router = Router()
        router.get("greeting/:name") { _, context in
            self.look()
            await Task.yield()
            self.look()
            return "hello \(try context.parameters.require("name"))"
        }
        router.post("echo") { request, _ in Response(status: .ok, body: ResponseBody(asyncSequence: request.body)) }
        let application = Application(router: router, eventLoopGroupProvider: .shared(NIOLoopGroup()))
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        try await withThrowingDiscardingTaskGroup { group in
            group.addTask { try await application.run(on: listener) }
            let client = HTTPClient(eventLoopGroupProvider: .singleton)
            do {
                let url = "http://\(listener.localAddress)"
                print("\(try await self.greetings(client, url, count)) answers were right")
                print("\(try await self.echo(client, url, bytes: 4_000_000)) bytes came back")
            } catch {
                try await client.shutdown()
                throw error
            }
            try await client.shutdown()
            self.look()
            await listener.stopAccepting()
        }
    }

    /// - Returns: how many answers were right.
    private func greetings(_ client: HTTPClient, _ url: String, _ count: Int) async throws -> Int {
        try await withThrowingTaskGroup(of: Bool.self) { group in
            for number in 0..<count {
                group.addTask {
                    self.look()
                    let request = HTTPClientRequest(url: "\(url)/greeting/\(number)")
                    let response = try await client.execute(request, timeout: .seconds(60))
                    self.look()
                    let body = try await response.body.collect(upTo: 1024)
                    self.look()
                    return response.status == .ok && String(buffer: body) == "hello \(number)"
                }
            }
            return try await group.reduce(0) { $0 + ($1 ? 1 : 0) }
        }
    }

    /// - Returns: how many bytes were the same.
    private func echo(_ client: HTTPClient, _ url: String, bytes count: Int) async throws -> Int {
        let sent = ByteBuffer(bytes: (0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31) })
        var request = HTTPClientRequest(url: "\(url)/echo")
        request.method = .POST
        request.body = .bytes(sent)
        let response = try await client.execute(request, timeout: .seconds(60))
        var received = ByteBuffer()
        for try await part in response.body {
            look()
            received.writeImmutableBuffer(part)
        }
        return received == sent ? count : 0
    }
}
