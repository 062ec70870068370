// Where the command writes: how wide it is, whether it shows colours, and the one place that writes.

import Glibc
import Rondo
import SystemPackage

/// Standard output or standard error.
struct Terminal: Sendable {
    static let output = Terminal(descriptor: STDOUT_FILENO)
    static let errors = Terminal(descriptor: STDERR_FILENO)

    private let descriptor: Int32
    /// Whether a person may be looking.
    let isTerminal: Bool
    /// Whether colour is wanted: on a terminal that can show it, unless NO_COLOR is set (no-color.org).
    let showsColour: Bool

    private init(descriptor: Int32) {
        self.descriptor = descriptor
        isTerminal = isatty(descriptor) == 1
        let isPlain = environmentValue("NO_COLOR").map { !$0.isEmpty } ?? false
        showsColour = isTerminal && !isPlain && environmentValue("TERM") != "dumb"
    }

    /// Columns: what COLUMNS says, else what the terminal says, else 80.
    var width: Int {
        if let text = environmentValue("COLUMNS"), let columns = Int(text), columns > 0 { return columns }
        return size.columns
    }

    /// Columns and rows of the terminal now; 80 and 24 where it does not say.
    var size: (columns: Int, rows: Int) {
        var size = winsize()
        // SAFETY: the kernel fills in the one value.
        let answer = unsafe ioctl(descriptor, UInt(TIOCGWINSZ), &size)
        return answer == 0 && size.ws_col > 0 && size.ws_row > 0 ? (Int(size.ws_col), Int(size.ws_row)) : (80, 24)
    }

    /// Writes a line.
    func say(_ line: String) { write(line + "\n") }

    /// Writes all of `text`. Whoever stops reading (`| head -1`) has seen enough: that is no error. A disk that is
    /// full is one, and ends the command.
    func write(_ text: String) {
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            do throws(Errno) {
                // SAFETY: writes the slice's bytes within the call.
                let count = try systemCall {
                    unsafe rest.withUnsafeBytes { unsafe Glibc.write(descriptor, $0.baseAddress, $0.count) }
                }
                rest = rest.dropFirst(count)
            } catch .resourceTemporarilyUnavailable {
                var poll = pollfd(fd: descriptor, events: Int16(POLLOUT), revents: 0)
                _ = unsafe Glibc.poll(&poll, 1, 1000)
            } catch {
                if error == .brokenPipe || descriptor == STDERR_FILENO { return }
                Terminal.errors.say("error: write to standard output: \(error)")
                Interrupt.cleanUp()
                exit(1)
            }
        }
    }

    /// `text` in a colour, where colours are shown.
    func paint(_ text: String, _ colour: Colour) -> String {
        showsColour && colour != .plain ? "\u{1B}[\(colour.rawValue)m\(text)\u{1B}[0m" : text
    }

    /// `text` without what a terminal would take for commands: much of it is somebody else's.
    static func printable(_ text: String) -> String {
        String(String.UnicodeScalarView(text.unicodeScalars.map { $0.value < 0x20 || $0.value == 0x7f ? " " : $0 }))
    }

    /// `text` with its colours exchanged, on every terminal.
    func invert(_ text: String) -> String { isTerminal ? "\u{1B}[7m\(text)\u{1B}[0m" : text }
}

/// Colours by their ANSI codes; the terminal's theme decides how they look.
enum Colour: String {
    case plain = "0"
    case bold = "1"
    case faint = "2"
    case red = "31"
    case green = "32"
    case yellow = "33"
    case blue = "34"
    case magenta = "35"
    case cyan = "36"
    case brightGreen = "1;92"
}
