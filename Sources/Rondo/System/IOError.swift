public import SystemPackage

/// What went wrong with an operation, on whose behalf, why, and what to do about it.
///
/// All I/O of Rondo throws this one type:
///
/// ```
/// connect to 127.0.0.1:5432: Connection refused (is the server running?)
/// ```
public struct IOError: Error, Hashable, Sendable, CustomStringConvertible {
    /// Why an operation failed.
    public enum Cause: Hashable, Sendable {
        /// The system refused it, with this errno.
        case system(Errno)
        /// The task was cancelled while it waited. The operation has ended; nothing of it goes on.
        case cancelled
        /// The object was closed before, or is being closed, by this program: a mistake of the caller.
        case closed
        /// Another task is already waiting for the same thing: a mistake of the caller.
        case busy
        /// The peer ended the stream before all that was asked for had arrived.
        case unexpectedEnd
        /// More arrived than the limit that the caller set.
        case limitExceeded(Int)
        /// The peer sent what the protocol does not allow, in these words.
        case malformed(String)
        /// None of a host's addresses could be connected to; one error for each attempt.
        case attempts([IOError])
        /// A host name has no address, in the resolver's words.
        case unresolved(String)
        /// The caller's arguments make no sense, in these words.
        case invalid(String)
    }

    // One word: every async function that throws this keeps room for it, more than once, in the frame of its task. As
    // three values it made the frames of a stream's read and write several times as large.
    private var content: Content

    private final class Content: Hashable, Sendable {
        let operation: String
        let subject: String
        let cause: Cause

        init(_ operation: String, _ subject: String, _ cause: Cause) {
            self.operation = operation
            self.subject = subject
            self.cause = cause
        }

        static func == (left: Content, right: Content) -> Bool {
            left.operation == right.operation && left.subject == right.subject && left.cause == right.cause
        }

        func hash(into hasher: inout Hasher) {
            hasher.combine(operation)
            hasher.combine(subject)
            hasher.combine(cause)
        }
    }

    /// An error in these words.
    public init(_ operation: String, _ subject: String, _ cause: Cause) {
        content = Content(operation, subject, cause)
    }

    /// The verb: `connect to`, `accept on`, `read`, `open`…
    public var operation: String { content.operation }
    /// What it was done to: an address, a path.
    public var subject: String { content.subject }
    /// Why it failed.
    public var cause: Cause { content.cause }

    /// Whether the task's cancellation ended the operation.
    public var isCancellation: Bool { cause == .cancelled }

    /// The errno, where the system refused; that of the last attempt, if there were several.
    public var errno: Errno? {
        switch cause {
        case .system(let errno): errno
        case .attempts(let errors): errors.last?.errno
        default: nil
        }
    }

    public var description: String {
        let hint = hint.map { " (\($0))" } ?? ""
        return "\(operation) \(subject): \(reason)\(hint)"
    }

    /// The cause that a driver's negative answer stands for.
    package static func cause(ofAnswer answer: Int32) -> Cause {
        let errno = Errno(rawValue: -answer)
        return errno == .canceled ? .cancelled : .system(errno)
    }

    private var reason: String {
        switch cause {
        case .system(let errno): errno.description
        case .cancelled: "the task was cancelled"
        case .closed: "it is closed"
        case .busy: "another task is already waiting for it"
        case .unexpectedEnd: "the peer ended the stream early"
        case .limitExceeded(let limit): "more than the limit of \(limit) bytes arrived"
        case .malformed(let words): words
        case .attempts(let errors):
            "no address answered: " + errors.map { "\($0.subject): \($0.reason)" }.joined(separator: "; ")
        case .unresolved(let words): words
        case .invalid(let words): words
        }
    }

    /// Whether the subject is a host and its port, and no path.
    private var namesPort: Bool { subject.utf8.contains(UInt8(ascii: ":")) }

    /// What to do about it, where there is one thing that usually helps.
    public var hint: String? {
        switch cause {
        case .system(.connectionRefused): "is the server running?"
        case .system(.addressInUse) where !namesPort && operation != "join":
            "another program has it, or has left its file behind: see replacingStale"
        case .system(.addressInUse) where operation == "join": "it is a member already"
        case .system(.addressInUse): "another program uses this port: choose another one, or stop it"
        case .system(.addressNotAvailable): "this machine has no such address"
        case .system(.tooManyOpenFiles): "raise the limit of open files: ulimit -n"
        case .system(.tooManyOpenFilesInSystem): "the whole system is out of files: sysctl fs.file-max"
        case .system(.noSuchFileOrDirectory) where operation == "run" && !subject.contains("/"):
            "is it installed, and in a directory of PATH?"
        case .system(.permissionDenied) where operation == "run": "is it a program, with the permission to execute it?"
        case .system(.brokenPipe) where operation == "write to the pipe": "whoever reads it has closed it, or has ended"
        case .system(.noSuchAddressOrDevice) where operation == "open the pipe": "nobody has it open for reading"
        case .system(.noSuchFileOrDirectory): "check the path"
        case .system(.messageTooLong): "send less in one message"
        case .system(.permissionDenied) where operation == "listen on" && namesPort:
            "ports below 1024 are for root: use another one"
        case .system(.permissionDenied): "check owner and mode"
        case .system(.noSpace): "free some space on that file system"
        case .system(.diskQuotaExceeded): "free some space of your own: the quota is used up"
        case .system(.directoryNotEmpty): "remove what is in it first, or all together with Files.removeTree"
        case .system(.improperLink): "it is on another file system: copy it, and remove the old one"
        case .system(.readOnlyFileSystem): "the file system is mounted read-only"
        case .system(.tooManySymbolicLinkLevels): "a symbolic link leads back to itself, or may not be followed here"
        case .system(.isDirectory): "name a file, not a folder"
        case .system(.notDirectory): "a part of the path is a file, not a folder"
        case .system(.fileTooLarge): "see ulimit -f, and the file system's limits"
        case .system(.brokenPipe), .system(.connectionReset): "the peer closed the connection"
        case .system(.networkUnreachable), .system(.noRouteToHost): "check the network and its routes"
        case .system(.resourceTemporarilyUnavailable) where operation == "start":
            "check ulimit -u and the cgroup's pids.max"
        case .closed: "do not use it after close()"
        case .busy: "let one task read and one task write"
        case .unresolved: "check the spelling, and /etc/resolv.conf"
        case .attempts(let errors): errors.last?.hint
        default: nil
        }
    }
}
