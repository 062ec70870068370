import Glibc
import Synchronization
public import SystemPackage

/// What came through a Unix-domain socket.
public struct UnixMessage: Sendable {
    /// The bytes, as many as there was room for.
    public var bytes: [UInt8]
    /// The address of the socket that sent it; mostly `.unnamed`.
    public var sender: UnixAddress
    /// Descriptors that came along, each owned by its object: one that is dropped is closed.
    public var descriptors: [ReceivedDescriptor]
    /// How many bytes were sent. On a stream: how many were read.
    public var fullSize: Int
    /// Whether more descriptors were sent than there was room for. The kernel has closed those.
    public var lostDescriptors: Bool

    /// Whether the message was longer than there was room for. What did not fit is gone.
    public var isTruncated: Bool { fullSize > bytes.count }
}

/// A descriptor that came with a message, close-on-exec. It is closed with its last reference, unless it was taken.
public final class ReceivedDescriptor: Sendable {
    /// −1 when it was taken or closed.
    private let number: Atomic<Int32>
    private let closing: @Sendable (Descriptor) -> Void

    /// - Parameter closing: closes it, on any thread.
    init(_ number: Int32, closing: @escaping @Sendable (Descriptor) -> Void) {
        self.number = Atomic(number)
        self.closing = closing
    }

    deinit { close() }

    /// The descriptor, for use while this object lives; nil if it was taken or closed.
    public var fileDescriptor: FileDescriptor? { Self.named(number.load(ordering: .acquiring)) }

    /// Hands the descriptor over: the caller closes it.
    ///
    /// - Returns: nil if it was taken or closed before.
    public func take() -> FileDescriptor? { Self.named(number.exchange(-1, ordering: .acquiringAndReleasing)) }

    /// Closes it, if it was not taken.
    public func close() {
        if let descriptor = take() { closing(Descriptor(rawValue: descriptor.rawValue)) }
    }

    private static func named(_ number: Int32) -> FileDescriptor? {
        number < 0 ? nil : FileDescriptor(rawValue: number)
    }
}

/// Who is at the other end of a Unix-domain connection, as the kernel noted when it was made.
public struct UnixCredentials: Hashable, Sendable {
    /// The process, in our own numbering; 0 if it can't be seen from here.
    public var processID: Int32
    /// The effective user.
    public var userID: UInt32
    /// The effective group.
    public var groupID: UInt32
}

/// How Unix sockets send and receive descriptors and ask for credentials.
enum UnixControl {
    /// The most descriptors in one message (the kernel's SCM_MAX_FD).
    static let descriptorLimit = 253
    /// `SCM_RIGHTS`
    private static let rights: Int32 = 1
    /// `SO_TIMESTAMP`, and the type of what it brings.
    static let timestamp = SocketOption(SOL_SOCKET, 29)
    /// Received descriptors are close-on-exec. The size that was sent is told, on what is no stream.
    static let receiveFlags = Int32(MSG_CMSG_CLOEXEC)
    static let messageFlags = receiveFlags | Int32(MSG_TRUNC)

    /// Room for that many descriptors, and a time before them. Room for a time that does not come would hold more
    /// descriptors.
    static func size(descriptors: Int, withTime: Bool = false) -> Int {
        let count = min(max(0, descriptors), descriptorLimit)
        let rights = count == 0 ? 0 : MessageMemory.controlSize(count * 4)
        return rights + (withTime ? MessageMemory.paddedControlSize(16) : 0)
    }

    /// The control message that passes descriptors on; nil if there are too many.
    static func message(passing descriptors: [FileDescriptor]) -> [UInt8]? {
        if descriptors.isEmpty { return [] }
        if descriptors.count > descriptorLimit { return nil }
        return MessageMemory.controlMessage(SOL_SOCKET, rights, descriptors.map(\.rawValue))
    }

    /// What an operation has received into `memory`; it answered `count`. Every descriptor in there has an owner now.
    static func take(
        _ memory: MessageMemory, count: Int, of driver: any Driver
    ) -> (message: UnixMessage, hasTime: Bool) {
        var descriptors: [ReceivedDescriptor] = []
        var hasTime = false
        unsafe memory.forEachControlMessage { level, type, data in
            if level == SOL_SOCKET, type == timestamp.name { hasTime = true }
            guard level == SOL_SOCKET, type == rights else { return }
            // SAFETY: the data is a row of numbers, read within its bounds.
            for index in 0..<data.count / 4 {
                let number = unsafe data.loadUnaligned(fromByteOffset: index * 4, as: Int32.self)
                descriptors.append(ReceivedDescriptor(number, closing: driver.closeReceived))
            }
        }
        let message = UnixMessage(
            bytes: memory.bytes(count), sender: UnixAddress(memory.sender), descriptors: descriptors,
            fullSize: count, lostDescriptors: memory.isControlTruncated)
        return (message, hasTime)
    }

    /// Who is at the other end of `socket`.
    static func credentials(of socket: Descriptor, _ driver: any Driver) throws(Errno) -> UnixCredentials {
        let bytes = try driver.option(SocketOption(SOL_SOCKET, SO_PEERCRED), of: socket, size: 12)
        if bytes.count < 12 { throw .invalidArgument }
        // SAFETY: three numbers in 12 bytes.
        return unsafe bytes.withUnsafeBytes { bytes in
            unsafe UnixCredentials(
                processID: bytes.loadUnaligned(as: Int32.self),
                userID: bytes.loadUnaligned(fromByteOffset: 4, as: UInt32.self),
                groupID: bytes.loadUnaligned(fromByteOffset: 8, as: UInt32.self))
        }
    }
}
