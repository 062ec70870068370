#if PostgreSQL
import Rondo

extension PostgresConnection {
    /// Connects to a server, on the calling task's loop.
    ///
    /// Names are resolved and the handshake is made without blocking the loop; of several hosts and addresses, each is
    /// tried.
    ///
    /// - Throws: `SQLError`: disconnected if no server answers in time; refused, with the server's code, if it does not
    ///   let us in.
    public static func connect(
        to configuration: PostgresConfiguration
    ) async throws(SQLError) -> PostgresConnection {
        guard let loop = EventLoop.current else {
            fatalError(
                "PostgresConnection.connect was called outside of an event loop: call it in a RondoProgram, in "
                    + "EventLoop.run { }, or in withEventLoop { }")
        }
        let parameters = try await PostgresParametersOfConnection(configuration)
        let subject = parameters.subject
        guard let handle = PostgresHandle(parameters.values, onNotice: configuration.onNotice) else {
            throw SQLError("connect to", subject, .disconnected("no memory"))
        }
        let connection = PostgresConnection(handle, subject: subject, configuration: configuration, loop: loop)
        do {
            try await withTimeout(configuration.connectTimeout) { try await connection.establish() }
        } catch {
            await connection.shutDown()
            switch error {
            case let error as SQLError: throw error
            case let error as TimeoutError:
                throw SQLError("connect to", subject, .disconnected("no answer within \(error.limit)"))
            default: throw SQLError("connect to", subject, .cancelled)
            }
        }
        return connection
    }

    /// Polls libpq until it is connected. Each poll may have exchanged the socket, even for one of the same number, so
    /// each wait watches it anew.
    private func establish() async throws(SQLError) {
        guard let handle else { throw SQLError("connect to", subject, .closed) }
        var progress = PostgresHandle.Progress.writing
        if handle.isLost { progress = .failed }
        do throws(IOError) {
            while true {
                if progress == .failed { break }
                let watch = try DescriptorWatch(duplicating: handle.socket)
                self.watch = watch
                switch progress {
                case .reading: try await watch.waitUntilReadable()
                case .writing: try await watch.waitUntilWritable()
                case .connected, .failed: return
                }
                await watch.close()
                progress = handle.connectPoll()
            }
        } catch {
            throw SQLError("connect to", subject, error.isCancellation ? .cancelled : .disconnected("\(error)"))
        }
        throw SQLError("connect to", subject, Self.cause(ofConnectFailure: handle.errorMessage))
    }

    /// What libpq says when it could not connect, one or several lines. A server's refusal has its code in it, because
    /// of the verbosity: `…: FATAL:  28P01: password authentication failed for user "shop"`, then a line that says
    /// where in the server's source.
    static func cause(ofConnectFailure words: String) -> SQLError.Cause {
        let lines = words.split(separator: "\n").filter { !$0.hasPrefix("LOCATION:") }
        let text = lines.joined(separator: "; ")
        guard let last = lines.last else { return .disconnected("no reason was given") }
        let parts = last.split(separator: ": ", omittingEmptySubsequences: false)
        for (index, part) in parts.enumerated() {
            let code = part.drop { $0 == " " }
            guard index > 0, code.count == 5, code.allSatisfy({ $0.isASCII && ($0.isNumber || $0.isUppercase) }),
                code.contains(where: \.isNumber)
            else { continue }
            let message = parts[(index + 1)...].joined(separator: ": ")
            // Starting, stopping, full: it is a server, but not there for us yet.
            if code.hasPrefix("57P") || code.hasPrefix("53") { return .disconnected("\(message) (\(code))") }
            let kind = SQLRefusal.Kind(sqlState: String(code))
            return .refused(SQLRefusal(kind, code: String(code), message: message))
        }
        return .disconnected(text)
    }
}
#endif
