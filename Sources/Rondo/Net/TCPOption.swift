// What can be set on a TCP connection. Not SO_LINGER with a time: closing such a socket blocks the thread that closes
// it, and that is the loop's (docs/decisions/0020).

/// A setting of a TCP connection.
public enum TCPOption: Hashable, Sendable {
    /// Whether small pieces are sent at once instead of being collected until the last ones are acknowledged. On for
    /// every connection that Rondo makes.
    case noDelay(Bool)
    /// Whether the kernel asks a silent peer now and then if it is still there; nil for never.
    case keepAlive(KeepAlive?)
    /// How long sent bytes may wait for their acknowledgement before the connection is broken with `ETIMEDOUT`; nil for
    /// the system's own rules, which take about 15 minutes.
    case userTimeout(Duration?)
    /// How many bytes the kernel keeps for this end to read. It takes twice as many, for its own needs too. Setting it
    /// turns off that the kernel finds the size by itself. To have a large window, set it before connecting or
    /// listening.
    case receiveBuffer(Int)
    /// How many bytes the kernel keeps to be sent and acknowledged. As for `receiveBuffer`.
    case sendBuffer(Int)
    /// Whether received bytes are acknowledged at once. The kernel may change that later as it likes.
    case quickAcknowledgements(Bool)
    /// Whether closing resets the connection instead of ending it in order: what was not sent is gone, and the peer's
    /// next read fails.
    case resetsOnClose(Bool)

    /// When a silent peer is asked.
    public struct KeepAlive: Hashable, Sendable {
        /// How long nothing must have come before the first question; whole seconds, at least one.
        public var idle: Duration
        /// The time between two questions; whole seconds, at least one.
        public var interval: Duration
        /// How many questions may go unanswered before the connection is broken with `ETIMEDOUT`.
        public var count: Int

        /// The default asks after a minute, and gives up 30 seconds later.
        public init(idle: Duration = .seconds(60), interval: Duration = .seconds(10), count: Int = 3) {
            self.idle = idle
            self.interval = interval
            self.count = count
        }
    }

    /// What it is for the kernel.
    var settings: [(option: SocketOption, values: [Int32])] {
        switch self {
        case .noDelay(let isOn): [(.noDelay, [isOn ? 1 : 0])]
        case .keepAlive(nil): [(.keepAlive, [0])]
        case .keepAlive(let times?):
            [
                (.keepAliveIdle, [times.idle.wholeSeconds]), (.keepAliveInterval, [times.interval.wholeSeconds]),
                (.keepAliveCount, [Int32(clamping: times.count)]), (.keepAlive, [1]),
            ]
        case .userTimeout(let time): [(.userTimeout, [time.map(\.wholeMilliseconds) ?? 0])]
        case .receiveBuffer(let bytes): [(.receiveBuffer, [Int32(clamping: bytes)])]
        case .sendBuffer(let bytes): [(.sendBuffer, [Int32(clamping: bytes)])]
        case .quickAcknowledgements(let isOn): [(.quickAcknowledgements, [isOn ? 1 : 0])]
        case .resetsOnClose(let isOn): [(.linger, [isOn ? 1 : 0, 0])]
        }
    }
}

/// What is set on a TCP connection.
public struct TCPSettings: Hashable, Sendable {
    /// See ``TCPOption/noDelay(_:)``.
    public var noDelay: Bool
    /// See ``TCPOption/keepAlive(_:)``.
    public var keepAlive: TCPOption.KeepAlive?
    /// See ``TCPOption/userTimeout(_:)``.
    public var userTimeout: Duration?
    /// What the kernel keeps for this end to read at most, its own needs included.
    public var receiveBuffer: Int
    /// What the kernel keeps to be sent at most, its own needs included.
    public var sendBuffer: Int
    /// See ``TCPOption/quickAcknowledgements(_:)``.
    public var quickAcknowledgements: Bool
    /// See ``TCPOption/resetsOnClose(_:)``.
    public var resetsOnClose: Bool

    /// Reads them with `option`.
    init<Failure>(_ option: (SocketOption) throws(Failure) -> Int32) throws(Failure) {
        noDelay = try option(.noDelay) != 0
        keepAlive = nil
        if try option(.keepAlive) != 0 {
            keepAlive = TCPOption.KeepAlive(
                idle: .seconds(try option(.keepAliveIdle)), interval: .seconds(try option(.keepAliveInterval)),
                count: Int(try option(.keepAliveCount)))
        }
        let timeout = try option(.userTimeout)
        userTimeout = timeout == 0 ? nil : .milliseconds(timeout)
        receiveBuffer = Int(try option(.receiveBuffer))
        sendBuffer = Int(try option(.sendBuffer))
        quickAcknowledgements = try option(.quickAcknowledgements) != 0
        resetsOnClose = try option(.linger) != 0
    }
}

/// A setting of a listening TCP socket.
public enum TCPListenerOption: Hashable, Sendable {
    /// Lets several sockets listen on one address, if all of them say so and belong to one user: the kernel spreads
    /// connections over them. For a loop on each core.
    case reusePort
    /// Accepts a connection only when its first bytes have come, or without them after about this time; whole seconds.
    /// A simulation takes no notice of it.
    case deferAccept(Duration)
    /// Whether a socket on `::` hears IPv6 only; else it hears IPv4 as well. Left out, the system decides
    /// (`net.ipv6.bindv6only`, usually off).
    case ipv6Only(Bool)
    /// A setting that accepted connections begin with.
    case accepted(TCPOption)

    /// What it is for the kernel.
    var settings: [(option: SocketOption, values: [Int32])] {
        switch self {
        case .reusePort: [(.reusePort, [1])]
        case .deferAccept(let time): [(.deferAccept, [time.wholeSeconds])]
        case .ipv6Only(let isOn): [(.ipv6Only, [isOn ? 1 : 0])]
        case .accepted(let option): option.settings
        }
    }
}

extension Duration {
    /// In seconds, rounded up, at least 1.
    fileprivate var wholeSeconds: Int32 {
        Int32(clamping: max(1, components.seconds + (components.attoseconds > 0 ? 1 : 0)))
    }

    /// In milliseconds, rounded up, at least 1.
    fileprivate var wholeMilliseconds: Int32 {
        let (product, overflow) = components.seconds.multipliedReportingOverflow(by: 1000)
        let part = (components.attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000
        return overflow ? .max : Int32(clamping: max(1, product + part))
    }
}
