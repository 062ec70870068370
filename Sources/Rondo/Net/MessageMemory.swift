// What recvmsg and sendmsg point to: bytes, an address, and control messages (man 2 recvmsg, man 3 cmsg). The kernel
// reads and writes it until an operation's last completion.

import Glibc

/// The memory of one message. Who submits an operation with it keeps it until the last completion.
@safe
final class MessageMemory {
    // SAFETY: all memory is the object's own and freed with it, but for the bytes of a message that is sent, which are
    // the sender's, who waits. Lengths in the header never exceed what was allocated.

    /// What the kernel is given.
    let header: UnsafeMutablePointer<msghdr>
    private let vector: UnsafeMutablePointer<iovec>
    private let name: UnsafeMutableRawPointer
    /// Memory for received bytes and for control messages; grown when more is asked for.
    private var payload = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var control = unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0)
    private var limit = 0
    /// What the operation has answered, for who does not wait for it directly.
    var result: Int32 = 0

    /// The bytes of a control message's head: its length, its level, its type.
    private static let headSize = MemoryLayout<cmsghdr>.size

    init() {
        unsafe header = .allocate(capacity: 1)
        unsafe header.initialize(to: msghdr())
        unsafe vector = .allocate(capacity: 1)
        unsafe vector.initialize(to: iovec())
        unsafe name = .allocate(byteCount: SocketName.capacity, alignment: 8)
        unsafe header.pointee.msg_iov = unsafe vector
        unsafe header.pointee.msg_iovlen = 1
    }

    deinit {
        unsafe header.deallocate()
        unsafe vector.deallocate()
        unsafe name.deallocate()
        unsafe payload.deallocate()
        unsafe control.deallocate()
    }

    // MARK: Receiving

    /// Makes room for a message of at most `limit` bytes and control messages of `controlSize` bytes.
    func prepareToReceive(upTo limit: Int, controlSize: Int) {
        self.limit = limit
        unsafe Self.grow(&payload, to: max(limit, 1))
        unsafe Self.grow(&control, to: controlSize)
        unsafe vector.pointee = iovec(iov_base: payload.baseAddress, iov_len: limit)
        unsafe header.pointee.msg_name = unsafe name
        unsafe header.pointee.msg_namelen = socklen_t(SocketName.capacity)
        unsafe header.pointee.msg_control = unsafe controlSize == 0 ? nil : control.baseAddress
        unsafe header.pointee.msg_controllen = controlSize
        unsafe header.pointee.msg_flags = 0
    }

    private static func grow(_ memory: inout UnsafeMutableRawBufferPointer, to size: Int) {
        if memory.count >= size { return }
        unsafe memory.deallocate()
        unsafe memory = .allocate(byteCount: size, alignment: 8)
    }

    /// The received bytes, when the operation has answered `count`.
    func bytes(_ count: Int) -> [UInt8] { bytes(in: 0..<min(count, limit)) }

    /// The received bytes from `start` on, when the operation has answered more.
    func bytes(in range: Range<Int>) -> [UInt8] {
        unsafe Array(UnsafeRawBufferPointer(payload)[range])
    }

    /// Who has sent the message.
    var sender: SocketName {
        unsafe SocketName(UnsafeRawBufferPointer(start: name, count: nameLength))
    }

    /// Who has sent the message, if that is an internet address.
    var internetSender: SocketAddress? {
        if nameLength == 0 { return nil }
        return unsafe SocketAddress(name.assumingMemoryBound(to: sockaddr.self), length: socklen_t(nameLength))
    }

    private var nameLength: Int { unsafe min(Int(header.pointee.msg_namelen), SocketName.capacity) }

    /// Whether the message had more bytes than there was room for.
    var isTruncated: Bool { unsafe header.pointee.msg_flags & Int32(MSG_TRUNC) != 0 }

    /// Whether control messages were cut short.
    var isControlTruncated: Bool { unsafe header.pointee.msg_flags & Int32(MSG_CTRUNC) != 0 }

    /// Walks the control messages that came along.
    func forEachControlMessage(_ body: (_ level: Int32, _ type: Int32, _ data: UnsafeRawBufferPointer) -> Void) {
        var position = 0
        let end = unsafe min(header.pointee.msg_controllen, control.count)
        while position + Self.headSize <= end {
            let head = unsafe control.loadUnaligned(fromByteOffset: position, as: cmsghdr.self)
            let length = Int(head.cmsg_len)
            // The kernel writes none that is shorter than its head or reaches beyond the end.
            if length < Self.headSize || length > end - position { return }
            let data = unsafe UnsafeRawBufferPointer(
                rebasing: control[position + Self.headSize..<position + length])
            unsafe body(head.cmsg_level, head.cmsg_type, data)
            position += Self.padded(length)
        }
    }

    // MARK: Sending

    /// Points to a message that is to be sent. The sender keeps `bytes` until the last completion.
    func prepareToSend(_ bytes: UnsafeRawBufferPointer, to destination: SocketName?, control message: [UInt8]) {
        unsafe vector.pointee = iovec(
            iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
        let nameBytes = destination?.bytes ?? []
        unsafe name.copyMemory(from: nameBytes, byteCount: nameBytes.count)
        unsafe header.pointee.msg_name = unsafe nameBytes.isEmpty ? nil : name
        unsafe header.pointee.msg_namelen = socklen_t(nameBytes.count)
        unsafe Self.grow(&control, to: message.count)
        unsafe control.copyBytes(from: message)
        unsafe header.pointee.msg_control = unsafe message.isEmpty ? nil : control.baseAddress
        unsafe header.pointee.msg_controllen = message.count
        unsafe header.pointee.msg_flags = 0
    }

    // MARK: Control messages

    /// How much room a control message with `size` bytes of data needs, if it is the last one.
    static func controlSize(_ size: Int) -> Int { headSize + size }

    /// How much room it needs with others behind it.
    static func paddedControlSize(_ size: Int) -> Int { padded(headSize + size) }

    /// A control message to be sent.
    static func controlMessage<Value: BitwiseCopyable>(
        _ level: Int32, _ type: Int32, _ values: [Value]
    ) -> [UInt8] {
        let data = unsafe values.withUnsafeBytes { unsafe Array($0) }
        var head = cmsghdr()
        head.cmsg_len = headSize + data.count
        head.cmsg_level = level
        head.cmsg_type = type
        let headBytes = unsafe withUnsafeBytes(of: head) { unsafe Array($0.prefix(headSize)) }
        return headBytes + data + [UInt8](repeating: 0, count: padded(data.count) - data.count)
    }

    private static func padded(_ size: Int) -> Int { (size + 7) & ~7 }
}
