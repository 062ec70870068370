// How customers talk to the front, and the front to the origin: HTTP, with the order's number in a field of its own.

import HTTPTypes
import Rondo
import RondoHTTP
import RondoHTTPClient

/// What a customer wants, or the front on its behalf.
struct Request: Sendable {
    var order: Int
    var path: String
}

/// An answer that is not what was asked for, in words.
struct WireError: Error, CustomStringConvertible {
    var description: String
}

enum Wire {
    private static let orderField = HTTPField.Name("Rondo-Order")!
    /// The most bytes of an answer that says what went wrong.
    private static let wordsLimit = 16 * 1024

    /// A client that asks our own servers: as many requests at once as there are orders, and no proxy in between.
    static func client(requestsAtOnce: Int) -> HTTPClient {
        var configuration = HTTPClientConfiguration()
        configuration.pool.requests = requestsAtOnce
        configuration.pool.requestsPerHost = requestsAtOnce
        configuration.pool.idleConnections = requestsAtOnce
        configuration.version = .http1
        configuration.proxy = .none
        return HTTPClient(configuration: configuration)
    }

    /// Downloads a file.
    ///
    /// - Parameter size: how many bytes it must have.
    static func download(
        _ request: Request, from address: SocketAddress, expecting size: Int, by client: HTTPClient
    ) async throws -> [UInt8] {
        let fields: HTTPFields = [orderField: "\(request.order)"]
        let response = try await client.get("http://\(address)/\(escaped(request.path))", fields)
        guard response.status == .ok else {
            throw WireError(description: try await response.body.text(limit: wordsLimit))
        }
        if let announced = response.contentLength, announced != size {
            throw WireError(
                description: "it has \(Int(announced).grouped) bytes, and the index says \(size.grouped): "
                    + "it was changed after the index was made")
        }
        return try await response.body.collect(limit: size)
    }

    /// Orders a file over a connection that serves for nothing else, and with no more HTTP than that takes: customers
    /// are many, and what they do is not what the demo is about.
    static func order(_ request: Request, over stream: TCPStream, expecting size: Int) async throws -> [UInt8] {
        try await stream.write(
            "GET /\(escaped(request.path)) HTTP/1.1\r\nHost: front\r\n\(orderField): \(request.order)\r\n"
                + "Connection: close\r\n\r\n")
        let reader = BufferedReader(stream)
        guard let status = try await reader.readLine() else {
            throw WireError(description: "the stream ended before the answer began")
        }
        var count: Int?
        while let line = try await reader.readLine(), !line.isEmpty {
            let parts = line.split(separator: ":", maxSplits: 1)
            if parts.count == 2, parts[0].lowercased() == "content-length" {
                count = Int(parts[1].drop { $0 == " " })
            }
        }
        guard let count, count <= max(size, wordsLimit) else {
            throw WireError(description: "not an answer: \(status.prefix(80))")
        }
        let body = try await reader.readExactly(count)
        if !status.hasPrefix("HTTP/1.1 200 ") {
            throw WireError(description: String(decoding: body, as: UTF8.self))
        }
        if count != size {
            throw WireError(description: "\(count.grouped) of \(size.grouped) bytes arrived")
        }
        return body
    }

    /// What a request asks for.
    static func read(_ request: ServerRequest) throws -> Request {
        guard let order = request.headers[orderField].flatMap({ Int($0) }),
            let path = unescaped(request.path.dropFirst())
        else { throw WireError(description: "not an order: \(request.target.prefix(80))") }
        return Request(order: order, path: path)
    }

    /// Answers what went wrong, in words.
    static func send(failure: any Error, to response: ServerResponse) async throws {
        let words = "\(failure)".split(whereSeparator: \.isNewline).joined(separator: " ")
        try await response.send(String(words.prefix(2000)), status: .badGateway)
    }

    // MARK: Paths in URLs (RFC 3986)

    private static let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/".utf8)

    private static func escaped(_ path: String) -> String {
        path.utf8.reduce(into: "") { text, byte in
            if plain.contains(byte) {
                text.unicodeScalars.append(Unicode.Scalar(byte))
            } else {
                text += "%" + String(byte >> 4, radix: 16) + String(byte & 15, radix: 16)
            }
        }
    }

    private static func unescaped(_ path: Substring) -> String? {
        var bytes: [UInt8] = []
        var rest = path.utf8[...]
        while let byte = rest.popFirst() {
            guard byte == UInt8(ascii: "%") else {
                bytes.append(byte)
                continue
            }
            guard let value = UInt8(String(rest.prefix(2)) ?? "", radix: 16) else { return nil }
            bytes.append(value)
            rest = rest.dropFirst(2)
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
