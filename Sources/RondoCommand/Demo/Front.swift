// The server that customers see. Each order is one task; before it waits it says for whom, and that is all that the
// timeline needs beside what the loop notes by itself.

import Rondo

/// Looks an order up, downloads it from the origin, checks it and sends it on.
final class Front: Sendable {
    private let listener: TCPListener
    private let index: OrderIndex
    private let origin: SocketAddress
    private let threads: ThreadWitness

    var address: SocketAddress { listener.localAddress }

    init(index: OrderIndex, origin: SocketAddress, threads: ThreadWitness) async throws {
        self.index = index
        self.origin = origin
        self.threads = threads
        listener = try await TCPListener.listen(on: .loopback(port: 0))
    }

    /// Serves until the task is cancelled.
    func run() async {
        let listener = listener
        try? await listener.serve { [self] stream in
            let trace = OrderTrace(loop: listener.loop)
            defer { trace.end() }
            do {
                try await serve(stream, trace)
            } catch {
                trace.wait(for: .customer)
                try await Wire.send(failure: error, to: stream)
            }
        }
        await listener.close()
    }

    private func serve(_ customer: TCPStream, _ trace: OrderTrace) async throws {
        trace.wait(for: .customer)
        let request = try await Wire.readRequest(from: customer)
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
        try await withTraceSpan("send") { try await Wire.send(content, to: customer) }
        threads.note()
    }

    private func download(_ request: Request, of file: IndexedFile) async throws -> [UInt8] {
        let stream = try await TCPStream.connect(to: origin)
        do {
            try await Wire.send(request, to: stream)
            let content = try await Wire.readAnswer(from: stream, expecting: file.size)
            await stream.close()
            return content
        } catch {
            await stream.close()
            throw error is WireError ? WireError(description: "from the origin: \(error)") : error
        }
    }
}
