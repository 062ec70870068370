// What an application does with a request besides routing it: its logger gets the request's number, the answer gets a
// date and the server's name, and what a handler throws that is no answer becomes one.

import Hummingbird
import HummingbirdCore
import Logging
import NIOHTTP1

extension ApplicationProtocol {
    /// The application as a channel calls it, as Hummingbird's own `run` would make it.
    func responderOnLoop() async throws -> HTTPChannelHandler.Responder {
        let responder = try await responder
        let (logger, serverName, date) = (logger, configuration.serverName, DateText())
        return { request, writer, channel in
            var ownLogger = logger
            ownLogger[metadataKey: "hb.request.id"] = .stringConvertible(RequestID())
            var response = try await withLogger(ownLogger) { logger in
                let source = ApplicationRequestContextSource(channel: channel, logger: logger)
                do {
                    return try await responder.respond(to: request, context: Context(source: source))
                } catch let error as HTTPParserError {
                    throw error  // The channel answers that the request is bad.
                } catch {
                    logger.debug("A handler has failed", metadata: ["error": "\(error)"])
                    return Response(status: .internalServerError)
                }
            }
            response.headers[.date] = date.now
            if let serverName { response.headers[.server] = serverName }
            do {
                try await writer.write(response: response.head, body: response.body)
            } catch let error as HTTPParserError {
                throw BadRequestInAnswer(cause: error)
            }
        }
    }
}

/// The request turned out to be wrong when the answer had begun: another answer would be taken for a part of it.
private struct BadRequestInAnswer: Error {
    let cause: HTTPParserError
}
