// One request on its way to one server: what libcurl's callbacks bring is kept here until its reader comes for it.

import CCurl
import Glibc
import HTTPTypes
import Rondo

/// Names a transfer for those who may outlive it.
struct TransferID: Hashable, Sendable {
    var number: UInt64
}

/// A transfer under way, or one that has ended and was not read to its end. It belongs to the client's actor.
@safe
final class Transfer {
    // SAFETY: the easy handle is the pool's, which lends it until the transfer ends; the error buffer is freed in
    // deinit, after the handle has forgotten it. Callbacks come while the client, which holds this, is in a call of
    // libcurl.

    /// What is expected of the server.
    enum Phase: Equatable { case connecting, sending, receiving, ended }

    let id: TransferID
    let operation: String
    let url: RequestURL
    private(set) var phase = Phase.connecting
    var head: ResponseHead
    /// Wakes the one task that waits for the head or the body.
    let news = Notify()
    /// Why the transfer failed; nil if it did not.
    private(set) var failure: HTTPClientError?
    /// The last time that something moved.
    private(set) var lastProgress = ContinuousClock.now
    /// When all of it must be over.
    var deadline: ContinuousClock.Instant?
    /// Gives back the permits that the transfer holds.
    var permits: HostPermits?
    /// The upload, if there is one.
    let upload: Upload?
    /// Unpacks the body, where it is packed.
    var inflater: Inflater?
    /// Bytes of the body that were handed to the reader.
    var delivered = 0
    var isBeingRead = false

    /// The handle while libcurl works on it.
    private(set) var easy: EasyHandle?
    /// What libcurl says of an error, in words.
    let words: UnsafeMutablePointer<CChar>
    /// Lists that the handle uses until the end.
    var lists: [UnsafeMutablePointer<curl_slist>] = unsafe []
    private var received: [UInt8] = []
    private let bufferLimit: Int
    let connectLimit: Duration
    private(set) var isPaused = false

    init(
        _ id: TransferID, _ operation: String, _ url: RequestURL, upload: Upload?, easy: EasyHandle,
        _ configuration: HTTPClientConfiguration
    ) {
        self.id = id
        self.operation = operation
        self.url = url
        self.upload = upload
        self.easy = easy
        head = ResponseHead(limits: configuration.limits)
        bufferLimit = max(1, configuration.bodyBuffer)
        connectLimit = configuration.timeouts.connect
        unsafe words = .allocate(capacity: Int(CURL_ERROR_SIZE))
        unsafe words.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    deinit { unsafe words.deallocate() }

    var hasHead: Bool { head.state == .complete }
    var hasEnded: Bool { phase == .ended }

    func error(_ cause: HTTPClientError.Cause) -> HTTPClientError { HTTPClientError(operation, url.text, cause) }

    /// Fails; the first reason counts.
    func fail(_ cause: HTTPClientError.Cause) { if failure == nil { failure = error(cause) } }

    // MARK: The reader's side

    /// What has come of the body, and room for more.
    func takeReceived() -> [UInt8] {
        let bytes = received
        received = []
        return bytes
    }

    var hasReceived: Bool { !received.isEmpty }

    /// Lets the server go on that was told to pause.
    ///
    /// - Returns: whether libcurl was called.
    func resumeReceiving() -> Bool {
        guard isPaused, received.isEmpty, let easy else { return false }
        isPaused = false
        lastProgress = .now
        unsafe curl_easy_pause(easy.pointer, upload?.isPaused == true ? CURLPAUSE_SEND : CURLPAUSE_CONT)
        return true
    }

    /// Lets libcurl ask for more of the request's body.
    func resumeSending() -> Bool {
        guard let upload, upload.isPaused, let easy else { return false }
        upload.isPaused = false
        lastProgress = .now
        unsafe curl_easy_pause(easy.pointer, isPaused ? CURLPAUSE_RECV : CURLPAUSE_CONT)
        return true
    }

    // MARK: Libcurl's side

    fileprivate func receiveHeader(_ line: UnsafeRawBufferPointer) -> Bool {
        do throws(HTTPClientError.Refusal) {
            lastProgress = .now
            unsafe try head.read(line)
            if hasHead, phase != .receiving {
                phase = .receiving
                news.notifyOne()
            }
            return true
        } catch {
            fail(error.cause)
            return false
        }
    }

    /// - Returns: whether the bytes were taken; else the server is to pause.
    fileprivate func receiveBody(_ bytes: UnsafeRawBufferPointer) -> Bool {
        lastProgress = .now
        if received.count + bytes.count > bufferLimit, !received.isEmpty {
            isPaused = true
            return false
        }
        if received.isEmpty { received.reserveCapacity(min(bufferLimit, 4 * bytes.count)) }
        unsafe received.append(contentsOf: bytes)
        news.notifyOne()
        return true
    }

    fileprivate func noteConnection() {
        phase = .sending
        lastProgress = .now
    }

    fileprivate func noteUpload() { lastProgress = .now }

    /// libcurl is through with it, or it was taken from libcurl. Answers the handle, for the pool.
    func end() -> EasyHandle? {
        guard let handle = easy else { return nil }
        easy = nil
        phase = .ended
        unsafe lists.forEach { unsafe curl_slist_free_all($0) }
        unsafe lists = unsafe []
        upload?.close()
        news.notifyOne()
        return handle
    }

    // MARK: Time

    /// When time is up, as things are now, and for what.
    func limit(_ timeouts: HTTPClientConfiguration.Timeouts)
        -> (at: ContinuousClock.Instant, phase: HTTPClientError.Phase, limit: Duration)?
    {
        var part: (ContinuousClock.Instant, HTTPClientError.Phase, Duration)?
        switch phase {
        case .sending: if let limit = timeouts.firstByte { part = (lastProgress + limit, .firstByte, limit) }
        case .receiving where !isPaused: if let limit = timeouts.idle { part = (lastProgress + limit, .idle, limit) }
        default: break
        }
        guard let deadline, let whole = timeouts.whole else { return part }
        if let part, part.0 <= deadline { return part }
        return (deadline, .whole, whole)
    }

    // MARK: Callbacks

    fileprivate static func of(_ context: UnsafeMutableRawPointer?) -> Transfer {
        unsafe Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue()
    }

    /// Sets the callbacks of the handle.
    func adopt() {
        guard let easy = unsafe easy?.pointer else { return }
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe rondo_curl_set_pointer(easy, CURLOPT_PRIVATE, context)
        unsafe rondo_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, words)
        unsafe rondo_curl_set_pointer(easy, CURLOPT_HEADERDATA, context)
        unsafe rondo_curl_set_pointer(easy, CURLOPT_WRITEDATA, context)
        unsafe rondo_curl_set_pointer(easy, CURLOPT_READDATA, context)
        unsafe rondo_curl_set_pointer(easy, CURLOPT_SEEKDATA, context)
        unsafe rondo_curl_set_data_function(easy, CURLOPT_HEADERFUNCTION, takeHeader)
        unsafe rondo_curl_set_data_function(easy, CURLOPT_WRITEFUNCTION, takeBody)
        unsafe rondo_curl_set_data_function(easy, CURLOPT_READFUNCTION, giveBody)
        unsafe rondo_curl_set_seek_function(easy, seekBody)
        if unsafe rondo_curl_set_connected_function(easy, noteConnected, context) != CURLE_OK { phase = .sending }
    }
}

// SAFETY (all): the context is the transfer whose handle libcurl works on.

private func takeHeader(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
)
    -> Int
{
    let line = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
    return unsafe Transfer.of(context).receiveHeader(line) ? line.count : 0
}

// SAFETY: as above.
private func takeBody(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
)
    -> Int
{
    let data = unsafe UnsafeRawBufferPointer(start: bytes, count: size * count)
    return unsafe Transfer.of(context).receiveBody(data) ? data.count : Int(CURL_WRITEFUNC_PAUSE)
}

// SAFETY: as above.
private func giveBody(
    _ bytes: UnsafeMutablePointer<CChar>?, _ size: Int, _ count: Int, _ context: UnsafeMutableRawPointer?
)
    -> Int
{
    let transfer = unsafe Transfer.of(context)
    transfer.noteUpload()
    let room = unsafe UnsafeMutableRawBufferPointer(start: bytes, count: size * count)
    return unsafe transfer.upload?.give(room) ?? 0
}

// SAFETY: as above.
private func seekBody(_ context: UnsafeMutableRawPointer?, _ offset: curl_off_t, _ origin: Int32) -> Int32 {
    guard origin == SEEK_SET, offset == 0, let upload = unsafe Transfer.of(context).upload else {
        return CURL_SEEKFUNC_CANTSEEK
    }
    return upload.rewind() ? CURL_SEEKFUNC_OK : CURL_SEEKFUNC_FAIL
}

// SAFETY: as above.
private func noteConnected(
    _ context: UnsafeMutableRawPointer?, _ peer: UnsafeMutablePointer<CChar>?, _ own: UnsafeMutablePointer<CChar>?,
    _ peerPort: Int32, _ ownPort: Int32
) -> Int32 {
    unsafe Transfer.of(context).noteConnection()
    return 0
}
