// What must not be left behind when the command is interrupted: files in a temporary folder, a hidden cursor.
//
// The signal handler may only touch memory that is in place already and make calls that man 7 signal-safety lists; so
// everything that it needs is C strings, written before they are announced.

import Glibc
import SystemPackage

/// Ctrl-C, and what is cleaned up then and at the end.
enum Interrupt {
    /// Files to unlink and, last, a folder to remove.
    nonisolated(unsafe) private static var files: InlineArray<3, UnsafeMutablePointer<CChar>?> = [nil, nil, nil]
    nonisolated(unsafe) private static var folder: UnsafeMutablePointer<CChar>?
    /// 1 while the cursor is hidden.
    nonisolated(unsafe) private static var isCursorHidden: sig_atomic_t = 0
    /// Hides the cursor; its sibling brings it back at the start of a fresh line.
    private static let hideText = "\u{1B}[?25l"
    nonisolated(unsafe) private static let showText: UnsafeMutablePointer<CChar> = unsafe strdup(
        "\u{1B}[?25h\r\u{1B}[K")

    /// Arranges for `folder` and the index in it to be removed at the end, however it comes.
    static func willRemove(index: FilePath, in folder: FilePath) {
        // SAFETY: on the loop's thread, and the strings are complete before install() lets a signal see them; they are
        // never freed.
        unsafe files[0] = index.withPlatformString { unsafe strdup($0) }
        unsafe files[1] = FilePath(index.string + "-journal").withPlatformString { unsafe strdup($0) }
        unsafe files[2] = FilePath(index.string + "-wal").withPlatformString { unsafe strdup($0) }
        unsafe Self.folder = folder.withPlatformString { unsafe strdup($0) }
        install()
    }

    /// Hides the cursor on standard error until `showCursor()`, or until the command ends.
    static func hideCursor() {
        _ = unsafe showText
        unsafe isCursorHidden = 1
        install()
        Terminal.errors.write(hideText)
    }

    /// Shows the cursor again, if it is hidden.
    static func showCursor() {
        // SAFETY: showText is a C string.
        if unsafe isCursorHidden != 0 { _ = unsafe write(STDERR_FILENO, showText, strlen(showText)) }
        unsafe isCursorHidden = 0
    }

    /// Removes what is to be removed. Also what a signal does.
    static func cleanUp() {
        showCursor()
        // SAFETY: C strings or nil, see willRemove.
        for index in 0..<3 {
            if let path = unsafe files[index] { unsafe unlink(path) }
        }
        if let path = unsafe folder { unsafe rmdir(path) }
    }

    private static func install() {
        for number in [SIGINT, SIGTERM, SIGHUP] {
            let before = signal(number) { number in
                Interrupt.cleanUp()
                _exit(128 + number)
            }
            // What was ignored stays so: nohup ignores SIGHUP, a shell ignores Ctrl-C for what runs in the background.
            if unsafe unsafeBitCast(before, to: Int.self) == unsafeBitCast(SIG_IGN, to: Int.self) {
                signal(number, SIG_IGN)
            }
        }
    }
}
