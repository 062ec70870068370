// A Unix-domain connection: a SocketStream that can also carry descriptors.

import CRondo
import Glibc
public import SystemPackage

/// A Unix-domain connection: bytes in both directions, and descriptors.
@safe
public final class UnixStream: SocketStream, @unchecked Sendable {
    // SAFETY: as SocketStream. `name` and `messages` never change. The memory of a message belongs to the function that
    // waits for it.

    /// What errors call the peer.
    private let name: String
    /// `received`, by its own type.
    private let messages: MessageReceiveQueue

    init(_ descriptor: Descriptor, name: String, loop: EventLoop) {
        self.name = name
        messages = MessageReceiveQueue(descriptor, loop: loop)
        super.init(descriptor, loop: loop, received: messages)
    }

    override var peerName: String? { name }
    override var kindName: String { "a Unix stream" }

    // MARK: Connecting

    /// Connects to an address. While the listener's queue is full this waits.
    ///
    /// - Throws: `IOError`: `connect to /run/app.sock: Connection refused`.
    public static func connect(to address: UnixAddress) async throws(IOError) -> UnixStream {
        let loop = EventLoop.required(for: "UnixStream.connect")
        return try await loop.onLoop { () async throws(IOError) in
            let descriptor = try await BoundUnixSocket.connect(.unixStream, to: address, on: loop)
            return UnixStream(descriptor, name: "\(address)", loop: loop)
        }
    }

    /// Two streams that are connected with each other.
    public static func pair() throws(IOError) -> (UnixStream, UnixStream) {
        let loop = EventLoop.required(for: "UnixStream.pair")
        do throws(Errno) {
            let (first, second) = try loop.driver.openSocketPair(.unixStream)
            let name = "the other end of a pair"
            return (UnixStream(first, name: name, loop: loop), UnixStream(second, name: name, loop: loop))
        } catch {
            throw IOError("make", "a pair of Unix streams", .system(error))
        }
    }

    // MARK: Descriptors

    /// Sends all of `bytes`, and descriptors with the first of them. They are this program's as before; the peer gets
    /// its own.
    ///
    /// - Parameters:
    ///   - bytes: at least one.
    ///   - descriptors: at most 253. They must stay open until this returns.
    public func write(_ bytes: [UInt8], passing descriptors: [FileDescriptor]) async throws(IOError) {
        if descriptors.isEmpty { return try await write(bytes) }
        if bytes.isEmpty { throw error("write to", .invalid("descriptors need a byte that they go with")) }
        guard let control = UnixControl.message(passing: descriptors) else {
            throw error("write to", .tooManyDescriptors(descriptors.count))
        }
        try await loop.onLoop { () async throws(IOError) in
            try await beginWriting("write to")
            defer { sending.end() }
            let content = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count, alignment: 1)
            // SAFETY: freed when this function returns, which is after the last completion.
            defer { unsafe content.deallocate() }
            unsafe content.copyBytes(from: bytes)
            let memory = MessageMemory()
            unsafe memory.prepareToSend(UnsafeRawBufferPointer(content), to: nil, control: control)
            var answer = await unsafe loop.perform(.sendMessage(descriptor, UnsafePointer(memory.header), flags: 0))
            withExtendedLifetime(memory) {}
            var sent = 0
            while answer >= 0 {
                sent += Int(answer)
                if sent == bytes.count { return }
                let rest = unsafe UnsafeRawPointer(content.baseAddress! + sent)
                answer = await unsafe loop.perform(.send(descriptor, rest, count: bytes.count - sent))
            }
            throw failure("write to", answer)
        }
    }

    /// Waits for bytes, and takes the descriptors that came with them.
    ///
    /// Descriptors end a message: it may begin with bytes that came without any, and goes no further than those that
    /// the descriptors were sent with. What ``read(upTo:)`` reads loses its descriptors, and it reads ahead: so after
    /// the first ``read(upTo:)`` this is refused. The other way round is no mistake.
    ///
    /// If the task is cancelled it throws, and nothing is lost by that: the next call gets it.
    ///
    /// - Parameters:
    ///   - limit: the most bytes to take; what is left over comes with the next call.
    ///   - descriptorLimit: the most descriptors to take, up to 253. The kernel closes the others, and the message says
    ///     so.
    /// - Returns: nil at the end of the stream.
    public func readMessage(
        upTo limit: Int = 65_536, descriptors descriptorLimit: Int = 16
    ) async throws(IOError) -> UnixMessage? {
        try await loop.onLoop { () async throws(IOError) in
            if loop.spendOperation() { await loop.yieldInTurn() }
            if isClosed { throw error("read from", .closed) }
            if messages.hasWaiter || messages.isReceivingMessage { throw error("read from", .busy) }
            if messages.hasBegun {
                throw error("read from", .invalid("read() was used before, and may have lost descriptors"))
            }
            let memory = MessageMemory()
            let controlSize = UnixControl.size(descriptors: descriptorLimit)
            memory.prepareToReceive(upTo: max(1, limit), controlSize: controlSize)
            let answer = await messages.receiveMessage(memory)
            if answer < 0 { throw failure("read from", answer) }
            let message = UnixControl.take(memory, count: Int(answer), of: loop.driver).message
            return answer == 0 ? nil : message
        }
    }

    // MARK: Who it is

    /// This end's address.
    public var localAddress: UnixAddress {
        get throws(IOError) {
            try lookUp("find the address of") { () throws(Errno) in
                UnixAddress(try loop.driver.localName(of: descriptor))
            }
        }
    }

    /// The peer's address; `.unnamed` for most clients.
    public var peerAddress: UnixAddress {
        get throws(IOError) {
            try lookUp("find the peer of") { () throws(Errno) in
                UnixAddress(try loop.driver.peerName(of: descriptor))
            }
        }
    }

    /// Who the peer is: the process that connected, or that began to listen.
    public var peerCredentials: UnixCredentials {
        get throws(IOError) {
            try lookUp("find the credentials of the peer of") { () throws(Errno) in
                try UnixControl.credentials(of: descriptor, loop.driver)
            }
        }
    }
}

/// A receiving side that can also take one message at a time, with what came along.
@safe
final class MessageReceiveQueue: ReceiveQueue, @unchecked Sendable {
    // SAFETY: as ReceiveQueue. The memory of a message is kept by who waits for it.

    /// Where a message is being received to.
    private var memory: MessageMemory?
    /// Whether a task waits for that, and not for bytes.
    private var awaitsMessage = false

    /// Whether a message is being received.
    var isReceivingMessage: Bool { memory != nil }

    /// Receives one message into `target`; cancelled or not, it returns when the kernel is through with that.
    ///
    /// - Returns: the number of bytes, or a negated errno.
    func receiveMessage(_ target: MessageMemory) async -> Int32 {
        if loop.isShuttingDown { return -ECANCELED }
        memory = target
        unsafe operation = loop.start(
            .receiveMessage(descriptor, target.header, flags: UnixControl.receiveFlags), sink: self)
        awaitsMessage = true
        // Closing wakes whoever waits, and the kernel may still have the memory.
        while memory === target { _ = await waitForNews() }
        awaitsMessage = false
        return target.result
    }

    override var hasNewsAlready: Bool { awaitsMessage ? memory == nil : super.hasNewsAlready }

    override func deliver(_ completion: Completion) {
        guard let memory else { return super.deliver(completion) }
        self.memory = nil
        operation = nil
        memory.result = completion.result
        wake()
        finishClosing()
    }

    /// The waiting task goes on when the operation has ended.
    override func waiterWasCancelled() {
        guard isReceivingMessage else { return super.waiterWasCancelled() }
        if let operation { loop.cancel(operation) }
    }
}
