// libcurl's multi handle. Its callbacks come in the middle of calls into it, when nothing may be done with it: so they
// only note what is to be done, and the client does that when the call has returned.

import CCurl
import Glibc

/// An easy handle: libcurl's object for one transfer after another. Whoever holds it must know that it is alive.
@safe
struct EasyHandle {
    // SAFETY: the client's pool makes and frees them, and lends each to one transfer at a time.
    let pointer: UnsafeMutableRawPointer

    init(pointer: UnsafeMutableRawPointer) { unsafe self.pointer = pointer }

    /// A new one; nil without memory.
    init?() {
        guard let pointer = unsafe curl_easy_init() else { return nil }
        unsafe self.pointer = pointer
    }
}

/// One multi handle, its connections among it. It belongs to the client's actor.
@safe
final class CurlMulti {
    // SAFETY: the handle lives from init to close(). The callbacks are called on the thread that is in a call of this
    // object, which its owner keeps alive meanwhile.

    /// What libcurl wants of a socket.
    enum Change {
        /// To be told when it can be read, or written. `transfer` is one that uses it.
        case watch(Int32, reads: Bool, writes: Bool, easy: EasyHandle)
        /// It is libcurl's no longer: to be closed.
        case close(Int32)
    }

    private let handle: UnsafeMutableRawPointer
    /// Easy handles without work, and how many are kept.
    private var idleHandles: [EasyHandle] = []
    private let idleLimit: Int
    private var isClosed = false
    /// What is to be done, in this order.
    private var changes: [Change] = []
    /// When libcurl wants to be called, if nothing happens before.
    private(set) var deadline: ContinuousClock.Instant?

    init(_ pool: HTTPClientConfiguration.Pool) {
        guard let handle = unsafe curl_multi_init() else { fatalError("curl_multi_init: no memory") }
        unsafe self.handle = handle
        idleLimit = pool.idleConnections
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        unsafe rondo_curl_multi_set_socket_function(handle, noteSocket, context)
        unsafe rondo_curl_multi_set_timer_function(handle, noteTimer, context)
        unsafe rondo_curl_multi_set_long(handle, CURLMOPT_MAXCONNECTS, pool.idleConnections)
    }

    deinit {
        if isClosed { return }
        // Nobody has closed the client: its loop has ended before, and nothing else uses it any more.
        close()
        for case .close(let socket) in changes { Glibc.close(socket) }
    }

    /// A handle for a transfer; nil without memory.
    func takeHandle() -> EasyHandle? { idleHandles.popLast() ?? EasyHandle() }

    /// The transfer has ended, and the handle was removed.
    func giveBack(_ easy: EasyHandle) {
        if idleHandles.count < idleLimit {
            unsafe curl_easy_reset(easy.pointer)
            idleHandles.append(easy)
        } else {
            unsafe curl_easy_cleanup(easy.pointer)
        }
    }

    /// Begins a transfer.
    func add(_ easy: EasyHandle) { unsafe check(curl_multi_add_handle(handle, easy.pointer)) }

    /// Ends it, wherever it is.
    func remove(_ easy: EasyHandle) { unsafe check(curl_multi_remove_handle(handle, easy.pointer)) }

    /// A socket is ready.
    func act(on socket: Int32, reads: Bool) {
        var running: Int32 = 0
        let mask = reads ? CURL_CSELECT_IN : CURL_CSELECT_OUT
        unsafe check(curl_multi_socket_action(handle, socket, mask, &running))
    }

    /// Time has passed.
    func actOnTime() {
        var running: Int32 = 0
        deadline = nil
        unsafe check(curl_multi_socket_action(handle, -1, 0, &running))
    }

    /// The next transfer that has ended, and how.
    func nextEnd() -> (easy: EasyHandle, result: CURLcode)? {
        var easy: UnsafeMutableRawPointer?
        var result = CURLE_OK
        guard unsafe rondo_curl_multi_next_end(handle, &easy, &result) == 1, let easy = unsafe easy else { return nil }
        return (unsafe EasyHandle(pointer: easy), result)
    }

    /// What the sockets need since the last call.
    func takeChanges() -> [Change] {
        defer { changes.removeAll(keepingCapacity: true) }
        return changes
    }

    /// Closes all connections. Nothing may be called afterwards but `takeChanges`.
    func close() {
        isClosed = true
        for easy in idleHandles { unsafe curl_easy_cleanup(easy.pointer) }
        idleHandles = []
        unsafe check(curl_multi_cleanup(handle))
    }

    /// How a transfer's sockets are closed: when everything that was noted before is done.
    func adopt(_ easy: EasyHandle) {
        unsafe rondo_curl_set_open_socket(easy.pointer)
        unsafe rondo_curl_set_close_function(easy.pointer, noteClose)
        unsafe rondo_curl_set_pointer(easy.pointer, CURLOPT_CLOSESOCKETDATA, Unmanaged.passUnretained(self).toOpaque())
    }

    private func check(_ code: CURLMcode) {
        // A socket that libcurl has given up meanwhile is no mistake of ours; everything else is.
        if code == CURLM_OK || code == CURLM_BAD_SOCKET { return }
        fatalError("libcurl refused a call of the HTTP client: \(unsafe String(cString: curl_multi_strerror(code)))")
    }

    fileprivate func note(_ change: Change) { changes.append(change) }

    fileprivate func noteDeadline(milliseconds: Int) {
        deadline = milliseconds < 0 ? nil : ContinuousClock.now + .milliseconds(milliseconds)
    }

    fileprivate static func of(_ context: UnsafeMutableRawPointer?) -> CurlMulti {
        unsafe Unmanaged<CurlMulti>.fromOpaque(context!).takeUnretainedValue()
    }
}

// SAFETY (all three): the context is the CurlMulti that made the call in which this is called.

private func noteSocket(
    _ easy: UnsafeMutableRawPointer?, _ socket: curl_socket_t, _ what: Int32, _ context: UnsafeMutableRawPointer?,
    _ own: UnsafeMutableRawPointer?
) -> Int32 {
    let reads = what == CURL_POLL_IN || what == CURL_POLL_INOUT
    let writes = what == CURL_POLL_OUT || what == CURL_POLL_INOUT
    guard let easy = unsafe easy else { return 0 }
    let handle = unsafe EasyHandle(pointer: easy)
    unsafe CurlMulti.of(context).note(.watch(socket, reads: reads, writes: writes, easy: handle))
    return 0
}

// SAFETY: as above.
private func noteTimer(_ multi: UnsafeMutableRawPointer?, _ milliseconds: Int, _ context: UnsafeMutableRawPointer?)
    -> Int32
{
    unsafe CurlMulti.of(context).noteDeadline(milliseconds: milliseconds)
    return 0
}

// SAFETY: as above.
private func noteClose(_ context: UnsafeMutableRawPointer?, _ socket: curl_socket_t) -> Int32 {
    unsafe CurlMulti.of(context).note(.close(socket))
    return 0
}
