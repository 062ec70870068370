// The answer's way out: the head, and a body of known length or in chunks.

import HTTPTypes
import Rondo

/// How far an answer is.
struct AnswerState {
    var isHead = false
    var minorVersion = 1
    var keepsAlive = true
    var hasBegun = false
    var hasEnded = false
    var isChunked = false
    /// Bytes of a body whose length was announced that are still to come.
    var left: Int?
    var status = HTTPResponse.Status.ok
    var bodyBytes = 0

    /// Whether the client has got a part of it only.
    var isIncomplete: Bool { hasBegun && !hasEnded }
}

extension HTTP1Connection: ResponseExchange {
    func send(
        _ status: HTTPResponse.Status, _ fields: HTTPFields, _ type: StaticString?, _ body: RawSpan
    ) async throws(IOError) {
        beginHead(status)
        append(fields, exceptLength: true)
        if let type, body.byteCount > 0 {
            output.append("Content-Type: ")
            output.append(type)
            output.appendLineEnd()
        }
        if status.mayHaveBody {
            output.append("Content-Length: ")
            output.append(body.byteCount)
            output.appendLineEnd()
        }
        endHead()
        answer.hasEnded = true
        if answer.isHead || !status.mayHaveBody { return }
        answer.bodyBytes = body.byteCount
        if body.byteCount <= 64 * 1024 { return output.append(body) }
        try await flush()
        try await sendAtOnce(body)
    }

    func begin(_ status: HTTPResponse.Status, _ fields: HTTPFields) async throws(IOError) {
        beginHead(status)
        append(fields, exceptLength: false)
        if let length = fields[.contentLength], let count = Int(length) {
            answer.left = count
        } else if status.mayHaveBody {
            answer.isChunked = answer.minorVersion == 1
            // In HTTP/1.0 the end of the connection is the end of the body.
            if answer.isChunked { output.append("Transfer-Encoding: chunked\r\n") } else { answer.keepsAlive = false }
        } else {
            answer.left = 0
        }
        endHead()
    }

    func write(_ bytes: RawSpan) async throws(IOError) {
        if let left = answer.left {
            if bytes.byteCount > left, !answer.isHead {
                throw IOError("write to", "an HTTP response", .invalid("the body is longer than its Content-Length"))
            }
            answer.left = left - bytes.byteCount
        }
        if answer.isHead { return }
        answer.bodyBytes += bytes.byteCount
        if answer.isChunked {
            output.appendHexadecimal(bytes.byteCount)
            output.appendLineEnd()
        }
        if bytes.byteCount <= 64 * 1024 {
            output.append(bytes)
        } else {
            try await flush()
            try await sendAtOnce(bytes)
        }
        if answer.isChunked { output.appendLineEnd() }
        try await flush()
    }

    func write(from source: FileSource, limit: Int) async throws(IOError) -> Int {
        // Little goes together with the head.
        guard let socket, let left = answer.left, left >= limit, limit >= 256 * 1024, !answer.isHead else {
            return try await readAndWrite(source, limit)
        }
        try await flush()
        let before = phase
        wait(.write, server.timeouts.write)
        let count = try await copy(from: source, to: socket, limit: limit)
        resume(before)
        answer.left = left - count
        answer.bodyBytes += count
        return count
    }

    func end(_ trailers: HTTPFields) async throws(IOError) {
        if let left = answer.left, left > 0, !answer.isHead {
            throw IOError("finish", "an HTTP response", .invalid("the body is shorter than its Content-Length"))
        }
        answer.hasEnded = true
        if answer.isChunked, !answer.isHead {
            output.append("0\r\n")
            append(trailers, exceptLength: true)
            output.appendLineEnd()
        }
    }

    // MARK: The head

    private func beginHead(_ status: HTTPResponse.Status) {
        answer.hasBegun = true
        answer.status = status
        if status.code == 200 {
            output.append("HTTP/1.1 200 OK\r\nDate: ")
        } else {
            output.append("HTTP/1.1 ")
            output.append(status.code)
            output.append(" ")
            output.append(status.reasonPhrase)
            output.append("\r\nDate: ")
        }
        output.append(registry.date)
        output.appendLineEnd()
        if let name = server.serverName {
            output.append("Server: ")
            output.append(name)
            output.appendLineEnd()
        }
    }

    private func endHead() {
        if !answer.keepsAlive {
            output.append("Connection: close\r\n")
        } else if answer.minorVersion == 0 {
            output.append("Connection: keep-alive\r\n")
        }
        output.appendLineEnd()
    }

    /// What the handler says. How the body ends, and what becomes of the connection, is said by the server.
    private func append(_ fields: HTTPFields, exceptLength: Bool) {
        if fields.isEmpty { return }
        for field in fields {
            if field.name == .connection {
                if field.value.lowercased().contains("close") { answer.keepsAlive = false }
                continue
            }
            if field.name == .transferEncoding || exceptLength && field.name == .contentLength { continue }
            output.append(field.name.rawName)
            output.append(": ")
            output.append(field.value)
            output.appendLineEnd()
        }
    }

    private func sendAtOnce(_ bytes: RawSpan) async throws(IOError) {
        let before = phase
        wait(.write, server.timeouts.write)
        try await stream.write(bytes)
        resume(before)
    }
}

extension HTTPResponse.Status {
    /// Whether an answer with it may have a body.
    var mayHaveBody: Bool { code >= 200 && code != 204 && code != 304 }
}
