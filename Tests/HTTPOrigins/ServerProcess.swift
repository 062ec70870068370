// Real servers for tests, each a child of the test with a folder of its own, on a free port of the loopback.

import Glibc
import Rondo
import SystemPackage

/// Where servers of Debian packages are.
public enum Installed {
    /// nginx, if there is one.
    public static let nginx = first("/usr/sbin/nginx", "/usr/bin/nginx")
    /// Python 3, if there is one.
    public static let python = first("/usr/bin/python3", "/usr/local/bin/python3")
    /// openssl, to make certificates, if there is one.
    public static let openssl = first("/usr/bin/openssl")

    private static func first(_ paths: String...) -> String? {
        // SAFETY: a C string for the call.
        paths.first { path in unsafe access(path, X_OK) == 0 }
    }
}

/// A child, and what it says on standard error until it is ready.
final class ServerProcess: Sendable {
    private let child: ChildProcess
    private let drain: Task<Void, Never>

    private init(_ child: ChildProcess, drain: Task<Void, Never>) {
        self.child = child
        self.drain = drain
    }

    /// Starts a server and waits for the line of `stream` that says that it is ready.
    static func start(
        _ command: ChildProcess.Command, readyWhen: (String) -> Bool
    ) async throws -> (ServerProcess, line: String) {
        var command = command
        command.input = .null
        command.output = .pipe
        command.errors = .sameAsOutput
        let child = try await ChildProcess.start(command)
        let reader = BufferedReader(child.output!)
        var said = ""
        while let line = try await reader.readLine() {
            said += line + "\n"
            guard readyWhen(line) else { continue }
            // A pipe that nobody reads would stop the server.
            nonisolated(unsafe) let rest = reader
            let drain = Task(executorPreference: child.loop.executor) {
                while (try? await unsafe rest.read()) != nil {}
            }
            return (ServerProcess(child, drain: drain), line)
        }
        _ = try await child.waitUntilExit()
        throw StartFailure(words: said)
    }

    /// Ends the server, by its process id, and waits for its end.
    func stop() async {
        _ = try? await child.terminate()
        drain.cancel()
        await drain.value
        await child.output?.close()
    }

    struct StartFailure: Error { var words: String }
}

/// A port that nobody listened at a moment ago.
public func freePort() async throws -> Int {
    let listener = try await TCPListener.listen(on: .loopback(port: 0))
    let port = listener.localAddress.port
    await listener.close()
    return port
}
