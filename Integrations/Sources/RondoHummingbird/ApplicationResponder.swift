// What an application does with a request besides routing it: its logger gets the request's number, the answer gets a
// date and the server's name, and what a handler throws that is no answer becomes one.

import Hummingbird
import HummingbirdCore
import Logging
import NIOCore
import NIOHTTP1
import Rondo

extension ApplicationProtocol {
    /// What the application answers to a request.
    func answersToRequests() async throws -> @Sendable (Request, any Channel) async throws -> Response {
        let responder = try await responder
        let (logger, serverName) = (logger, configuration.serverName)
        return { request, channel in
            var ownLogger = logger
            ownLogger[metadataKey: "hb.request.id"] = .stringConvertible(RequestID())
            var response = try await withLogger(ownLogger) { logger in
                let source = ApplicationRequestContextSource(channel: channel, logger: logger)
                do {
                    return try await responder.respond(to: request, context: Context(source: source))
                } catch let error as HTTPParserError {
                    throw error  // The channel answers that the request is bad.
                } catch let error as Rondo.IOError {
                    throw error  // RondoHTTP knows what was wrong with the body, or that the client has gone.
                } catch {
                    logger.debug("A handler has failed", metadata: ["error": "\(error)"])
                    return Response(status: .internalServerError)
                }
            }
            if let serverName { response.headers[.server] = serverName }
            return response
        }
    }

    /// The application as a channel calls it, as Hummingbird's own `run` would make it.
    func responderOnLoop() async throws -> HTTPChannelHandler.Responder {
        let (answers, date) = (try await answersToRequests(), DateText())
        return { request, writer, channel in
            var response = try await answers(request, channel)
            response.headers[.date] = date.now
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
