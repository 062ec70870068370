// From a request to its answer: permits, names, redirects; and the two ends of bodies.

import CCurl
import HTTPTypes
import Rondo

/// A look-up of a name that several requests may wait for.
final class LookUp {
    let isDone = AsyncEvent()
    var result: Result<[SocketAddress], IOError>?
}

extension ClientCore {
    /// Sends a request, follows redirects, and answers when a head has come.
    func execute(
        _ method: HTTPRequest.Method, _ url: String, _ fields: HTTPFields, _ body: HTTPClientRequestBody
    ) async throws(HTTPClientError) -> HTTPClientResponse {
        let deadline = configuration.timeouts.whole.map { ContinuousClock.now + $0 }
        var request = OutgoingRequest(
            method: method, url: try parse(url, method, relativeTo: nil), fields: fields, body: body)
        var redirects = 0
        while true {
            let id = try await begin(request, deadline: deadline)
            let transfer = transfers[id]!
            try await waitForHead(of: transfer)
            guard configuration.limits.redirects > 0, let location = transfer.head.fields[.location],
                let step = Redirect.step(status: transfer.head.status.code, method: request.method)
            else { return response(transfer, request, redirects: redirects) }
            redirects += 1
            await drain(transfer)
            if redirects > configuration.limits.redirects {
                throw transfer.error(.tooManyRedirects(configuration.limits.redirects))
            }
            if step.keepsBody, !request.body.canBeRepeated {
                throw transfer.error(.redirectRefused("it redirects to \(location), and the body can't be sent again"))
            }
            let next = try parse(location, request.method, relativeTo: request.url)
            request.fields = Redirect.fields(
                request.fields, keepsBody: step.keepsBody, sameOrigin: next.origin == request.url.origin)
            request.method = step.method
            if !step.keepsBody { request.body = .none }
            request.url = next
        }
    }

    private func parse(
        _ url: String, _ method: HTTPRequest.Method, relativeTo base: RequestURL?
    ) throws(HTTPClientError) -> RequestURL {
        do throws(RequestURL.Refusal) {
            return try RequestURL(url, relativeTo: base?.text)
        } catch {
            guard let base else { throw HTTPClientError(method.rawValue, url, .invalidRequest(error.words)) }
            throw HTTPClientError(
                method.rawValue, base.text,
                .redirectRefused("it redirects to \(RequestURL.withoutPassword(url)): \(error.words)"))
        }
    }

    /// What is read of a redirect's own body, so that its connection can be used again.
    private func drain(_ transfer: Transfer) async {
        var left = 64 * 1024
        while left > 0, let chunk = try? await next(transfer.id) { left -= chunk.count }
        drop(transfer.id)
    }

    private func response(_ transfer: Transfer, _ request: OutgoingRequest, redirects: Int) -> HTTPClientResponse {
        var fields = transfer.head.fields
        if request.method != .head, Transfer.unpacks(request.fields, configuration),
            let coding = fields[.contentEncoding], let inflater = Inflater(coding: coding)
        {
            transfer.inflater = inflater
            fields[.contentEncoding] = nil
            fields[.contentLength] = nil
        }
        return HTTPClientResponse(
            head: HTTPResponse(status: transfer.head.status, headerFields: fields), version: transfer.head.version,
            url: request.url.text, redirects: redirects,
            body: HTTPClientBody(owner: BodyOwner(self, transfer.id, transfer.operation, transfer.url.text)))
    }

    // MARK: Before the transfer

    private func begin(
        _ request: OutgoingRequest, deadline: ContinuousClock.Instant?
    ) async throws(HTTPClientError) -> TransferID {
        let (operation, url) = (request.method.rawValue, request.url)
        guard !isClosed else { throw HTTPClientError(operation, url.text, .closed) }
        let permits = hostPermits(for: url.origin)
        do {
            guard let deadline else {
                let route = try await prepare(url, permits)
                return try started(request, by: route, deadline: nil, permits: permits)
            }
            let route = try await withDeadline(deadline) { try await self.prepare(url, permits) }
            return try started(request, by: route, deadline: deadline, permits: permits)
        } catch let error as HTTPClientError {
            throw error
        } catch let error as IOError {
            throw HTTPClientError(operation, url.text, error.isCancellation ? .cancelled : .unresolved(error))
        } catch let error as RequestURL.Refusal {
            throw HTTPClientError(operation, url.text, .proxy(error.words))
        } catch is TimeoutError {
            throw HTTPClientError(operation, url.text, .timedOut(.whole, configuration.timeouts.whole ?? .zero))
        } catch {
            throw HTTPClientError(operation, url.text, .cancelled)
        }
    }

    private func started(
        _ request: OutgoingRequest, by route: Route, deadline: ContinuousClock.Instant?, permits: HostPermits
    ) throws(HTTPClientError) -> TransferID {
        do throws(HTTPClientError) {
            if Task.isCancelled { throw HTTPClientError(request.method.rawValue, request.url.text, .cancelled) }
            return try start(request, by: route, deadline: deadline, permits: permits)
        } catch {
            release(permits)
            throw error
        }
    }

    /// Waits for the permits, and finds the way.
    private func prepare(_ url: RequestURL, _ host: HostPermits) async throws -> Route {
        try await host.semaphore.acquire()
        do { try await permits.acquire() } catch {
            host.semaphore.release()
            throw error
        }
        do { return try await route(to: url) } catch {
            release(host)
            throw error
        }
    }

    private func hostPermits(for origin: String) -> HostPermits {
        if let known = hostPermits[origin] { return known }
        // Those of hosts that nobody asks any more.
        if hostPermits.count >= 1024 {
            let limit = configuration.pool.requestsPerHost
            hostPermits = hostPermits.filter { $1.semaphore.available < limit || $1.semaphore.waiting > 0 }
        }
        let permits = HostPermits(origin, permits: max(1, configuration.pool.requestsPerHost))
        hostPermits[origin] = permits
        return permits
    }

    func release(_ host: HostPermits) {
        permits.release()
        host.semaphore.release()
    }

    private func route(to url: RequestURL) async throws -> Route {
        var route = Route()
        switch configuration.proxy {
        case .fromEnvironment:
            route.proxy = environment.proxy(scheme: url.scheme, host: url.host, port: url.port)
        case .none: break
        case .url(let text): route.proxy = text
        }
        if let text = route.proxy {
            let proxy = try RequestURL.proxyHost(text)
            try await look(up: proxy.host, port: proxy.port, &route)
            // These leave the name of the origin to the proxy.
            if ["http", "https", "socks5h", "socks4a"].contains(proxy.scheme) { return route }
        }
        try await look(up: url.host, port: url.port, &route)
        return route
    }

    private func look(up host: String, port: Int, _ route: inout Route) async throws {
        if let known = names.cached(host, port: port) {
            if let line = known { route.addresses.append(line) }
            return
        }
        let lookUp: LookUp
        if let known = lookUps[host] {
            lookUp = known
        } else {
            lookUp = LookUp()
            lookUps[host] = lookUp
            Task {
                do throws(IOError) {
                    lookUp.result = .success(try await resolve(host, port: port))
                } catch {
                    lookUp.result = .failure(error)
                }
                lookUps[host] = nil
                lookUp.isDone.set()
            }
        }
        try await lookUp.isDone.wait()
        route.addresses.append(names.note(host, port: port, try lookUp.result!.get()))
    }

    // MARK: Bodies

    private func waitForHead(of transfer: Transfer) async throws(HTTPClientError) {
        while !transfer.hasHead, !transfer.hasEnded { try await waitForNews(of: transfer) }
        guard transfer.hasHead, transfer.failure == nil || transfer.hasReceived else {
            let failure =
                transfer.failure
                ?? transfer.error(.connectionLost("the server closed the connection within its answer's head"))
            drop(transfer.id)
            throw failure
        }
    }

    /// The next bytes of a body; nil at its end.
    func next(_ id: TransferID) async throws(HTTPClientError) -> [UInt8]? {
        guard let transfer = transfers[id] else { return nil }
        guard !transfer.isBeingRead else { throw transfer.error(.invalidRequest("two tasks read the body at once")) }
        transfer.isBeingRead = true
        defer { transfer.isBeingRead = false }
        do throws(HTTPClientError) {
            guard let bytes = try await nextBytes(of: transfer) else {
                transfers[id] = nil
                return nil
            }
            transfer.delivered += bytes.count
            if transfer.delivered > configuration.limits.bodyBytes {
                throw transfer.error(.bodyLimit(configuration.limits.bodyBytes))
            }
            return bytes
        } catch {
            cancel(id, error.cause)
            transfers[id] = nil
            throw error
        }
    }

    private func nextBytes(of transfer: Transfer) async throws(HTTPClientError) -> [UInt8]? {
        do throws(HTTPClientError.Refusal) {
            while true {
                if let bytes = try transfer.inflater?.next(limit: 64 * 1024) { return bytes }
                if transfer.hasReceived {
                    let bytes = transfer.takeReceived()
                    call { _ = transfer.resumeReceiving() }
                    guard let inflater = transfer.inflater else { return bytes }
                    inflater.take(bytes)
                } else if transfer.hasEnded {
                    if let failure = transfer.failure { throw .init(failure.cause) }
                    try transfer.inflater?.finish()
                    return nil
                } else {
                    do throws(HTTPClientError) { try await waitForNews(of: transfer) } catch {
                        throw .init(error.cause)
                    }
                }
            }
        } catch {
            throw transfer.error(error.cause)
        }
    }

    /// Waits for something to happen; a task that is cancelled takes its transfer along.
    private func waitForNews(of transfer: Transfer) async throws(HTTPClientError) {
        do throws(CancellationError) {
            try await transfer.news.wait()
        } catch {
            drop(transfer.id)
            throw transfer.error(.cancelled)
        }
    }

    /// Sends a request's body as it comes.
    func pump(_ source: @escaping HTTPClientRequestBody.Source, into transfer: Transfer) {
        let id = transfer.id
        transfer.upload?.pump = Task {
            do {
                try await source { chunk in try await self.send(chunk, id) }
                endUpload(id, nil)
            } catch {
                endUpload(id, error)
            }
        }
    }

    private func send(_ chunk: [UInt8], _ id: TransferID) async throws {
        guard let transfer = transfers[id], let upload = transfer.upload else { throw CancellationError() }
        while !upload.hasRoom, !upload.isOver { try await upload.room.wait() }
        if upload.isOver { throw CancellationError() }
        upload.put(chunk)
        call { _ = transfer.resumeSending() }
    }

    private func endUpload(_ id: TransferID, _ error: (any Error)?) {
        guard let transfer = transfers[id], let upload = transfer.upload, !upload.isOver else { return }
        upload.finish(error)
        call { _ = transfer.resumeSending() }
    }
}
