// The inspector: a thread of its own that answers what the program's tasks are doing. It is not on a loop, so that it
// can tell of a loop that hangs; and loops do something for it only when somebody asks.

import CRondo
import CRondoInsight
import Glibc
import Rondo
import SystemPackage

/// Called by the constructor in CRondoInsight, before `main`.
@_cdecl("rondo_insight_install")
func installInspector() {
    // SAFETY: no other thread is there yet.
    unsafe ProgramObserver.start = { loops in Inspector.start(loops) }
}

/// Listens at a Unix socket and serves a few clients at a time, none of which can make it wait.
///
/// The protocol, version 1: a client sends one line, `RONDO/1 tasks` or `RONDO/1 loops`; the answer is a line
/// `RONDO/1 ok LENGTH` and a JSON object of so many bytes, or `RONDO/1 error TEXT`. Then the connection is closed.
final class Inspector {
    private let loops: [EventLoop]
    private let listener: Int32
    let watchdog: Watchdog
    private let answers: InspectorAnswers
    private var clients: [InspectorClient] = []

    /// Beyond these a connection is closed at once.
    private static let clientLimit = 8
    /// Nanoseconds that a client may take, for its question and for taking its answer.
    private static let patience: UInt64 = 10_000_000_000

    /// The socket's path, for the end of the process.
    // SAFETY: written once, before the thread starts; read at exit.
    nonisolated(unsafe) private static var path: UnsafeMutablePointer<CChar>?

    static func start(_ loops: [EventLoop]) {
        let logger = loops[0].configuration.logger
        do throws(IOError) {
            let listener = try listen()
            // SAFETY: the thread is the only one that has it.
            nonisolated(unsafe) let inspector = Inspector(loops, listener)
            let watchdog = unsafe inspector.watchdog
            do throws(Errno) {
                try NativeThread("rondo-inspector") { unsafe inspector.run() }.detach()
                try NativeThread("rondo-watchdog") {
                    blockSignals()
                    watchdog.run()
                }.detach()
            } catch {
                throw IOError("start", "the inspector's threads", .system(error))
            }
        } catch {
            logger.debug("nobody can look at this program's tasks: \(error)")
        }
    }

    private init(_ loops: [EventLoop], _ listener: Int32) {
        self.loops = loops
        self.listener = listener
        let symbols = Lock(Symbols())
        let threshold = loops[0].configuration.hogTime.nanosecondsRoundedUp
        watchdog = Watchdog(loops, threshold: threshold, symbols: symbols)
        answers = InspectorAnswers(loops, watchdog, symbols)
    }

    private static func listen() throws(IOError) -> Int32 {
        try InspectorPlace.prepareFolder()
        _ = InspectorPlace.processes()  // Removes what killed programs have left.
        let path = InspectorPlace.socket(of: getpid())
        let address = UnixAddress.path(FilePath(path))
        if let problem = address.problem { throw IOError("listen on", path, .invalid(problem)) }
        let name = address.socketName
        let socket = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue), 0)
        // SAFETY: the path and the name live across the calls.
        unsafe unlink(path)
        let isBound = unsafe socket >= 0 && name.withSockaddr { unsafe bind(socket, $0, $1) } == 0
        guard isBound, unsafe chmod(path, 0o600) == 0, Glibc.listen(socket, 16) == 0 else {
            let cause = Errno(rawValue: errno)
            if socket >= 0 { close(socket) }
            throw IOError("listen on", path, .system(cause))
        }
        unsafe Self.path = strdup(path)
        atexit { _ = unsafe Inspector.path.map { unsafe unlink($0) } }
        return socket
    }

    // MARK: The thread

    private func run() {
        Self.blockSignals()
        while true {
            var polled = [pollfd(fd: listener, events: Int16(POLLIN), revents: 0)]
            polled += clients.map { pollfd(fd: $0.descriptor, events: $0.events, revents: 0) }
            // SAFETY: the array lives across the call.
            _ = unsafe poll(&polled, nfds_t(polled.count), clients.isEmpty ? -1 : 1000)
            let now = monotonicNanoseconds()
            for (client, events) in zip(clients, polled.dropFirst()) {
                if events.revents != 0 { client.proceed(answers) }
                if now > client.since &+ Self.patience { client.end() }
            }
            clients.removeAll { $0.isOver }
            if polled[0].revents != 0 { acceptClients() }
        }
    }

    /// Signals are for the program's own threads.
    private static func blockSignals() {
        var all = sigset_t()
        unsafe sigfillset(&all)
        unsafe pthread_sigmask(SIG_SETMASK, &all, nil)
    }

    private func acceptClients() {
        while true {
            let connection = rondo_accept_own(listener)
            switch -connection {
            case EMFILE, ENFILE:
                // The listener stays readable: wait, as nothing else helps.
                _ = poll(nil, 0, 100)
                return
            case EPERM, ECONNABORTED, EINTR: continue
            case let error where error > 0: return
            default: break
            }
            if clients.count < Self.clientLimit {
                clients.append(InspectorClient(connection))
            } else {
                close(connection)
            }
        }
    }
}

/// A connection to the inspector.
final class InspectorClient {
    let descriptor: Int32
    let since = monotonicNanoseconds()
    private(set) var isOver = false
    private var question: [UInt8] = []
    private var answer: [UInt8]?
    private var sent = 0

    private static let questionLimit = 256

    init(_ descriptor: Int32) { self.descriptor = descriptor }

    /// What it waits for.
    var events: Int16 { Int16(answer == nil ? POLLIN : POLLOUT) }

    /// Does what can be done without waiting.
    func proceed(_ answers: InspectorAnswers) {
        if answer == nil { receive(answers) }
        if answer != nil { send() }
    }

    func end() {
        if isOver { return }
        isOver = true
        close(descriptor)
    }

    private func receive(_ answers: InspectorAnswers) {
        var bytes = [UInt8](repeating: 0, count: Self.questionLimit)
        // SAFETY: the array has so many bytes.
        let count = unsafe recv(descriptor, &bytes, bytes.count, Int32(MSG_DONTWAIT))
        if count < 0, errno == EAGAIN || errno == EINTR { return }
        if count <= 0 { return end() }
        question += bytes[..<count]
        if let newline = question.firstIndex(of: UInt8(ascii: "\n")) {
            let line = String(decoding: question[..<newline], as: UTF8.self)
            answer = Array(answers.answer(to: line).utf8)
        } else if question.count >= Self.questionLimit {
            answer = Array("RONDO/1 error the question is too long\n".utf8)
        }
    }

    private func send() {
        guard let answer else { return }
        while sent < answer.count {
            let flags = Int32(MSG_DONTWAIT | MSG_NOSIGNAL)
            // SAFETY: within the array.
            let count = unsafe answer.withUnsafeBytes { bytes in
                unsafe Glibc.send(descriptor, bytes.baseAddress! + sent, bytes.count - sent, flags)
            }
            if count < 0, errno == EAGAIN || errno == EINTR { return }
            if count <= 0 { return end() }
            sent += count
        }
        end()
    }
}
