// A connection through a proxy of the same loop, and bytes whose place in the stream shows.

import Glibc
import Testing

@testable import Rondo

/// A client, a proxy's two ends, and a server: `client — near`, `far — server`.
struct Proxied {
    let client: TCPStream
    let near: TCPStream
    let far: TCPStream
    let server: TCPStream

    /// - Parameter buffers: what the kernel keeps for each end; nil for as much as it likes.
    init(buffers: Int32? = nil) async throws {
        let (first, second) = (try await connectedPair(), try await connectedPair())
        (client, near, far, server) = (first.client, first.server, second.client, second.server)
        guard let buffers else { return }
        for end in [client, near, far, server] { end.limitBuffers(to: buffers) }
    }

    func close() async { for end in [client, near, far, server] { await end.close() } }
    func abort() async { for end in [client, near, far, server] { await end.abort() } }

    /// Whether a copy from `near` moves in bulk, and waits for the client.
    var waitsInBulk: Bool { near.received.hasReader && !near.received.hasWaiter }

    /// Sends block after block, each when the one before has come through a copy that runs, until that waits in bulk.
    ///
    /// - Returns: how many bytes.
    func fillUntilBulk() async throws -> Int {
        var count = 0
        while !waitsInBulk {
            #expect(count < 8 << 20, "a copy does not notice that bytes come in bulk")
            if count >= 8 << 20 { break }
            client.sendAtOnce(Bulk.bytes(Bulk.block, from: count))
            let isSame = try await server.receives(Bulk.block, from: count)
            #expect(isSame)
            count += Bulk.block
            await settle()
        }
        return count
    }
}

/// A stream of bytes that repeats only after a prime number of them.
enum Bulk {
    static let part = pattern(1_000_003)
    /// More than a message, and less than a receive window at its beginning.
    static let block = 48 * 1024

    static func bytes(_ count: Int, from offset: Int) -> [UInt8] {
        var bytes: [UInt8] = []
        bytes.reserveCapacity(count)
        while bytes.count < count {
            let start = (offset + bytes.count) % part.count
            bytes += part[start..<min(part.count, start + count - bytes.count)]
        }
        return bytes
    }
}

extension SocketStream {
    /// Writes a stretch of that stream.
    func sendBulk(_ count: Int, from offset: Int = 0) async throws {
        var sent = 0
        while sent < count {
            let size = min(1 << 20, count - sent)
            try await write(Bulk.bytes(size, from: offset + sent))
            sent += size
        }
    }

    /// Reads `count` bytes, and says whether they are those of that stream.
    func receives(_ count: Int, from offset: Int = 0) async throws -> Bool {
        var received = 0
        while received < count, let chunk = try await read(upTo: count - received) {
            if !isPart(Array(chunk), of: Bulk.part, at: offset + received) { return false }
            received += chunk.count
        }
        return received == count
    }
}
