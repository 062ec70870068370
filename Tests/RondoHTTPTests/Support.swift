// What the tests of this folder share: a server on a loop of its own, and a client that sends exactly what it is told.

import Foundation
import Rondo
import RondoHTTP
import Testing

/// Starts a task on the test's own loop: others have no executor to themselves while tests block its threads.
func start<Value: Sendable>(_ body: sending @escaping () async throws -> Value) -> Task<Value, any Error> {
    Task(executorPreference: EventLoop.current!.executor) { try await body() }
}

/// Runs `body` on a loop while a server there answers with `handler`; then the server must end by itself.
func serving(
    _ configuration: HTTPServerConfiguration = HTTPServerConfiguration(),
    _ handler: @escaping @Sendable (ServerRequest, ServerResponse) async throws -> Void,
    _ body: sending @escaping (SocketAddress) async throws -> Void
) throws {
    try EventLoop.run {
        let server = try await HTTPServer.listen(on: .loopback(port: 0), configuration: configuration)
        let serving = start { try await server.serve(handler) }
        try await body(server.localAddress)
        await server.stopAccepting()
        try await serving.value
    }
}

/// Answers every request with what it was.
@Sendable func describe(_ request: ServerRequest, _ response: ServerResponse) async throws {
    let body = try await request.body.collect(upTo: 1 << 20)
    try await response.send("\(request.method) \(request.target) \(String(decoding: body, as: UTF8.self))")
}

/// Sends text, and reads until the server ends the connection.
func ask(_ address: SocketAddress, _ text: String) async throws -> String {
    try await ask(address, Array(text.utf8))
}

func ask(_ address: SocketAddress, _ bytes: [UInt8]) async throws -> String {
    let stream = try await TCPStream.connect(to: address)
    let writing = start { try? await stream.write(bytes) }
    let answer = String(decoding: try await stream.readToEnd(limit: 1 << 24), as: UTF8.self)
    await stream.close()
    _ = try await writing.value
    return answer
}

/// The status of an answer, and what is behind its head.
func parts(_ answer: String) -> (status: Int, body: Substring) {
    let status = Int(answer.dropFirst(9).prefix(3)) ?? 0
    guard let end = answer.firstRange(of: "\r\n\r\n") else { return (status, "") }
    return (status, answer[end.upperBound...])
}

/// The memory that this process has in use, in bytes.
func residentBytes() throws -> Int {
    let text = try String(contentsOfFile: "/proc/self/statm", encoding: .utf8)
    return Int(text.split(separator: " ")[1])! * 4096
}
