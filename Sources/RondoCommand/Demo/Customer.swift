import Rondo

/// One file for one customer.
struct Order: Sendable {
    /// From 1.
    var number: Int
    var file: IndexedFile
}

/// How an order ended.
struct OrderOutcome: Sendable {
    var order: Order
    /// Why it failed, in words; nil if the customer got the file and it was the right one.
    var failure: String?
}

/// Who orders.
struct Customer: Sendable {
    let front: SocketAddress
    /// How long a customer waits before it gives up.
    let patience: Duration
    let threads: ThreadWitness

    /// Orders a file and checks what arrives.
    func place(_ order: Order) async -> OrderOutcome {
        threads.note()
        do {
            try await withTimeout(patience) { try await receive(order) }
            threads.note()
            return OrderOutcome(order: order)
        } catch let error as TimeoutError {
            return OrderOutcome(order: order, failure: "the front gave \(error)")
        } catch {
            return OrderOutcome(order: order, failure: "\(error)")
        }
    }

    private func receive(_ order: Order) async throws {
        let stream = try await TCPStream.connect(to: front)
        do {
            let request = Request(order: order.number, path: order.file.path)
            let content = try await Wire.order(request, over: stream, expecting: order.file.size)
            try await Checksum.verify(content, against: order.file)
            await stream.close()
        } catch {
            await stream.close()
            throw error
        }
    }
}
