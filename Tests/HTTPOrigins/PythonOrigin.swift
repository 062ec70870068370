import Rondo
public import SystemPackage

/// Python's `http.server`: HTTP/1.0 by default, one connection for each request, no ranges.
public final class PythonOrigin: Sendable {
    /// Where it listens.
    public let port: Int
    private let process: ServerProcess

    /// Serves the files of a folder.
    public init(serving folder: FilePath) async throws {
        let command = ChildProcess.Command(
            Installed.python!,
            ["-u", "-m", "http.server", "0", "--bind", "127.0.0.1", "--directory", folder.string])
        // "Serving HTTP on 127.0.0.1 port 40123 (http://127.0.0.1:40123/) ..."
        let (process, line) = try await ServerProcess.start(command) { $0.hasPrefix("Serving HTTP") }
        let words = line.split(separator: " ")
        let word = words.firstIndex(of: "port").map { words[$0 + 1] }
        guard let port = word.flatMap({ Int($0) }) else { throw ServerProcess.StartFailure(words: line) }
        self.port = port
        self.process = process
    }

    /// A file's URL.
    public func url(_ path: String) -> String { "http://127.0.0.1:\(port)/\(path)" }

    /// Ends it.
    public func stop() async { await process.stop() }
}
