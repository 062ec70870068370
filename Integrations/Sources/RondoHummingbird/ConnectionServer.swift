// Connections of a listener as Hummingbird's channels, and how they end in order.

import HummingbirdCore
import Logging
import NIOCore
import Rondo
import RondoNIO
import ServiceLifecycle
import Synchronization

/// Runs connections through a child channel of Hummingbird's.
struct ConnectionServer<Child: ServerChildChannel>: Sendable {
    let child: Child
    let logger: Logger
    private let open = OpenChannels()

    init(child: Child, logger: Logger) {
        self.child = child
        self.logger = logger
    }

    /// Serves until the listener stops accepting and the last connection has closed. Graceful shutdown brings that
    /// about.
    func serve(_ listener: TCPListener) async throws {
        try await withGracefulShutdownHandler {
            try await listener.serve(over: Runtime.current) { try await run($0) }
        } onGracefulShutdown: {
            // The tasks that serve are waited for by `serve`; this one hastens them.
            Task {
                open.end()
                await listener.stopAccepting()
            }
        }
    }

    /// One connection, until it has closed.
    private func run(_ stream: TCPStream) async throws {
        try await StreamChannel.with(stream) { channel in
            // A client that has sent all of its requests, and says so, still gets its answers.
            try channel.syncOptions?.setOption(.allowRemoteHalfClosure, value: true)
            return (channel, child.setup(channel: channel, logger: logger))
        } body: { channel, setUp in
            let value = try await setUp.get()
            open.add(channel)
            // The channel itself hears of the cancellation, too, but not while it waits for a handshake.
            await withTaskCancellationHandler {
                await child.handle(value: value, logger: logger)
            } onCancel: {
                channel.close(promise: nil)
            }
            open.remove(channel)
        }
    }
}

/// The channels of a server, so that they can be told of its end. From any thread.
private final class OpenChannels: Sendable {
    private struct State {
        var channels: [ObjectIdentifier: StreamChannel] = [:]
        var isEnding = false
    }
    private let state = Mutex(State())

    func add(_ channel: StreamChannel) {
        let isLate = state.withLock { state in
            state.channels[ObjectIdentifier(channel)] = channel
            return state.isEnding
        }
        if isLate { quiesce(channel) }
    }

    func remove(_ channel: StreamChannel) {
        state.withLock { $0.channels[ObjectIdentifier(channel)] = nil }
    }

    /// Closes those that wait for a request; the others answer first.
    func end() {
        let channels = state.withLock { state in
            state.isEnding = true
            return Array(state.channels.values)
        }
        for channel in channels { quiesce(channel) }
    }

    private func quiesce(_ channel: StreamChannel) {
        channel.eventLoop.execute {
            channel.pipeline.fireUserInboundEventTriggered(ChannelShouldQuiesceEvent())
        }
    }
}
