// A connection of HTTP/1.1: one task reads a request's head, calls the handler, and goes on with the next. Between the
// bytes of a request and its handler there is nothing else.

import HTTPTypes
import Rondo

/// What a handler is.
typealias HTTPHandler = @Sendable (ServerRequest, ServerResponse) async throws -> Void

/// One connection. It belongs to its loop; all but time-outs is done by its one task.
@safe
final class HTTP1Connection: ServedConnection, BodySource, @unchecked Sendable {
    // SAFETY: used on the loop's thread only. The registry's task comes between two of this task's jobs.

    /// What the connection waits for, and so what its being late means.
    enum Phase { case idle, head, body, handler, write, closing }

    let loop: EventLoop
    var executor: any TaskExecutor { registry.executor }
    let stream: any ServedStream
    /// The same, if it is a socket: what is sent then goes to the driver without waiting.
    let socket: SocketStream?
    let server: HTTPServerConfiguration
    let registry: ConnectionRegistry

    var phase = Phase.head
    private(set) var deadline = Int.max
    /// When the request that is being handled is late.
    private var requestDeadline = Int.max
    private var isDraining = false
    private var requests = 0

    /// What has been received and not been read.
    var input: ByteChunk?
    /// The head that is being read, if it comes in several pieces.
    private var partialHead: [UInt8] = []
    private var raw = RawHead()

    var output = OutputBuffer()
    private var sentOutput = OutputBuffer()

    // The request that is being handled.

    var bodyState = BodyState.none
    var owesContinue = false
    var answer = AnswerState()
    /// What the end of the server means for a connection that has left HTTP.
    var whenDrained: (() async -> Void)?
    private var response: ServerResponse?

    init(_ stream: any ServedStream, _ server: HTTPServerConfiguration, _ registry: ConnectionRegistry) {
        self.stream = stream
        loop = registry.loop
        self.server = server
        self.registry = registry
        socket = stream as? SocketStream
        raw.isSecure = socket == nil
    }

    /// A client speaks HTTP/2, and this is what it has sent so far.
    private struct PriorKnowledge: Error { var bytes: [UInt8] }

    /// Serves the connection to its end.
    ///
    /// - Returns: what a client has sent that speaks HTTP/2; then the connection is still open.
    @discardableResult
    func run(_ handler: HTTPHandler) async -> [UInt8]? {
        registry.add(self)
        defer { registry.remove(self) }
        wait(.head, server.timeouts.head)
        if registry.isDraining { await drain() }
        do {
            while try await serveRequest(handler) {}
        } catch let client as PriorKnowledge {
            return client.bytes
        } catch let refusal as HTTPRefusal {
            await refuse(refusal)
        } catch {
            // The client has gone, or was late.
            if answer.isIncomplete { await stream.abort() }
        }
        // What was sent last may still be under way, to a client that does not read.
        wait(.closing, server.timeouts.write)
        await stream.close()
        return nil
    }

    // MARK: A request

    /// - Returns: whether another one may follow.
    private func serveRequest(_ handler: HTTPHandler) async throws -> Bool {
        guard try await readHead() else { return false }
        requests += 1
        beginRequest()
        let start = server.accessLog == nil ? nil : ContinuousClock.now
        let request = makeRequest()
        let response = response.take() ?? ServerResponse(self)
        var isRefused = false
        do {
            do {
                try await handler(request, response)
                await comeHome()
            } catch {
                await comeHome()
                throw error
            }
            if !response.hasEnded { try await finish(response) }
        } catch {
            isRefused = true
            try await answerFailure(error, response)
        }
        log(request, since: start)
        keep(response)
        let goesOn = try await finishBody(isRefused: isRefused)
        if input == nil || !goesOn || output.count > 32 * 1024 { try await flush() }
        if goesOn { wait(.idle, server.timeouts.idle) }
        return goesOn
    }

    private func beginRequest() {
        switch raw.head.framing {
        case .length(let count): bodyState = count == 0 ? .none : .length(count)
        case .chunked:
            bodyState = .chunked(
                ChunkedBody(overheadLimit: server.limits.headBytes, dataLimit: server.limits.bodyBytes))
        }
        owesContinue = raw.head.expectsContinue && bodyState.isUnread
        answer = AnswerState(
            isHead: raw.head.method.count == 4 && raw.bytes.starts(with: "HEAD".utf8),
            minorVersion: raw.head.minorVersion,
            keepsAlive: raw.head.keepsAlive && !isDraining && requests < server.limits.requestsPerConnection)
        requestDeadline = server.timeouts.request.map(registry.deadline(after:)) ?? .max
        phase = .handler
        deadline = requestDeadline
    }

    private func makeRequest() -> ServerRequest {
        let body: RequestBody
        switch bodyState {
        case .none: body = RequestBody(announcedCount: 0, from: nil)
        case .length(let count): body = RequestBody(announcedCount: count, from: self)
        case .chunked, .refused: body = RequestBody(announcedCount: nil, from: self)
        }
        return ServerRequest(raw: raw, minorVersion: raw.head.minorVersion, body: body) { [stream] in stream.subject }
    }

    /// The handler has ended, but not the answer.
    private func finish(_ response: ServerResponse) async throws {
        if response.hasBegun { return try await response.finish() }
        try await response.send("no answer\n", status: .internalServerError)
    }

    /// The handler has thrown.
    private func answerFailure(_ error: any Error, _ response: ServerResponse) async throws {
        answer.keepsAlive = false
        if answer.hasBegun { throw error }
        let refusal = bodyState.refusal ?? (error as? HTTPRefusal)
        if let refusal { throw refusal }
        if let error = error as? IOError {
            if case .limitExceeded = error.cause { throw HTTPRefusal(.contentTooLarge, "the body is too large") }
            if error.cause == .closed || error.isCancellation { throw error }
        }
        response.reset()
        try await response.send("the request could not be handled\n", status: .internalServerError)
    }

    /// A response that nobody has kept is used again.
    private func keep(_ response: consuming ServerResponse) {
        var response = response
        if isKnownUniquelyReferenced(&response) {
            response.reset()
            self.response = response
        }
    }

    private func log(_ request: ServerRequest, since start: ContinuousClock.Instant?) {
        guard let start, let log = server.accessLog else { return }
        log(
            HTTPAccess(
                method: request.method.rawValue, target: request.target, status: answer.status,
                bodyBytes: answer.bodyBytes, duration: .now - start, version: request.version, peer: request.peer))
    }

    // MARK: The head

    /// Reads a request's head into `raw`.
    ///
    /// - Returns: false if the client has ended the connection before the first byte.
    private func readHead() async throws -> Bool {
        while true {
            if let chunk = input.take(), try takeHead(chunk) { return true }
            if phase == .idle, isDraining { return false }
            let isFirst = partialHead.isEmpty
            guard let chunk = try await stream.read(upTo: .max) else {
                if isFirst { return false }
                throw HTTPRefusal(.badRequest, "the head ends early")
            }
            if isFirst, phase == .idle { wait(.head, server.timeouts.head) }
            input = consume chunk
        }
    }

    /// - Returns: whether the head is complete; what is behind it is `input` then.
    private func takeHead(_ chunk: consuming ByteChunk) throws -> Bool {
        let before = partialHead.count
        if before == 0 {
            switch raw.head.parse(Span(_bytes: chunk.bytes), server.limits) {
            case .complete:
                let count = raw.head.byteCount
                raw.bytes.removeAll(keepingCapacity: true)
                raw.bytes.append(copying: chunk.bytes.extracting(first: count))
                setInput(chunk, without: count)
                return true
            case .refused(let refusal): try refuse(Array(copying: chunk.bytes), refusal)
            case .incomplete:
                partialHead.append(copying: chunk.bytes)
                return false
            }
        }
        partialHead.append(copying: chunk.bytes)
        guard isHeadComplete(from: max(0, before - 3)) else { return false }
        switch raw.head.parse(partialHead.span, server.limits) {
        case .complete:
            let count = raw.head.byteCount
            raw.bytes = Array(partialHead[..<count])
            partialHead = []
            setInput(chunk, without: count - before)
            return true
        case .refused(let refusal): try refuse(partialHead, refusal)
        case .incomplete: return false
        }
    }

    /// The head is none; but the beginning of HTTP/2 is meant to look so to a server that does not know it.
    private func refuse(_ bytes: [UInt8], _ refusal: HTTPRefusal) throws -> Never {
        if server.http2WithoutTLS, requests == 0, socket is TCPStream, bytes.starts(with: "PRI * HTTP/2.".utf8) {
            throw PriorKnowledge(bytes: bytes)
        }
        throw refusal
    }

    /// Whether an empty line has come, or more than a head may have: only then it is worth while to look at it again.
    private func isHeadComplete(from start: Int) -> Bool {
        if partialHead.count >= server.limits.headBytes { return true }
        let head = partialHead
        let bytes = head.span
        var index = start
        while index + 3 < bytes.count {
            if bytes[index + 3] == .lineFeed, bytes[index + 2] == .carriageReturn, bytes[index + 1] == .lineFeed {
                return true
            }
            index += 1
        }
        return false
    }

    private func setInput(_ chunk: consuming ByteChunk, without count: Int) {
        chunk.removeFirst(count)
        setInput(chunk)
    }

    func setInput(_ chunk: consuming ByteChunk) {
        if chunk.isEmpty { input = nil } else { input = consume chunk }
    }

    // MARK: Sending

    /// Sends what has been put together. It waits only if the client has not taken what was sent before.
    func flush() async throws(IOError) {
        if output.isEmpty { return }
        if let socket, socket.canStartWriting {
            sentOutput.clear()
            try socket.startWriting(output.makeChunk())
            swap(&output, &sentOutput)
            return
        }
        let before = phase
        wait(.write, server.timeouts.write)
        let bytes = output.bytes
        // SAFETY: the bytes of a span of UInt8 are those of its numbers.
        unsafe try await stream.write(bytes.span.bytes)
        output.clear()
        resume(before)
    }

    // MARK: Time

    /// What follows may last so long.
    func wait(_ phase: Phase, _ time: Duration) {
        self.phase = phase
        deadline = min(registry.deadline(after: time), phase == .idle ? .max : requestDeadline)
    }

    /// What was waited for has come.
    func resume(_ phase: Phase) {
        self.phase = phase
        deadline = requestDeadline
    }

    func expire() async {
        deadline = .max
        switch phase {
        case .idle: await closeNow()
        case .head, .body:
            if let socket, !answer.hasBegun || phase == .head, socket.canStartWriting {
                let text = "HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
                try? socket.startWriting(ByteChunk(Array(text.utf8)))
            }
            await closeNow()
        case .handler, .write, .closing: await stream.abort()
        }
    }

    /// Closes, and waits for no client that has no room for what was sent last.
    private func closeNow() async {
        let closing = Task(executorPreference: executor) { await self.stream.close() }
        closing.cancel()
        await closing.value
    }

    /// What was a connection of HTTP is something else now, which no time-out of HTTP's ends.
    func leaveHTTP() {
        phase = .handler
        requestDeadline = .max
        deadline = .max
    }

    /// Whether the client has asked for another protocol.
    var wantsUpgrade: Bool { raw.head.wantsUpgrade }

    func drain() async {
        isDraining = true
        if let whenDrained { return await whenDrained() }
        answer.keepsAlive = false
        if input != nil || !partialHead.isEmpty { return }
        if phase == .idle { return await closeNow() }
        // A client that has just come may still ask, if it does so soon.
        if phase == .head { wait(.head, .milliseconds(500)) }
    }
}
