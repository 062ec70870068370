// What can be set on a channel.

public import NIOCore
import Rondo

/// The options of a channel that are its own, not the socket's.
struct StreamOptions {
    var autoRead = true
    var allowRemoteHalfClosure = false
    var waterMark = ChannelOptions.Types.WriteBufferWaterMark(low: 32 * 1024, high: 64 * 1024)
    var connectTimeout: TimeAmount? = .seconds(10)
    /// Kept for those who ask; what the driver has received comes in one piece anyway.
    var messagesPerRead: UInt = 4
    /// The most bytes that a `channelRead` brings.
    var readLimit = 256 * 1024
}

extension StreamChannel {
    public func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) -> EventLoopFuture<Void> {
        if loop.inEventLoop {
            return loop.makeCompletedFuture { try self.setOption0(option, value) }
        }
        return loop.submit { try self.setOption0(option, value) }
    }

    public func getOption<Option: ChannelOption>(_ option: Option) -> EventLoopFuture<Option.Value> {
        if loop.inEventLoop {
            return loop.makeCompletedFuture { try self.getOption0(option) }
        }
        return loop.submit { try self.getOption0(option) }
    }

    private struct SynchronousOptions: NIOSynchronousChannelOptions {
        let channel: StreamChannel

        func setOption<Option: ChannelOption>(_ option: Option, value: Option.Value) throws {
            channel.loop.preconditionInEventLoop()
            try channel.setOption0(option, value)
        }

        func getOption<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
            channel.loop.preconditionInEventLoop()
            return try channel.getOption0(option)
        }
    }

    public var syncOptions: (any NIOSynchronousChannelOptions)? { SynchronousOptions(channel: self) }

    private func setOption0<Option: ChannelOption>(_ option: Option, _ value: Option.Value) throws {
        if life == .closed { throw ChannelError.ioOnClosedChannel }
        switch option {
        case is ChannelOptions.Types.AutoReadOption: setAutoRead(value as! Bool)
        case is ChannelOptions.Types.AllowRemoteHalfClosureOption: options.allowRemoteHalfClosure = value as! Bool
        case is ChannelOptions.Types.WriteBufferWaterMarkOption:
            options.waterMark = value as! ChannelOptions.Types.WriteBufferWaterMark
        case is ChannelOptions.Types.ConnectTimeoutOption: options.connectTimeout = value as! TimeAmount?
        case is ChannelOptions.Types.MaxMessagesPerReadOption: options.messagesPerRead = value as! UInt
        case let option as ChannelOptions.Types.SocketOption:
            guard let stream = stream as? TCPStream else {
                if stream == nil, let setting = option.setting(Int(value as! ChannelOptions.Types.SocketOption.Value)) {
                    return optionsToSet.append(setting)
                }
                throw ChannelError.operationUnsupported
            }
            try option.set(Int(value as! ChannelOptions.Types.SocketOption.Value), on: stream)
        case is ChannelOptions.Types.WriteSpinOption, is ChannelOptions.Types.AllocatorOption,
            is ChannelOptions.Types.RecvAllocatorOption:
            break  // They tune what is not done here: the driver's buffers are of one size, and nothing spins.
        default: throw ChannelError.operationUnsupported
        }
    }

    private func getOption0<Option: ChannelOption>(_ option: Option) throws -> Option.Value {
        if life == .closed { throw ChannelError.ioOnClosedChannel }
        let value: Any
        switch option {
        case is ChannelOptions.Types.AutoReadOption: value = options.autoRead
        case is ChannelOptions.Types.AllowRemoteHalfClosureOption: value = options.allowRemoteHalfClosure
        case is ChannelOptions.Types.WriteBufferWaterMarkOption: value = options.waterMark
        case is ChannelOptions.Types.ConnectTimeoutOption: value = options.connectTimeout as Any
        case is ChannelOptions.Types.MaxMessagesPerReadOption: value = options.messagesPerRead
        case is ChannelOptions.Types.BufferedWritableBytesOption: value = writes.bytes
        case is ChannelOptions.Types.AllocatorOption: value = allocator
        case let option as ChannelOptions.Types.SocketOption:
            guard let stream = stream as? TCPStream else { throw ChannelError.operationUnsupported }
            value = ChannelOptions.Types.SocketOption.Value(try option.get(from: stream))
        default: throw ChannelError.operationUnsupported
        }
        return value as! Option.Value
    }

    private func setAutoRead(_ isOn: Bool) {
        if isOn == options.autoRead { return }
        options.autoRead = isOn
        // What is wanted no longer is, even if the reading task is waiting for it.
        if isOn { readIfAutomatic() } else { isReadWanted = false }
    }
}

/// Options of the socket, as far as Rondo's streams have them.
extension ChannelOptions.Types.SocketOption {
    /// The setting of a stream; nil if there is none, or nothing to do.
    func setting(_ value: Int) -> TCPOption? {
        switch (optionLevel, optionName) {
        case (.tcp, .tcp_nodelay): .noDelay(value != 0)
        case (.socket, .so_keepalive): .keepAlive(value != 0 ? TCPOption.KeepAlive() : nil)
        case (.socket, .so_rcvbuf): .receiveBuffer(value)
        case (.socket, .so_sndbuf): .sendBuffer(value)
        default: nil
        }
    }

    /// Sets it. Rondo's setter is async, but does not wait on the stream's own loop.
    func set(_ value: Int, on stream: TCPStream) throws {
        guard let setting = setting(value) else {
            if optionLevel == .socket, optionName == .so_reuseaddr { return }  // Only listeners have a use for it.
            throw ChannelError.operationUnsupported
        }
        try now { try await stream.set(setting) }
    }

    func get(from stream: TCPStream) throws -> Int {
        if optionLevel == .socket, optionName == .so_reuseaddr { return 1 }
        let settings = try now { try await stream.settings }
        switch (optionLevel, optionName) {
        case (.tcp, .tcp_nodelay): return settings.noDelay ? 1 : 0
        case (.socket, .so_keepalive): return settings.keepAlive == nil ? 0 : 1
        case (.socket, .so_rcvbuf): return settings.receiveBuffer
        case (.socket, .so_sndbuf): return settings.sendBuffer
        default: throw ChannelError.operationUnsupported
        }
    }
}

/// The result of a function that is async, but does not wait where it is called.
private func now<Value>(_ body: @escaping () async throws -> Value) throws -> Value {
    let answer = Answer<Value>()
    // SAFETY: the task runs here and now, before this function goes on.
    nonisolated(unsafe) let work = body
    Task.immediate {
        do { answer.result = .success(try await unsafe work()) } catch { answer.result = .failure(error) }
    }
    guard let result = answer.result else { throw ChannelError.inappropriateOperationForState }
    do { return try result.get() } catch { throw (error as? Rondo.IOError)?.forNIO ?? error }
}

private final class Answer<Value>: @unchecked Sendable {
    // SAFETY: written and read in one call of `now`.
    var result: Result<Value, any Error>?
}
