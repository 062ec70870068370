// Connections to test with, and what the kernel can be made to do with them.

import Glibc
import Testing

@testable import Rondo

/// Two ends of a TCP connection over the loopback interface.
struct Pair {
    let client: TCPStream
    let server: TCPStream

    func close() async {
        await client.close()
        await server.close()
    }
}

/// Connects two streams of the current loop.
func connectedPair(ipv6: Bool = false) async throws -> Pair {
    let listener = try await TCPListener.listen(on: ipv6 ? .loopback6(port: 0) : .loopback(port: 0))
    let client = try await TCPStream.connect(to: listener.localAddress)
    let server = try await listener.accept()
    await listener.close()
    return Pair(client: client, server: server)
}

extension TCPStream {
    /// Puts bytes into the socket right now, without the loop: the peer's receive completes with the loop's next wait.
    func sendAtOnce(_ bytes: [UInt8]) {
        let sent = unsafe bytes.withUnsafeBytes { bytes in
            unsafe send(descriptor.rawValue, bytes.baseAddress, bytes.count, Int32(MSG_DONTWAIT))
        }
        #expect(sent == bytes.count)
    }

    /// Ends the sending direction right now, without the loop.
    func endAtOnce() {
        let answer = shutdown(descriptor.rawValue, Int32(SHUT_WR))
        #expect(answer == 0)
    }

    /// Makes the coming close reset the connection instead of ending it in order.
    func resetOnClose() {
        set(SO_LINGER, to: linger(l_onoff: 1, l_linger: 0))
    }

    /// Whether the kernel takes more bytes for the peer right now.
    var hasRoomToSend: Bool {
        var request = pollfd(fd: descriptor.rawValue, events: Int16(POLLOUT), revents: 0)
        return unsafe poll(&request, 1, 0) == 1
    }

    /// Limits what the kernel keeps for this socket's peer, or of it.
    func limitBuffers(to bytes: Int32) {
        set(SO_SNDBUF, to: bytes)
        set(SO_RCVBUF, to: bytes)
    }

    private func set<Value: BitwiseCopyable>(_ option: Int32, to value: Value) {
        var value = value
        let answer = unsafe setsockopt(
            descriptor.rawValue, SOL_SOCKET, option, &value, socklen_t(MemoryLayout<Value>.size))
        #expect(answer == 0)
    }
}
