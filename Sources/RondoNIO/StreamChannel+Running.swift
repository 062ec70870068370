// The ways from one of Rondo's streams to a channel.

import NIOCore
public import Rondo

extension StreamChannel {
    /// Runs a connection as a channel, until it has closed. For the handler of a listener:
    ///
    /// ```
    /// try await listener.serve { stream in
    ///     try await StreamChannel.run(stream) { channel in
    ///         try channel.pipeline.syncOperations.configureHTTPServerPipeline()
    ///         try channel.pipeline.syncOperations.addHandler(Hello())
    ///     }
    /// }
    /// ```
    ///
    /// The calling task is the one that reads; nothing is started. If it is cancelled the channel closes.
    ///
    /// - Parameter setUp: adds the handlers, on the loop, before the channel is active.
    /// - Throws: what `setUp` throws; the stream is closed then.
    public static func run(
        _ stream: SocketStream, _ setUp: @Sendable (StreamChannel) throws -> Void
    ) async throws {
        let channel = StreamChannel(stream)
        try await channel.onLoop { @Sendable channel in
            channel.hasReader = true
            do {
                try setUp(channel)
            } catch {
                channel.close0(error: error, mode: .all, promise: nil)
                await channel.finishClosing()
                throw error
            }
            channel.registerAlreadyConfigured0(promise: nil)
            await withTaskCancellationHandler {
                await channel.runReader()
            } onCancel: {
                channel.close(promise: nil)
            }
        }
    }

    /// Runs `body` with what `setUp` has made of a channel, usually a `NIOAsyncChannel`, while another task reads; then
    /// closes the channel, and returns when it has closed.
    ///
    /// ```
    /// try await StreamChannel.with(stream) { channel in
    ///     try NIOAsyncChannel<ByteBuffer, ByteBuffer>(wrappingChannelSynchronously: channel)
    /// } body: { channel in
    ///     try await channel.executeThenClose { inbound, outbound in
    ///         for try await message in inbound { try await outbound.write(message) }
    ///     }
    /// }
    /// ```
    ///
    /// If the task is cancelled, so is `body`'s waiting; the channel closes when `body` has ended.
    public static func with<Output: Sendable, Value: Sendable>(
        _ stream: SocketStream, _ setUp: @Sendable (StreamChannel) throws -> Output,
        body: @Sendable (Output) async throws -> Value
    ) async throws -> Value {
        let channel = StreamChannel(stream)
        return try await channel.onLoop { @Sendable channel in
            let output: Output
            do {
                output = try setUp(channel)
            } catch {
                channel.close0(error: error, mode: .all, promise: nil)
                try? await channel.closeFuture.get()
                throw error
            }
            channel.startReader()
            channel.registerAlreadyConfigured0(promise: nil)
            let result: Result<Value, any Error>
            do { result = .success(try await body(output)) } catch { result = .failure(error) }
            channel.close(promise: nil)
            try? await channel.closeFuture.get()
            return try result.get()
        }
    }

    /// Makes the channel active and starts a task that reads, for channels that nobody waits for.
    ///
    /// On the loop's thread, once, when the handlers are in place.
    public func start() {
        loop.preconditionInEventLoop()
        startReader()
        registerAlreadyConfigured0(promise: nil)
    }

    private func onLoop<Value: Sendable>(
        _ body: @Sendable (StreamChannel) async throws -> Value
    ) async throws -> Value {
        if loop.inEventLoop { return try await body(self) }
        return try await hop(body)
    }

    @concurrent
    private func hop<Value: Sendable>(
        _ body: @Sendable (StreamChannel) async throws -> Value
    ) async throws -> Value {
        try await withTaskExecutorPreference(loop.taskExecutor) { @concurrent () async throws -> Value in
            loop.preconditionInEventLoop()
            return try await body(self)
        }
    }
}
