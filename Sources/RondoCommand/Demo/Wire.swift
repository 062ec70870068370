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
    /// - Parameters:
    ///   - size: how many bytes it must have.
    ///   - isOnly: whether nothing else will be asked for over this connection.
    static func download(
        _ request: Request, from address: SocketAddress, expecting size: Int, by client: HTTPClient, isOnly: Bool
    ) async throws -> [UInt8] {
        var fields: HTTPFields = [orderField: "\(request.order)"]
        if isOnly { fields[.connection] = "close" }
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
