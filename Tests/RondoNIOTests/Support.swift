// What the tests of this folder share: a loop with each driver, connected pairs, and a handler that writes down what
// happens in its pipeline.

import Foundation
import NIOCore
import Rondo
import RondoNIO
import Testing

typealias Loop = Rondo.EventLoop

/// The drivers that work here.
let drivers: [DriverKind] = DriverKind.allCases.filter { driver in
    var configuration = LoopConfiguration()
    configuration.driver = driver
    return (try? Loop.run(configuration: configuration) { true }) ?? false
}

/// Runs a test on a loop of its own.
func run(_ driver: DriverKind, _ body: sending @escaping () async throws -> Void) throws {
    var configuration = LoopConfiguration()
    configuration.driver = driver
    try Loop.run(configuration: configuration, body)
}

/// Starts a task on the test's own loop: others have no executor to themselves while tests block its threads.
func start<Value: Sendable>(_ body: sending @escaping () async throws -> Value) -> Task<Value, any Error> {
    Task(executorPreference: Loop.current!.executor) { try await body() }
}

/// A channel, and a plain stream at the other end of the connection.
func pair(_ setUp: (StreamChannel) throws -> Void) async throws -> (channel: StreamChannel, peer: TCPStream) {
    let listener = try await TCPListener.listen(on: .loopback(port: 0))
    let peer = try await TCPStream.connect(to: listener.localAddress)
    let channel = StreamChannel(try await listener.accept())
    await listener.close()
    try setUp(channel)
    channel.start()
    return (channel, peer)
}

/// The last handler of a pipeline: notes what reaches it. It belongs to the loop of its channel.
final class Recorder: ChannelInboundHandler, @unchecked Sendable {
    // SAFETY: the tests run on the channel's loop.
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    private(set) var events: [String] = []
    private(set) var received: [UInt8] = []
    private(set) var reads = 0
    private(set) var errors: [any Error] = []
    /// What is done with what was read.
    var whenRead: ((ChannelHandlerContext, ByteBuffer) -> Void)?
    private var waiters: [(isMet: () -> Bool, continuation: CheckedContinuation<Void, Never>)] = []

    /// Waits until something is so.
    func wait(until isMet: @escaping () -> Bool) async {
        if isMet() { return }
        await withCheckedContinuation { waiters.append((isMet, $0)) }
    }

    func wait(for event: String) async { await wait { self.events.contains(event) } }

    var text: String { String(decoding: received, as: UTF8.self) }

    private func note(_ event: String?) {
        if let event { events.append(event) }
        let met = waiters.filter { $0.isMet() }
        waiters.removeAll { $0.isMet() }
        for waiter in met { waiter.continuation.resume() }
    }

    func handlerAdded(context: ChannelHandlerContext) { note("added") }
    func handlerRemoved(context: ChannelHandlerContext) { note("removed") }
    func channelRegistered(context: ChannelHandlerContext) { note("registered") }
    func channelUnregistered(context: ChannelHandlerContext) { note("unregistered") }
    func channelActive(context: ChannelHandlerContext) { note("active") }
    func channelInactive(context: ChannelHandlerContext) { note("inactive") }
    func channelWritabilityChanged(context: ChannelHandlerContext) {
        note(context.channel.isWritable ? "writable" : "not writable")
    }

    func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        let buffer = unwrapInboundIn(data)
        reads += 1
        received += buffer.readableBytesView
        whenRead?(context, buffer)
        note(nil)
    }

    func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        switch event {
        case ChannelEvent.inputClosed: note("input closed")
        case ChannelEvent.outputClosed: note("output closed")
        default: note("event \(event)")
        }
    }

    func errorCaught(context: ChannelHandlerContext, error: any Error) {
        errors.append(error)
        note("error")
    }
}

/// Sends everything back.
final class Echo: ChannelInboundHandler, Sendable {
    typealias InboundIn = ByteBuffer
    typealias OutboundOut = ByteBuffer

    func channelRead(context: ChannelHandlerContext, data: NIOAny) { context.write(data, promise: nil) }
    func channelReadComplete(context: ChannelHandlerContext) { context.flush() }
}

/// The error that `body` throws.
func failure(_ body: () async throws -> Void) async -> (any Error)? {
    do { try await body() } catch { return error }
    return nil
}

extension TCPStream {
    /// Reads exactly this many bytes, as text.
    func text(_ count: Int) async throws -> String {
        String(decoding: try await readExactly(count), as: UTF8.self)
    }
}

/// The TCP sockets of this machine that have a port and are open at this end, in the kernel's table.
func openSockets(port: Int) throws -> [Substring] {
    let hexadecimal = String(port, radix: 16, uppercase: true)
    let name = ":" + String(repeating: "0", count: 4 - hexadecimal.count) + hexadecimal
    return try String(contentsOfFile: "/proc/net/tcp", encoding: .utf8).split(separator: "\n").filter { line in
        let fields = line.split(separator: " ")
        // A connection that both ends have closed is TIME_WAIT (06), and belongs to nobody.
        return fields.count > 3 && fields[3] != "06" && (fields[1].hasSuffix(name) || fields[2].hasSuffix(name))
    }
}
