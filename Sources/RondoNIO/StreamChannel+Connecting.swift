// How a channel gets its connection, if it is not made of one.

public import NIOCore
import Rondo

extension StreamChannel {
    /// An attempt to connect.
    struct Connecting {
        let promise: EventLoopPromise<Void>
        let task: Task<Void, Never>
        let timeout: Scheduled<Void>?

        func giveUp(_ error: any Error) {
            timeout?.cancel()
            task.cancel()
            promise.fail(error)
        }
    }

    /// What can be connected to.
    enum Target: Sendable {
        case address(Rondo.SocketAddress)
        case unix(UnixAddress)
        case host(String, port: Int)
    }

    public func connect0(to address: NIOCore.SocketAddress, promise: EventLoopPromise<Void>?) {
        if let address = address.rondoAddress {
            connect(to: .address(address), promise)
        } else if let address = address.unixAddress {
            connect(to: .unix(address), promise)
        } else {
            promise?.fail(ChannelError.operationUnsupported)
        }
    }

    /// Connects, and becomes active. If it fails the channel closes.
    func connect(to target: Target, _ promise: EventLoopPromise<Void>?) {
        switch life {
        case .registered where stream == nil: break
        case .connecting:
            promise?.fail(ChannelError.connectPending)
            return
        case .closed:
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        case .fresh, .registered, .active:
            promise?.fail(ChannelError.inappropriateOperationForState)
            return
        }
        life = .connecting
        let settings = optionsToSet
        let task = Task.detached(name: "NIO connect", executorPreference: loop.taskExecutor) {
            do throws(Rondo.IOError) {
                await self.connected(try await Self.open(target, settings))
            } catch {
                self.couldNotConnect(error.forNIO)
            }
        }
        let timeout = options.connectTimeout.map { limit in
            loop.scheduleTask(in: limit) { self.couldNotConnect(ChannelError.connectTimeout(limit)) }
        }
        connecting = Connecting(
            promise: promise ?? loop.makePromise(of: Void.self), task: task, timeout: timeout)
    }

    private static func open(_ target: Target, _ settings: [TCPOption]) async throws(Rondo.IOError) -> SocketStream {
        switch target {
        case .address(let address): try await TCPStream.connect(to: address, options: settings)
        case .host(let host, let port): try await TCPStream.connect(to: host, port: port, options: settings)
        case .unix(let address): try await UnixStream.connect(to: address)
        }
    }

    private func connected(_ stream: SocketStream) async {
        // Closed meanwhile.
        guard life == .connecting, let connecting else { return await stream.close() }
        connecting.timeout?.cancel()
        self.connecting = nil
        self.stream = stream
        startReader()
        becomeActive(connecting.promise)
    }

    private func couldNotConnect(_ error: any Error) {
        if life == .connecting { close0(error: error, mode: .all, promise: nil) }
    }
}
