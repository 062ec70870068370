// Many datagrams in one call: the kernel cuts them off one large piece (UDP_SEGMENT, Linux 4.18), which is most of what
// sending many costs. Where it can't they are sent one by one.

import CRondo
import Glibc
import SystemPackage

extension UDPSocket {
    /// The most datagrams that every kernel cuts off one piece.
    private static let segmentsPerCall = 64
    /// The most bytes in one piece, over IPv4.
    private static let bytesPerCall = 65_507

    /// Sends `bytes` as datagrams of `size` bytes each; the last one is what is left.
    ///
    /// With a kernel that can, up to 64 of them cost one system call. If the task is cancelled some of them may have
    /// been sent.
    ///
    /// - Parameters:
    ///   - bytes: the contents of the datagrams, one after the other.
    ///   - size: bytes in a datagram, at least 1. For speed it should fit into a packet: 1,472 on Ethernet.
    ///   - destination: where to; nil on a connected socket.
    public func send(
        _ bytes: [UInt8], inDatagramsOf size: Int, to destination: SocketAddress? = nil
    ) async throws(IOError) {
        guard (1...Self.sizeLimit).contains(size) else {
            let words = "\(size) is no size for a datagram: use 1 to \(Self.bytesPerCall)"
            throw IOError("send to", "\(destination ?? peerAddress ?? localAddress)", .invalid(words))
        }
        try await loop.onLoop { () async throws(IOError) in
            let memory = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
            // SAFETY: freed when this function returns, which is after the last completion; parts are within it.
            defer { unsafe memory.deallocate() }
            unsafe memory.copyBytes(from: bytes)
            var start = 0
            while start < bytes.count {
                let piece = min(max(1, min(Self.segmentsPerCall, Self.bytesPerCall / size)) * size, bytes.count - start)
                let content = unsafe UnsafeRawBufferPointer(rebasing: memory[start..<start + piece])
                try await unsafe send(content, inDatagramsOf: size, to: destination)
                start += piece
            }
        }
    }

    private func send(
        _ piece: UnsafeRawBufferPointer, inDatagramsOf size: Int, to destination: SocketAddress?
    ) async throws(IOError) {
        let name = destination.map { SocketName($0) }
        if piece.count > size, usesSegmentation {
            let control = MessageMemory.controlMessage(
                MessageMemory.udpLevel, MessageMemory.udpSegment, [UInt16(size)])
            let answer = await unsafe socket.send(piece, to: name, control: control)
            if answer >= 0 { return }
            // A datagram that is larger than a packet, and some devices and routes, need it the other way.
            guard [-EINVAL, -EIO, -EMSGSIZE, -EOPNOTSUPP, -ENOPROTOOPT].contains(answer) else {
                throw failure(answer, destination)
            }
        }
        var start = 0
        while start < piece.count {
            let end = min(start + size, piece.count)
            // SAFETY: within the piece, which the caller keeps.
            let answer = await unsafe socket.send(UnsafeRawBufferPointer(rebasing: piece[start..<end]), to: name)
            if answer < 0 { throw failure(answer, destination) }
            start = end
        }
    }

    /// Whether the kernel cuts datagrams: one that can't would send the piece as it is.
    private var usesSegmentation: Bool {
        if let mayUseSegmentation { return mayUseSegmentation }
        let option = SocketOption(MessageMemory.udpLevel, MessageMemory.udpSegment)
        let answer = (try? loop.driver.option(option, of: socket.descriptor, size: 4)) != nil
        mayUseSegmentation = answer
        return answer
    }
}
