// The server that customers see. Each order is one connection and one task; before it waits it says for whom, and that
// is all that the timeline needs beside what the loop notes by itself.

import Rondo
import RondoHTTP
import RondoHTTPClient

/// Looks an order up, downloads it from the origin, checks it and sends it on.
final class Front: Sendable {
    private let server: HTTPServer
    private let index: OrderIndex
    private let origin: SocketAddress
    private let client: HTTPClient
    private let threads: ThreadWitness

    var address: SocketAddress { server.localAddress }

    init(index: OrderIndex, origin: SocketAddress, ordersAtOnce: Int, threads: ThreadWitness) async throws {
        self.index = index
        self.origin = origin
        self.threads = threads
        client = Wire.client(requestsAtOnce: ordersAtOnce)
        server = try await HTTPServer.listen(on: .loopback(port: 0))
    }

    /// Serves until the task is cancelled.
    func run() async {
        try? await server.serve { request, response in
            let trace = OrderTrace(loop: EventLoop.current!)
            defer { trace.end() }
            do {
                try await self.serve(try Wire.read(request), response, trace)
            } catch {
                trace.wait(for: .customer)
                try await Wire.send(failure: error, to: response)
            }
        }
        await server.close()
        await client.close()
    }

    private func serve(_ request: Request, _ response: ServerResponse, _ trace: OrderTrace) async throws {
        trace.order = request.order
        threads.note()

        trace.wait(for: .database)
        guard let file = try await withTraceSpan("look up", { try await index.file(at: request.path) }) else {
            throw WireError(description: "the index has no such file")
        }
        threads.note()

        trace.wait(for: .origin)
        let content = try await withTraceSpan("download") { try await download(request, of: file) }
        threads.note()
        try await withTraceSpan("check") { try await Checksum.verify(content, against: file) }

        trace.wait(for: .customer)
        try await withTraceSpan("send") { try await response.send(content) }
        threads.note()
    }

    private func download(_ request: Request, of file: IndexedFile) async throws -> [UInt8] {
        do {
            return try await Wire.download(request, from: origin, expecting: file.size, by: client)
        } catch let error as WireError {
            throw WireError(description: "from the origin: \(error)")
        }
    }
}
