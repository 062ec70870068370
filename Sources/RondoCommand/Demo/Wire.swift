// How customers talk to the front, and the front to the origin: the same few words.
//
//     request   get <order> <path>\n
//     answer    ok <size>\n  and that many bytes, then the end of the stream
//               error <words>\n
//
// The size comes first, so an answer that was cut off is never taken for a whole one.

import Rondo

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
    /// The longest line: a path has at most 4,096 bytes on Linux.
    private static let lineLimit = 8192
    private static let lineEnd = UInt8(ascii: "\n")

    static func send(_ request: Request, to stream: TCPStream) async throws {
        try await stream.write("get \(request.order) \(request.path)\n")
    }

    static func readRequest(from stream: TCPStream) async throws -> Request {
        var line: [UInt8] = []
        while line.last != lineEnd {
            guard line.count <= lineLimit, let chunk = try await stream.read() else {
                throw WireError(description: "the request ended after \(line.count) bytes, without a line's end")
            }
            line.append(copying: chunk.bytes)
        }
        let words = line.dropLast().split(separator: UInt8(ascii: " "), maxSplits: 2)
        guard words.count == 3, words[0].elementsEqual("get".utf8),
            let order = Int(String(decoding: words[1], as: UTF8.self))
        else { throw WireError(description: "not a request: \(String(decoding: line.prefix(80), as: UTF8.self))") }
        return Request(order: order, path: String(decoding: words[2], as: UTF8.self))
    }

    static func send(_ content: [UInt8], to stream: TCPStream) async throws {
        try await stream.write(Array("ok \(content.count)\n".utf8) + content)
    }

    static func send(failure: any Error, to stream: TCPStream) async throws {
        let words = "\(failure)".split(whereSeparator: \.isNewline).joined(separator: " ")
        try await stream.write("error \(words.prefix(2000))\n")
    }

    /// Reads an answer to its end.
    ///
    /// - Parameter size: how many bytes the content must have.
    static func readAnswer(from stream: TCPStream, expecting size: Int) async throws -> [UInt8] {
        var answer: [UInt8] = []
        var headLength: Int?
        while let chunk = try await stream.read() {
            answer.append(copying: chunk.bytes)
            if headLength == nil, let end = answer.firstIndex(of: lineEnd) {
                try check(head: String(decoding: answer[..<end], as: UTF8.self), expecting: size)
                headLength = end + 1
                answer.reserveCapacity(end + 1 + size)
            }
            guard answer.count <= (headLength.map { $0 + size } ?? lineLimit) else {
                throw WireError(description: "more arrived than the \(size.grouped) bytes that were announced")
            }
        }
        guard let headLength else { throw WireError(description: "the stream ended before the answer began") }
        guard answer.count == headLength + size else {
            let count = (answer.count - headLength).grouped
            throw WireError(description: "the stream ended after \(count) of \(size.grouped) bytes")
        }
        return Array(answer[headLength...])
    }

    /// Reads an answer's first line.
    private static func check(head: String, expecting size: Int) throws {
        if head.hasPrefix("error ") { throw WireError(description: String(head.dropFirst(6))) }
        guard head.hasPrefix("ok "), let announced = Int(head.dropFirst(3)) else {
            throw WireError(description: "not an answer: \(head.prefix(80))")
        }
        guard announced == size else {
            throw WireError(
                description: "it has \(announced.grouped) bytes, and the index says \(size.grouped): "
                    + "it was changed after the index was made")
        }
    }
}
