// A socket that keeps messages apart: what UDP, Unix datagram and Unix seqpacket sockets share. One task at a time
// receives; any number may send, one after the other.

import CRondo
import Glibc
import SystemPackage

/// A socket for messages. It belongs to the loop's thread.
@safe
final class MessageSocket: @unchecked Sendable {
    // SAFETY: `loop`, `descriptor`, `name` and `path` never change. The rest belongs to the loop's thread, where every
    // method is called. The two memories live as long as the socket, which who waits for an operation keeps; bytes to
    // be sent are kept by the caller of `send`, which waits.

    let loop: EventLoop
    let descriptor: Descriptor
    /// What errors call it.
    let name: String
    /// The file that goes with it.
    private let path: BoundPath?
    /// What was received, until the next receive.
    let incoming = MessageMemory()
    private let outgoing = MessageMemory()
    private let receiver: EndableOperation
    private let sender: EndableOperation
    private let turns: Turns
    private var isReceiving = false
    private(set) var isClosed = false

    /// What `receive` answers if another task receives already.
    private static let busy = -EALREADY

    init(_ descriptor: Descriptor, name: String, path: BoundPath? = nil, loop: EventLoop) {
        self.descriptor = descriptor
        self.loop = loop
        self.name = name
        self.path = path
        receiver = EndableOperation(descriptor, loop: loop)
        sender = EndableOperation(descriptor, loop: loop)
        turns = Turns(descriptor, loop: loop)
    }

    deinit {
        if isClosed { return }
        let (descriptor, loop, path) = (descriptor, loop, path)
        loop.detach {
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
            await path?.remove(on: loop)
        }
    }

    /// Receives one message into `incoming`. What has left the kernel is never lost: if the task was cancelled too
    /// late, this answers as if it had not been.
    ///
    /// - Returns: the message's size, or a negated errno.
    func receive(upTo limit: Int, controlSize: Int, flags: Int32 = 0) async -> Int32 {
        if loop.spendOperation() { await loop.yieldInTurn() }
        if isClosed { return -EBADF }
        if isReceiving { return Self.busy }
        isReceiving = true
        defer { isReceiving = false }
        incoming.prepareToReceive(upTo: limit, controlSize: controlSize)
        return await unsafe receiver.perform(.receiveMessage(descriptor, incoming.header, flags: flags))
    }

    /// Sends one message when those before it have been sent. The caller keeps the bytes until this returns.
    ///
    /// - Returns: the number of bytes, or a negated errno.
    func send(
        _ bytes: UnsafeRawBufferPointer, to destination: SocketName?, control: [UInt8] = [], flags: Int32 = 0
    ) async -> Int32 {
        if loop.spendOperation() { await loop.yieldInTurn() }
        if isClosed { return -EBADF }
        guard await turns.take() else { return -ECANCELED }
        defer { turns.give() }
        if isClosed { return -EBADF }
        unsafe outgoing.prepareToSend(bytes, to: destination, control: control)
        return await unsafe sender.perform(.sendMessage(descriptor, UnsafePointer(outgoing.header), flags: flags))
    }

    /// Ends the direction out.
    func finishSending() async -> Int32 {
        if isClosed { return -EBADF }
        guard await turns.take() else { return -ECANCELED }
        defer { turns.give() }
        return isClosed ? -EBADF : await unsafe loop.perform(.shutdown(descriptor, how: Int32(SHUT_WR)))
    }

    /// Closes it: who receives or sends meanwhile gets an error. From any thread.
    func close() async {
        await loop.onLoop {
            if isClosed { return }
            isClosed = true
            await receiver.end()
            await sender.end()
            _ = await unsafe loop.performToTheEnd(.close(descriptor))
            await path?.remove(on: loop)
        }
    }

    /// The error that an answer stands for.
    func error(_ operation: String, _ answer: Int32, subject: String? = nil) -> IOError {
        let subject = subject ?? name
        if isClosed { return IOError(operation, subject, .closed) }
        if answer == Self.busy { return IOError(operation, subject, .busy) }
        return IOError(operation, subject, IOError.cause(ofAnswer: answer))
    }

    /// Asks the system about this socket.
    func lookUp<Value>(_ operation: String, _ body: () throws(Errno) -> Value) throws(IOError) -> Value {
        // Closed, its descriptor may already be another's.
        if loop.isOnOwnThread, isClosed { throw IOError(operation, name, .closed) }
        do throws(Errno) { return try body() } catch { throw IOError(operation, name, .system(error)) }
    }
}
