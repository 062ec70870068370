// From a request to a WebSocket.

import Crypto
import HTTPTypes
import Rondo

extension ServerResponse {
    /// Answers a request for a WebSocket, runs `body` with it, and closes it.
    ///
    /// ```
    /// try await response.upgradeToWebSocket(request) { socket in
    ///     while let message = try await socket.receive() { try await socket.send(message) }
    /// }
    /// ```
    ///
    /// A request that is none for a WebSocket is answered with 426 (400 if it is a broken one), and `body` is not
    /// run. When the server ends, the client is told so (1001); `body` goes on until the client has closed. The
    /// caller's headers go with the answer: `Sec-WebSocket-Protocol`, for one that was chosen.
    ///
    /// - Parameter messageLimit: the largest message that is accepted, in bytes.
    /// - Throws: what `body` throws; `IOError` if the connection breaks.
    public func upgradeToWebSocket(
        _ request: ServerRequest, messageLimit: Int = 1 << 20, _ body: (WebSocket) async throws -> Void
    ) async throws {
        guard exchange.isHome(#isolation) else {
            throw IOError("upgrade", subject, .invalid("only the handler's own task can do that, outside of actors"))
        }
        let fields = request.headers
        let isAsked = fields[.upgrade]?.lowercased().split(separator: ",").contains { $0.trimmed == "websocket" }
        guard request.method == .get, isAsked == true, fields[.secWebSocketVersion] == "13" else {
            headers[.secWebSocketVersion] = "13"
            headers[.upgrade] = "websocket"
            return try await send(.upgradeRequired)
        }
        guard let key = fields[.secWebSocketKey], Self.isKey(key) else { return try await send(.badRequest) }
        headers[.secWebSocketAccept] = Self.answer(to: key)
        headers[.upgrade] = "websocket"
        guard let (socket, finish) = try await begin(messageLimit) else { return try await send(.notImplemented) }
        do {
            try await body(socket)
            try? await socket.close()
            // The client's own close, or its end.
            while try await socket.receive() != nil {}
        } catch {
            try? await socket.close(WebSocketClose(code: 1011, reason: ""))
            finish()
            throw error
        }
        finish()
    }

    private func begin(_ messageLimit: Int) async throws(IOError) -> (WebSocket, () -> Void)? {
        guard let connection = exchange as? HTTP1Connection else { return nil }
        markWhole()
        return try await connection.switchToWebSocket(headers, messageLimit)
    }

    /// 16 bytes in Base64.
    private static func isKey(_ key: String) -> Bool {
        key.utf8.count == 24 && key.hasSuffix("==")
            && key.utf8.dropLast(2).allSatisfy { byte in
                byte.isDigit || byte == UInt8(ascii: "+") || byte == UInt8(ascii: "/")
                    || byte | 0x20 >= UInt8(ascii: "a") && byte | 0x20 <= UInt8(ascii: "z")
            }
    }

    static func answer(to key: String) -> String {
        let digest = Insecure.SHA1.hash(data: Array((key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11").utf8))
        return base64(Array(digest))
    }

    private static func base64(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/".utf8)
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            var bits = group.reduce(0 as UInt32) { $0 << 8 | UInt32($1) }
            bits <<= UInt32(8 * (3 - group.count))
            for place in 0..<4 {
                text.append(
                    place <= group.count ? alphabet[Int(bits >> UInt32(18 - 6 * place) & 63)] : UInt8(ascii: "="))
            }
        }
        return String(decoding: text, as: UTF8.self)
    }
}

extension Substring {
    fileprivate var trimmed: Substring { drop { $0 == " " }.prefix { $0 != " " } }
}

extension HTTP1Connection {
    /// Answers 101, and gives the stream to a WebSocket.
    ///
    /// - Returns: the socket, and what is to be called when nobody uses it any more; nil if the client has not asked
    ///   for an upgrade.
    func switchToWebSocket(
        _ fields: HTTPFields, _ messageLimit: Int
    ) async throws(IOError) -> (WebSocket, () -> Void)? {
        guard wantsUpgrade else { return nil }
        answer.hasBegun = true
        answer.hasEnded = true
        answer.keepsAlive = false
        answer.status = .switchingProtocols
        output.append("HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\n")
        for field in fields {
            output.append(field.name.rawName)
            output.append(": ")
            output.append(field.value)
            output.appendLineEnd()
        }
        output.appendLineEnd()
        try await flush()
        // The upgraded connection has no time limits of HTTP's.
        leaveHTTP()
        let socket = WebSocket(stream, rest: input.take(), messageLimit: messageLimit)
        whenDrained = { try? await socket.close(WebSocketClose(code: 1001, reason: "the server ends")) }
        return (socket, { self.whenDrained = nil })
    }
}
