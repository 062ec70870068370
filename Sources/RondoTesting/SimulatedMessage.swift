// What receive and send operations point to (man 2 recvmsg, man 3 cmsg), read and written as the kernel does.

import CRondo
import CRondoTesting
import Glibc
import Rondo

/// What was sent at once to a Unix socket: a message, or bytes of a stream.
struct SimulatedParcel {
    var bytes: [UInt8]
    /// Who has sent it, while that is open.
    weak var sender: SimulatedUnixSocket?
    /// The sender's address.
    var address: UnixAddress?
    /// What goes with it. Each is kept until it is received.
    var passed: [SimulatedObject] = []
    /// What a message takes of the sender's room. Of a stream each byte takes one.
    var price = 0
}

/// The message of an operation that is not over.
@safe
struct SimulatedMessage {
    // SAFETY: who waits for the operation keeps the message and all that it points to, with the lengths that it says,
    // until the last completion; a value of this type is used before that.

    private let message: UnsafeMutablePointer<msghdr>

    /// The bytes of a control message's head: its length, its level, its type.
    private static let headSize = MemoryLayout<cmsghdr>.size
    /// `SCM_RIGHTS`
    private static let rights: Int32 = 1
    /// The most descriptors in one message (`SCM_MAX_FD`).
    private static let passedLimit = 253

    init(_ message: UnsafeMutablePointer<msghdr>) { unsafe self.message = unsafe message }

    /// A message that is sent: it is only read.
    init(sending message: UnsafePointer<msghdr>) { unsafe self.message = UnsafeMutablePointer(mutating: message) }

    // MARK: Sending

    /// The bytes to be sent. The loop's messages have one part each.
    var bytes: UnsafeRawBufferPointer { unsafe UnsafeRawBufferPointer(space) }

    /// Where to; nil for the peer.
    var name: SocketName? {
        guard let start = unsafe message.pointee.msg_name, unsafe message.pointee.msg_namelen > 0 else { return nil }
        return unsafe SocketName(UnsafeRawBufferPointer(start: start, count: Int(message.pointee.msg_namelen)))
    }

    /// What the descriptors stand for that go with it.
    func passed(in world: SimulatedWorld) -> Result<[SimulatedObject], SimulatedErrno> {
        var objects: [SimulatedObject] = []
        guard let start = unsafe message.pointee.msg_control else { return .success([]) }
        let control = unsafe UnsafeRawBufferPointer(start: start, count: message.pointee.msg_controllen)
        var position = 0
        while position + Self.headSize <= control.count {
            let head = unsafe control.loadUnaligned(fromByteOffset: position, as: cmsghdr.self)
            let length = Int(head.cmsg_len)
            guard length >= Self.headSize, length <= control.count - position, head.cmsg_level == SOL_SOCKET,
                head.cmsg_type == Self.rights
            else { return .failure(SimulatedErrno(EINVAL)) }
            for place in stride(from: position + Self.headSize, to: position + length, by: 4) {
                let number = unsafe control.loadUnaligned(fromByteOffset: place, as: Int32.self)
                guard let object = world.descriptors[Descriptor(rawValue: number)] else {
                    return .failure(SimulatedErrno(EBADF))
                }
                objects.append(object)
            }
            position += Self.padded(length)
        }
        return objects.count > Self.passedLimit ? .failure(SimulatedErrno(EINVAL)) : .success(objects)
    }

    // MARK: Receiving

    private var space: UnsafeMutableRawBufferPointer {
        if unsafe message.pointee.msg_iovlen == 0 { return unsafe UnsafeMutableRawBufferPointer(start: nil, count: 0) }
        let part = unsafe message.pointee.msg_iov.pointee
        return unsafe UnsafeMutableRawBufferPointer(start: part.iov_base, count: part.iov_len)
    }

    /// How many bytes it takes.
    var room: Int { unsafe space.count }

    /// The end has come, and nothing with it.
    func fillWithNothing() {
        unsafe message.pointee.msg_namelen = 0
        unsafe message.pointee.msg_controllen = 0
        unsafe message.pointee.msg_flags = 0
    }

    /// Puts in what was sent, and opens a descriptor for each object that came along and has room.
    ///
    /// - Parameter time: when it came, if that is asked for.
    /// - Returns: how many bytes had room.
    func fill(with parcel: SimulatedParcel, time: UInt64?, _ world: SimulatedWorld) -> Int {
        let count = min(room, parcel.bytes.count)
        unsafe space.copyBytes(from: parcel.bytes.prefix(count))
        var flags = count < parcel.bytes.count ? Int32(MSG_TRUNC) : 0
        writeName(parcel.address?.socketName.bytes ?? [])
        var used = 0
        if let time {
            let seconds = Int(RONDO_VIRTUAL_EPOCH_SECONDS) + Int(time / 1_000_000_000)
            append(SO_TIMESTAMP, [seconds, Int(time / 1000 % 1_000_000)], at: &used)
        }
        let limit = unsafe max(0, message.pointee.msg_controllen - used - Self.headSize) / 4
        var numbers: [Int32] = []
        for object in parcel.passed {
            if numbers.count < limit, let descriptor = world.descriptors.open(object) {
                numbers.append(descriptor.rawValue)
            } else {
                flags |= Int32(MSG_CTRUNC)
            }
            object.letGo()
        }
        if !numbers.isEmpty { append(Self.rights, numbers, at: &used) }
        unsafe message.pointee.msg_controllen = unsafe min(used, message.pointee.msg_controllen)
        unsafe message.pointee.msg_flags = flags
        return count
    }

    private func writeName(_ name: [UInt8]) {
        if let target = unsafe message.pointee.msg_name {
            let size = unsafe min(name.count, Int(message.pointee.msg_namelen))
            unsafe UnsafeMutableRawBufferPointer(start: target, count: size).copyBytes(from: name.prefix(size))
        }
        unsafe message.pointee.msg_namelen = socklen_t(name.count)
    }

    /// Adds a control message, if it has room.
    private func append<Value: BitwiseCopyable>(_ type: Int32, _ values: [Value], at used: inout Int) {
        let length = Self.headSize + values.count * MemoryLayout<Value>.stride
        guard let start = unsafe message.pointee.msg_control, unsafe used + length <= message.pointee.msg_controllen
        else { return }
        var head = cmsghdr()
        head.cmsg_len = length
        head.cmsg_level = SOL_SOCKET
        head.cmsg_type = type
        unsafe (start + used).copyMemory(from: &head, byteCount: Self.headSize)
        unsafe values.withUnsafeBytes {
            unsafe (start + used + Self.headSize).copyMemory(from: $0.baseAddress!, byteCount: $0.count)
        }
        used += Self.padded(length)
    }

    private static func padded(_ size: Int) -> Int { (size + 7) & ~7 }
}
