import Glibc

/// A UNIX signal.
public struct Signal: RawRepresentable, Hashable, Sendable, CustomStringConvertible {
    /// Its number, as in `man 7 signal`.
    public let rawValue: Int32

    public init(rawValue: Int32) { self.rawValue = rawValue }

    /// SIGHUP: the terminal is gone; by custom, read the configuration again.
    public static let hangup = Signal(rawValue: SIGHUP)
    /// SIGINT: Ctrl-C.
    public static let interrupt = Signal(rawValue: SIGINT)
    /// SIGQUIT: Ctrl-\.
    public static let quit = Signal(rawValue: SIGQUIT)
    /// SIGTERM: please end.
    public static let terminate = Signal(rawValue: SIGTERM)
    /// SIGKILL: ends the process at once; it can't be caught.
    public static let kill = Signal(rawValue: SIGKILL)
    /// SIGSTOP: pauses the process; it can't be caught.
    public static let stop = Signal(rawValue: SIGSTOP)
    /// SIGCONT: goes on after a pause.
    public static let `continue` = Signal(rawValue: SIGCONT)
    /// SIGUSR1.
    public static let user1 = Signal(rawValue: SIGUSR1)
    /// SIGUSR2.
    public static let user2 = Signal(rawValue: SIGUSR2)
    /// SIGALRM.
    public static let alarm = Signal(rawValue: SIGALRM)
    /// SIGPIPE: a write to a pipe that nobody reads.
    public static let pipe = Signal(rawValue: SIGPIPE)
    /// SIGCHLD: a child has ended or stopped.
    public static let child = Signal(rawValue: SIGCHLD)
    /// SIGWINCH: the terminal's size has changed.
    public static let windowChange = Signal(rawValue: SIGWINCH)
    /// SIGABRT: the process has aborted.
    public static let abort = Signal(rawValue: SIGABRT)
    /// SIGILL: a broken instruction; how Swift traps on Intel.
    public static let illegalInstruction = Signal(rawValue: SIGILL)
    /// SIGTRAP: how Swift traps on ARM.
    public static let trap = Signal(rawValue: SIGTRAP)
    /// SIGSEGV: a wrong address.
    public static let segmentationFault = Signal(rawValue: SIGSEGV)

    /// `SIGTERM`, or `signal 42` for one without a name.
    public var description: String {
        switch self {
        case .hangup: "SIGHUP"
        case .interrupt: "SIGINT"
        case .quit: "SIGQUIT"
        case .terminate: "SIGTERM"
        case .kill: "SIGKILL"
        case .stop: "SIGSTOP"
        case .continue: "SIGCONT"
        case .user1: "SIGUSR1"
        case .user2: "SIGUSR2"
        case .alarm: "SIGALRM"
        case .pipe: "SIGPIPE"
        case .child: "SIGCHLD"
        case .windowChange: "SIGWINCH"
        case .abort: "SIGABRT"
        case .illegalInstruction: "SIGILL"
        case .trap: "SIGTRAP"
        case .segmentationFault: "SIGSEGV"
        default: "signal \(rawValue)"
        }
    }
}
