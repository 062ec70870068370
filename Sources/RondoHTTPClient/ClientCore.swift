// The client's inside: an actor that lives on the loop, and all of libcurl in it. Each way into libcurl goes through
// `call`, which afterwards does what libcurl's callbacks have asked for.

import CCurl
import Glibc
import HTTPTypes
import Rondo
import Synchronization
import SystemPackage

/// The multi handle, its sockets, its timer, and the transfers.
actor ClientCore {
    nonisolated let loop: EventLoop
    nonisolated var unownedExecutor: UnownedSerialExecutor { loop.unownedExecutor }
    nonisolated let configuration: HTTPClientConfiguration

    private let multi: CurlMulti
    private var sockets: [Int32: SocketWatch] = [:]
    /// Watches that are being closed.
    private var closings = 0
    /// Transfers that somebody may still read.
    var transfers: [TransferID: Transfer] = [:]
    /// Those that libcurl works on.
    private var active: [TransferID: Transfer] = [:]
    private var lastID: UInt64 = 0
    /// Tasks that sleep until there may be something to do, by when. A few at most: one that wakes early enough stays,
    /// and none is taken back.
    private var sleepers: [ContinuousClock.Instant: Task<Void, Never>] = [:]
    /// Told when a transfer or a watch has ended.
    private let quiet = Notify()
    private(set) var isClosed = false
    private var isGone = false
    /// The same, for whoever is elsewhere.
    nonisolated let hasGone = Atomic(false)
    var statistics = HTTPClient.Statistics()

    var currentStatistics: HTTPClient.Statistics {
        var now = statistics
        now.running = active.count
        return now
    }

    let names = HostNames()
    var lookUps: [String: LookUp] = [:]
    let permits: AsyncSemaphore
    var hostPermits: [String: HostPermits] = [:]
    let environment = ProxyEnvironment()

    init(_ configuration: HTTPClientConfiguration, loop: EventLoop) {
        self.loop = loop
        self.configuration = configuration
        permits = AsyncSemaphore(permits: max(1, configuration.pool.requests))
        multi = CurlMulti(configuration.pool)
    }

    // MARK: Transfers

    /// Hands a request to libcurl.
    func start(
        _ request: OutgoingRequest, by route: Route, deadline: ContinuousClock.Instant?, permits: HostPermits
    ) throws(HTTPClientError) -> TransferID {
        let operation = request.method.rawValue
        guard !isClosed else { throw HTTPClientError(operation, request.url.text, .closed) }
        guard let easy = multi.takeHandle() else {
            throw HTTPClientError(operation, request.url.text, .other("libcurl has no memory"))
        }
        lastID += 1
        let id = TransferID(number: lastID)
        let upload: Upload? =
            switch request.body.content {
            case .none: nil
            case .bytes(let bytes): Upload(bytes)
            case .stream: Upload(nil)
            }
        let transfer = Transfer(id, operation, request.url, upload: upload, easy: easy, configuration)
        transfer.deadline = deadline
        transfer.permits = permits
        transfer.prepare(request, by: route, configuration)
        multi.adopt(easy)
        transfers[id] = transfer
        active[id] = transfer
        statistics.requests += 1
        if case .stream(let source, _) = request.body.content { pump(source, into: transfer) }
        call { multi.add(easy) }
        return id
    }

    /// Ends a transfer before its time.
    func cancel(_ id: TransferID, _ cause: HTTPClientError.Cause) {
        guard let transfer = transfers[id] else { return }
        if !transfer.hasEnded { transfer.fail(cause) }
        if let easy = transfer.easy {
            call { multi.remove(easy) }
            finish(transfer)
        }
    }

    /// Nobody will read it any more.
    func drop(_ id: TransferID) {
        cancel(id, .cancelled)
        transfers[id] = nil
    }

    /// libcurl is through with it.
    private func finish(_ transfer: Transfer) {
        statistics.connections += transfer.connectionsMade
        guard let easy = transfer.end() else { return }
        active[transfer.id] = nil
        if let permits = transfer.permits { release(permits) }
        transfer.permits = nil
        multi.giveBack(easy)
        if active.isEmpty { quiet.notifyAll() }
    }

    // MARK: Calls into libcurl

    /// Calls libcurl, and does what it asks for meanwhile.
    func call(_ body: () -> Void) {
        if isGone { return }
        body()
        settle()
        // Time that is up already needs no timer. Not for ever: others want the loop too.
        var rounds = 0
        while let deadline = multi.deadline, deadline <= .now, rounds < 16 {
            multi.actOnTime()
            settle()
            rounds += 1
        }
        setTimer()
    }

    /// Does what the callbacks noted, and ends what has ended.
    private func settle() {
        for change in multi.takeChanges() {
            switch change {
            case .watch(let socket, let reads, let writes, let easy): watch(socket, reads, writes, easy)
            case .close(let socket): close(socket)
            }
        }
        while let (easy, result) = multi.nextEnd() {
            multi.remove(easy)
            guard let transfer = transfer(of: easy) else { continue }
            if result != CURLE_OK { transfer.fail(transfer.cause(of: result)) }
            if case .connect = transfer.failure?.cause { names.forget(transfer.url.host) }
            finish(transfer)
        }
    }

    private func transfer(of easy: EasyHandle) -> Transfer? {
        var context: UnsafeMutablePointer<CChar>?
        // SAFETY: a handle that libcurl names is that of an active transfer, which is its private pointer.
        unsafe rondo_curl_get_text(easy.pointer, CURLINFO_PRIVATE, &context)
        return unsafe context.map { unsafe Unmanaged<Transfer>.fromOpaque($0).takeUnretainedValue() }
    }

    // MARK: Sockets

    private func watch(_ number: Int32, _ reads: Bool, _ writes: Bool, _ easy: EasyHandle) {
        let socket: SocketWatch
        if let known = sockets[number] {
            socket = known
        } else {
            if !reads, !writes { return }
            do throws(IOError) {
                socket = SocketWatch(number, try DescriptorWatch(duplicating: FileDescriptor(rawValue: number)))
            } catch {
                transfer(of: easy)?.fail(.other("\(error)"))
                return
            }
            sockets[number] = socket
        }
        socket.wantsReading = reads
        socket.wantsWriting = writes
        if reads, !socket.isWaitingForReading { waitForReading(socket) }
        if writes, !socket.isWaitingForWriting { waitForWriting(socket) }
    }

    /// A wait goes on when libcurl wants no more: a connection in the pool is wanted again soon, and waiting costs
    /// nothing. Closing the watch ends it.
    private func waitForReading(_ socket: SocketWatch) {
        socket.isWaitingForReading = true
        Task {
            while socket.wantsReading, !socket.isClosed {
                do throws(IOError) { try await socket.watch.waitUntilReadable() } catch { break }
                if socket.wantsReading, !socket.isClosed { call { multi.act(on: socket.number, reads: true) } }
            }
            socket.isWaitingForReading = false
        }
    }

    private func waitForWriting(_ socket: SocketWatch) {
        socket.isWaitingForWriting = true
        Task {
            while socket.wantsWriting, !socket.isClosed {
                do throws(IOError) { try await socket.watch.waitUntilWritable() } catch { break }
                if socket.wantsWriting, !socket.isClosed { call { multi.act(on: socket.number, reads: false) } }
            }
            socket.isWaitingForWriting = false
        }
    }

    private func close(_ number: Int32) {
        Glibc.close(number)
        guard let socket = sockets.removeValue(forKey: number) else { return }
        socket.isClosed = true
        closings += 1
        Task {
            await socket.watch.close()
            closings -= 1
            if closings == 0 { quiet.notifyAll() }
        }
    }

    // MARK: Time

    /// When something is to be done though nothing happens: for libcurl, or because time is up. A timer that is early
    /// enough stays.
    private func setTimer() {
        var next = multi.deadline
        if !active.isEmpty {
            let timeouts = configuration.timeouts
            // Exact at the latest when the timer fires: how far a transfer has come is not followed byte by byte.
            for limit in [timeouts.firstByte, timeouts.idle] {
                if let limit { next = min(next ?? .now + limit, .now + limit) }
            }
            if timeouts.whole != nil {
                for transfer in active.values {
                    if let deadline = transfer.deadline { next = min(next ?? deadline, deadline) }
                }
            }
        }
        arm(next)
    }

    private func arm(_ deadline: ContinuousClock.Instant?) {
        guard let deadline else { return }
        if sleepers.keys.contains(where: { $0 <= deadline }) { return }
        sleepers[deadline] = Task { [weak self] in
            guard (try? await Task.sleep(until: deadline, clock: .continuous)) != nil else { return }
            await self?.timeHasCome(deadline)
        }
    }

    private func timeHasCome(_ deadline: ContinuousClock.Instant) {
        sleepers[deadline] = nil
        if isGone { return }
        var next: ContinuousClock.Instant?
        for transfer in Array(active.values) {
            guard let limit = transfer.limit(configuration.timeouts) else { continue }
            if limit.at <= .now {
                cancel(transfer.id, .timedOut(limit.phase, limit.limit))
            } else {
                next = min(next ?? limit.at, limit.at)
            }
        }
        if let deadline = multi.deadline, deadline <= .now { call { multi.actOnTime() } } else { setTimer() }
        arm(next)
    }

    // MARK: The end

    /// Refuses new requests, waits for those under way, and closes the connections.
    func close() async {
        isClosed = true
        while !active.isEmpty {
            do { try await quiet.wait() } catch { shutDown() }
        }
        shutDown()
        while closings > 0 { if (try? await quiet.wait()) == nil { break } }
    }

    /// Ends everything at once.
    func shutDown() {
        isClosed = true
        if isGone { return }
        for transfer in Array(active.values) { cancel(transfer.id, .closed) }
        for sleeper in sleepers.values { sleeper.cancel() }
        multi.close()
        isGone = true
        hasGone.store(true, ordering: .relaxed)
        for case .close(let socket) in multi.takeChanges() { close(socket) }
    }
}

/// A socket of libcurl's, and who waits for it. It belongs to the client's actor.
final class SocketWatch {
    let number: Int32
    /// Has a descriptor of its own, so that it ends well though libcurl's is closed.
    let watch: DescriptorWatch
    var wantsReading = false
    var wantsWriting = false
    var isWaitingForReading = false
    var isWaitingForWriting = false
    var isClosed = false

    init(_ number: Int32, _ watch: DescriptorWatch) {
        self.number = number
        self.watch = watch
    }
}
