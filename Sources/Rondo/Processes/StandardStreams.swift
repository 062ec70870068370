// Standard input, output and error, without ever blocking the loop. Their file descriptions belong to the shell as much
// as to us: O_NONBLOCK would stay when we have ended, and break it. How that is avoided is in `StreamEnd.sharing`.

import Glibc

/// The program's standard streams: terminal, pipe, socket, file or `/dev/null`.
///
/// Each call gives a new end, to be kept while it is used; closing it leaves the descriptors 0, 1 and 2 open. `print`
/// and others may write beside it.
public enum StandardStreams {
    /// Standard input.
    public static func input() throws(IOError) -> PipeReader {
        try .sharing(.standardInput, name: "standard input")
    }

    /// Standard output.
    public static func output() throws(IOError) -> PipeWriter {
        try .sharing(.standardOutput, name: "standard output")
    }

    /// Standard error.
    public static func error() throws(IOError) -> PipeWriter {
        try .sharing(.standardError, name: "standard error")
    }
}
