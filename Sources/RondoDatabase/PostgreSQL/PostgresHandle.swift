#if PostgreSQL
import CPostgreSQL
import Glibc
import SystemPackage

/// libpq's connection: every call that takes one stands here and in the extensions of this file's name.
///
/// It belongs to one `PostgresConnection`, which calls on its loop's thread only. No call here waits: libpq is told not
/// to, and is asked for nothing that it doesn't have.
@safe
final class PostgresHandle {
    // SAFETY: libpq's object lives as long as this does, and so do the strings that it owns; those that are handed in
    // are copied by libpq, those that are handed out are copied here.
    let connection: OpaquePointer
    private let notices: NoticeReceiver

    /// Begins to connect; nil if there is no memory.
    init?(_ parameters: [String: String], onNotice: (@Sendable (String) -> Void)?) {
        var pointers: [UnsafePointer<CChar>?] = unsafe []
        defer { unsafe pointers.forEach { unsafe free(UnsafeMutablePointer(mutating: $0)) } }
        let sorted = parameters.sorted { $0.key < $1.key }
        for text in sorted.map(\.key) + sorted.map(\.value) { unsafe pointers.append(strdup(text)) }
        let keywords = unsafe Array(pointers[..<sorted.count]) + [nil]
        let values = unsafe Array(pointers[sorted.count...]) + [nil]
        guard let connection = unsafe PQconnectStartParams(keywords, values, 0) else { return nil }
        unsafe self.connection = unsafe connection
        notices = NoticeReceiver(onNotice)
        // Errors of connecting come with their SQLSTATE only if asked for all: see `connectFailure`.
        _ = unsafe PQsetErrorVerbosity(connection, PQERRORS_VERBOSE)
        unsafe notices.install(connection)
    }

    deinit { unsafe PQfinish(connection) }

    // MARK: Connecting

    enum Progress { case reading, writing, connected, failed }

    /// Goes on connecting, when the socket is ready for it. The socket may be another one afterwards.
    func connectPoll() -> Progress {
        switch unsafe PQconnectPoll(connection) {
        case PGRES_POLLING_READING: return .reading
        case PGRES_POLLING_WRITING: return .writing
        case PGRES_POLLING_OK:
            _ = unsafe PQsetErrorVerbosity(connection, PQERRORS_DEFAULT)
            // It is answered by "no memory" only when something is to be sent first, and nothing is.
            _ = unsafe PQsetnonblocking(connection, 1)
            return .connected
        default: return .failed
        }
    }

    var socket: FileDescriptor { FileDescriptor(rawValue: unsafe PQsocket(connection)) }
    var isLost: Bool { unsafe PQstatus(connection) == CONNECTION_BAD }
    var errorMessage: String { unsafe Self.trimmed(PQerrorMessage(connection)) }
    var processID: Int32 { unsafe PQbackendPID(connection) }
    var serverVersion: Int { Int(unsafe PQserverVersion(connection)) }

    /// `TLSv1.3`; nil if the connection is not encrypted.
    var encryption: String? {
        guard unsafe PQsslInUse(connection) != 0, let text = unsafe PQsslAttribute(connection, "protocol") else {
            return nil
        }
        return unsafe String(cString: text)
    }

    // MARK: Input and output

    /// Writes what is to be written. 0: all of it; 1: the socket must become ready first; -1: the connection is lost.
    func flush() -> Int32 { unsafe PQflush(connection) }

    /// Reads what has come. False: the connection is lost.
    func consumeInput() -> Bool { unsafe PQconsumeInput(connection) != 0 }

    /// Whether the next result has not all come.
    var isBusy: Bool { unsafe PQisBusy(connection) != 0 }

    /// Whether bytes that have left the socket wait in the TLS library: no poll would tell of them.
    var hasDecryptedInput: Bool {
        guard let pending = unsafe TLSPending.function, let session = unsafe PQsslStruct(connection, "OpenSSL") else {
            return false
        }
        return unsafe pending(session) > 0
    }

    /// The next result; nil at the end of the command. Not while it is busy.
    func nextResult() -> PostgresResult? { unsafe PQgetResult(connection).map { unsafe PostgresResult($0) } }

    /// The transaction that the session is in, as far as the server has told.
    var transaction: PGTransactionStatusType { unsafe PQtransactionStatus(connection) }
    var isOutsideTransaction: Bool { transaction == PQTRANS_IDLE }

    /// A notification that has come.
    func nextNotification() -> PostgresNotification? {
        guard let notification = unsafe PQnotifies(connection) else { return nil }
        defer { unsafe PQfreemem(notification) }
        return unsafe PostgresNotification(
            channel: String(cString: notification.pointee.relname),
            payload: String(cString: notification.pointee.extra),
            processID: notification.pointee.be_pid)
    }

    // MARK: What libpq says

    /// The parameters that a connection string names.
    static func parse(_ connectionString: String) throws(SQLError) -> [String: String] {
        var words: UnsafeMutablePointer<CChar>?
        guard let options = unsafe PQconninfoParse(connectionString, &words) else {
            defer { unsafe PQfreemem(words) }
            throw SQLError(
                "read", "the connection string", .invalid(unsafe words.map { unsafe trimmed($0) } ?? "no memory"))
        }
        return unsafe values(options)
    }

    /// What the environment says, and libpq by itself.
    static var defaults: [String: String] { unsafe PQconndefaults().map { unsafe values($0) } ?? [:] }

    private static func values(_ options: UnsafeMutablePointer<PQconninfoOption>) -> [String: String] {
        defer { unsafe PQconninfoFree(options) }
        var values: [String: String] = [:]
        var option = unsafe options
        while let keyword = unsafe option.pointee.keyword {
            if let value = unsafe option.pointee.val {
                unsafe values[String(cString: keyword)] = String(cString: value)
            }
            unsafe option += 1
        }
        return values
    }

    /// libpq's messages end with line feeds.
    static func trimmed(_ text: UnsafePointer<CChar>?) -> String {
        guard let text = unsafe text else { return "no reason was given" }
        var words = Substring(unsafe String(cString: text))
        while words.last?.isWhitespace == true { words.removeLast() }
        return String(words)
    }
}

/// OpenSSL's SSL_pending, if libpq has brought OpenSSL with it.
private enum TLSPending {
    // SAFETY: the name's function has this signature in all versions of OpenSSL.
    typealias Function = @convention(c) (UnsafeMutableRawPointer) -> Int32
    static let function: Function? = unsafe dlsym(nil, "SSL_pending").map {
        unsafe unsafeBitCast($0, to: Function.self)
    }
}

/// What libpq calls with each notice.
@safe
private final class NoticeReceiver {
    // SAFETY: the handle keeps this as long as libpq may call.
    private let receive: (@Sendable (String) -> Void)?

    init(_ receive: (@Sendable (String) -> Void)?) { self.receive = receive }

    func install(_ connection: OpaquePointer) {
        unsafe PQsetNoticeProcessor(
            connection,
            { receiver, message in
                let receiver = unsafe Unmanaged<NoticeReceiver>.fromOpaque(receiver!).takeUnretainedValue()
                receiver.receive?(unsafe PostgresHandle.trimmed(message))
            }, Unmanaged.passUnretained(self).toOpaque())
    }
}
#endif
