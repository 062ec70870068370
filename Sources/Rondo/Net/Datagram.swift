/// One datagram that was received.
public struct Datagram: Sendable, Hashable {
    /// The bytes, as many as there was room for. There may be none: an empty datagram is one.
    public var bytes: [UInt8]
    /// Who sent it.
    public var sender: SocketAddress
    /// How many bytes were sent.
    public var fullSize: Int

    /// Whether it was longer than there was room for. What did not fit is gone.
    public var isTruncated: Bool { fullSize > bytes.count }

    /// A datagram.
    public init(bytes: [UInt8], sender: SocketAddress, fullSize: Int? = nil) {
        self.bytes = bytes
        self.sender = sender
        self.fullSize = fullSize ?? bytes.count
    }

    /// The first `limit` bytes of it.
    func cut(to limit: Int) -> Datagram {
        if bytes.count <= limit { return self }
        return Datagram(bytes: Array(bytes[..<limit]), sender: sender, fullSize: fullSize)
    }
}
