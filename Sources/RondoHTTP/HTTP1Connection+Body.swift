// The body of a request: it is read when the handler asks for it.

import HTTPTypes
import Rondo

extension HTTP1Connection {
    /// How far the body has been read.
    enum BodyState {
        case none
        case length(Int)
        case chunked(ChunkedBody)
        case refused(HTTPRefusal)

        var isUnread: Bool {
            switch self {
            case .length, .chunked: true
            case .none, .refused: false
            }
        }

        var refusal: HTTPRefusal? { if case .refused(let refusal) = self { refusal } else { nil } }
    }

    /// The next piece of the body; nil at its end.
    func readBody(upTo limit: Int) async throws(IOError) -> ByteChunk? {
        if owesContinue, !answer.hasBegun {
            owesContinue = false
            output.append("HTTP/1.1 100 Continue\r\n\r\n")
            try await flush()
        }
        do {
            return try await nextPiece(limit)
        } catch {
            switch error {
            case .refused(let refusal):
                bodyState = .refused(refusal)
                throw IOError("read", "the body of a request", .invalid(refusal.reason))
            case .failed(let error): throw error
            }
        }
    }

    private enum BodyError: Error { case refused(HTTPRefusal), failed(IOError) }

    private func nextPiece(_ limit: Int) async throws(BodyError) -> ByteChunk? {
        while true {
            switch bodyState {
            case .none: return nil
            case .refused(let refusal): throw .refused(refusal)
            case .length(let left):
                if left > server.limits.bodyBytes { throw .refused(Self.bodyTooLarge) }
                var chunk = try await nextInput()
                let count = min(left, limit, chunk.count)
                bodyState = left == count ? .none : .length(left - count)
                if count == chunk.count { return chunk }
                let piece = chunk.splitFirst(count)
                input = consume chunk
                return piece
            case .chunked(var body):
                let chunk = try await nextInput()
                if let piece = try take(chunk, &body, limit) { return piece }
            }
        }
    }

    static let bodyTooLarge = HTTPRefusal(.contentTooLarge, "the body is too large")

    /// Takes data out of a piece of a chunked body, if there is any.
    private func take(
        _ chunk: consuming ByteChunk, _ body: inout ChunkedBody, _ limit: Int
    ) throws(BodyError) -> ByteChunk? {
        let step: ChunkedBody.Step
        do throws(HTTPRefusal) {
            let bytes = Span<UInt8>(_bytes: chunk.bytes)
            step = try body.advance(bytes, limit: limit)
        } catch {
            throw .refused(error)
        }
        switch step {
        case .used:
            bodyState = .chunked(body)
            return nil
        case .end(let used):
            bodyState = .none
            chunk.removeFirst(used)
            setInput(chunk)
            return nil
        case .data(let used, let count):
            bodyState = .chunked(body)
            chunk.removeFirst(used)
            let piece = chunk.splitFirst(count)
            setInput(chunk)
            return piece
        }
    }

    /// What was received, or comes next.
    private func nextInput() async throws(BodyError) -> ByteChunk {
        if let chunk = input.take() { return chunk }
        let before = phase
        wait(.body, server.timeouts.body)
        let chunk: ByteChunk?
        do throws(IOError) { chunk = try await stream.read(upTo: .max) } catch { throw .failed(error) }
        resume(before)
        guard let chunk else { throw .refused(HTTPRefusal(.badRequest, "the body ends early")) }
        return chunk
    }

    /// Bytes of a body nobody wanted that are read for the sake of the connection.
    private static let unwantedLimit = 256 * 1024

    /// Reads what the handler has not read of the body.
    ///
    /// - Returns: whether the next request may be read.
    func finishBody(isRefused: Bool) async throws -> Bool {
        if !answer.keepsAlive { return false }
        if !bodyState.isUnread { return bodyState.refusal == nil }
        // A client that waits to be told to go on will not send it, or will: nobody knows.
        if owesContinue { return false }
        try await flush()
        var count = 0
        while let piece = try await readBody(upTo: .max) {
            count += piece.count
            if count > Self.unwantedLimit { return false }
        }
        return true
    }

    /// Refuses a request, and ends the connection in a way that lets the client read why.
    func refuse(_ refusal: HTTPRefusal) async {
        if answer.isIncomplete { return await stream.abort() }
        do {
            output.append("HTTP/1.1 ")
            output.append(refusal.status.code)
            output.append(" ")
            output.append(refusal.status.reasonPhrase)
            output.append("\r\nConnection: close\r\nContent-Type: text/plain; charset=utf-8\r\nContent-Length: ")
            output.append(refusal.reason.utf8.count + 1)
            output.append("\r\n\r\n")
            output.append(refusal.reason)
            output.append("\n")
            input = nil
            try await flush()
            // A socket that is closed with bytes unread resets the connection, and takes the answer with it.
            wait(.closing, .seconds(1))
            try await stream.finishWriting()
            var count = 0
            while count < Self.unwantedLimit, let piece = try await stream.read(upTo: .max) { count += piece.count }
        } catch {
            // The client has gone.
        }
    }
}
