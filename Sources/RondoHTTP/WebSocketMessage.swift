// What goes over a WebSocket, and why it ends.

/// A message, whole.
public enum WebSocketMessage: Sendable, Equatable {
    case text(String)
    case binary([UInt8])
}

/// Why a WebSocket ends.
public struct WebSocketClose: Sendable, Equatable {
    /// 1000 for the usual end, 1001 if one side goes away; RFC 6455 has the others. 1005 if the peer has not said.
    public var code: UInt16
    public var reason: String

    public init(code: UInt16 = 1000, reason: String = "") {
        self.code = code
        self.reason = reason
    }
}
