import CRondo
import Glibc
public import SystemPackage

extension ChildProcess {
    /// What to run, and with what around it.
    public struct Command: Sendable {
        /// A path if it has a slash (a relative one counts from `workingDirectory`), else a name that is looked for in
        /// the directories of the child's `PATH`.
        public var executable: String
        /// What follows the program's name. No shell looks at it.
        public var arguments: [String]
        /// The child's environment.
        public var environment = Environment.inherit
        /// Where the child starts; nil for where this program is.
        public var workingDirectory: FilePath?
        /// Its standard input; nil for `.inherit`, and for `.null` with `run`.
        public var input: Stream?
        /// Its standard output; nil for `.inherit`, and for `.pipe` (it is collected) with `run`.
        public var output: Stream?
        /// Its standard error; nil for `.inherit`, and for `.pipe` (it is collected) with `run`.
        public var errors: Stream?
        /// Whether it leads a process group of its own: then Ctrl-C at the terminal does not reach it.
        public var ownsProcessGroup = false

        public init(_ executable: String, _ arguments: [String] = []) {
            self.executable = executable
            self.arguments = arguments
        }
    }

    /// The variables that a child sees.
    public enum Environment: Sendable {
        /// Those of this program.
        case inherit
        /// These only.
        case replace([String: String])
        /// Those of this program, with these changed, or removed if nil.
        case update([String: String?])
    }

    /// Where one of a child's three standard streams leads to.
    public enum Stream: Hashable, Sendable {
        /// To where this program's leads.
        case inherit
        /// To `/dev/null`.
        case null
        /// To this program: see ``ChildProcess/input``, ``ChildProcess/output`` and ``ChildProcess/errors``.
        case pipe
        /// To a descriptor, which stays open here.
        case descriptor(FileDescriptor)
        /// Standard error only: to where standard output leads, in the order in which both are written.
        case sameAsOutput
    }

    /// How a process has ended.
    public enum ExitStatus: Hashable, Sendable, CustomStringConvertible {
        /// By itself, with this code: 0 to 255, 0 for success.
        case exited(Int32)
        /// By a signal.
        case signalled(Signal, dumpedCore: Bool)

        /// Whether it has exited with 0.
        public var isSuccess: Bool { self == .exited(0) }

        /// What a shell shows as `$?`: the code, or 128 and the signal's number.
        public var shellStatus: Int32 {
            switch self {
            case .exited(let code): code
            case .signalled(let signal, _): 128 + signal.rawValue
            }
        }

        public var description: String {
            switch self {
            case .exited(let code): "exited with \(code)"
            case .signalled(let signal, let dumpedCore): "ended by \(signal)\(dumpedCore ? " (core dumped)" : "")"
            }
        }
    }
}

extension ChildProcess.Command {
    /// The environment as the kernel wants it.
    func environmentStrings() -> [String] {
        if case .replace(let variables) = environment {
            return variables.map { "\($0.key)=\($0.value)" }.sorted()
        }
        var strings: [String] = []
        // SAFETY: the process's environment ends with nil. Who changes it with setenv meanwhile breaks its own rules.
        if var next = unsafe rondo_environment() {
            while let string = unsafe next.pointee {
                unsafe strings.append(String(cString: string))
                unsafe next += 1
            }
        }
        guard case .update(let changes) = environment else { return strings }
        strings.removeAll { string in
            guard let name = string.split(separator: "=", omittingEmptySubsequences: false).first else { return false }
            return changes.keys.contains(String(name))
        }
        for (name, value) in changes.sorted(by: { $0.key < $1.key }) {
            if let value { strings.append("\(name)=\(value)") }
        }
        return strings
    }

    /// The paths to try.
    func candidates(environment: [String]) -> [String] {
        if executable.contains("/") || executable.isEmpty { return [executable] }
        let prefix = "PATH="
        let variable = environment.first { $0.hasPrefix(prefix) }?.dropFirst(prefix.count)
        return (variable ?? "/usr/local/bin:/usr/bin:/bin").split(separator: ":", omittingEmptySubsequences: false)
            .map { $0.isEmpty ? "./\(executable)" : "\($0)/\(executable)" }
    }
}

/// Everything that a child needs, as C strings, until it has been started.
@safe
final class SpawnPlan: @unchecked Sendable {
    // SAFETY: made by the task that waits, used by one thread of the pool, freed when both are through. Strings and
    // arrays are this object's own, from init to deinit.

    private var strings: [UnsafeMutablePointer<CChar>?] = unsafe []
    private let candidates: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let arguments: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private let environment: UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>
    private(set) var spawn = unsafe rondo_spawn()

    init(_ command: ChildProcess.Command, streams: (Int32, Int32, Int32)) {
        let variables = command.environmentStrings()
        var all: [UnsafeMutablePointer<CChar>?] = unsafe []
        func array(_ texts: [String]) -> UnsafeMutablePointer<UnsafeMutablePointer<CChar>?> {
            let array = UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>.allocate(capacity: texts.count + 1)
            for (index, text) in texts.enumerated() {
                unsafe (array + index).initialize(to: strdup(text))
                unsafe all.append(array[index])
            }
            unsafe (array + texts.count).initialize(to: nil)
            return unsafe array
        }
        unsafe candidates = array(command.candidates(environment: variables))
        unsafe arguments = array([command.executable] + command.arguments)
        unsafe environment = array(variables)
        unsafe spawn.candidates = UnsafePointer(candidates)
        unsafe spawn.arguments = UnsafePointer(arguments)
        unsafe spawn.environment = UnsafePointer(environment)
        if let directory = command.workingDirectory {
            unsafe all.append(strdup(directory.string))
            unsafe spawn.directory = UnsafePointer(all.last!)
        }
        unsafe spawn.streams = streams
        unsafe spawn.own_group = command.ownsProcessGroup ? 1 : 0
        unsafe strings = all
    }

    deinit {
        for index in unsafe strings.indices { unsafe free(strings[index]) }
        unsafe candidates.deallocate()
        unsafe arguments.deallocate()
        unsafe environment.deallocate()
    }

    /// Starts the child; a blocking call for the pool.
    func run() -> Int32 { unsafe rondo_spawn(&spawn) }

    var processID: Int32 { unsafe spawn.pid }
    var descriptor: Descriptor { unsafe Descriptor(rawValue: spawn.pidfd) }
    var step: UInt32 { unsafe UInt32(spawn.step) }
}
