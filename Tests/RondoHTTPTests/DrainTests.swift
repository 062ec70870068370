// The end of a server: nobody who asks is left without an answer, and nobody who does not keeps it from ending.

import Rondo
import RondoHTTP
import Testing

@Suite struct DrainTests {
    @Test func whoWaitsIsClosedAndWhoIsServedIsAnswered() throws {
        try EventLoop.run {
            let server = try await HTTPServer.listen(on: .loopback(port: 0))
            let shutdown = Shutdown()
            let gate = AsyncEvent()
            let begun = AsyncEvent()
            let serving = start {
                try await server.serve(until: shutdown) { request, response in
                    if request.path == "/slow" {
                        begun.set()
                        try await gate.wait()
                    }
                    try await response.send(String(request.path))
                }
            }
            let idle = try await TCPStream.connect(to: server.localAddress)
            try await idle.write("GET /idle HTTP/1.1\r\nHost: x\r\n\r\n")
            _ = try await idle.read()
            let busy = try await TCPStream.connect(to: server.localAddress)
            try await busy.write("GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            try await begun.wait()
            shutdown.request()
            #expect(try await idle.read() == nil)
            gate.set()
            let answer = String(decoding: try await busy.readToEnd(limit: 1000), as: UTF8.self)
            #expect(answer.hasSuffix("/slow") && answer.contains("Connection: close"))
            try await serving.value
            await #expect(throws: IOError.self) { _ = try await TCPStream.connect(to: server.localAddress) }
            await idle.close()
            await busy.close()
        }
    }

    @Test func cancellingEndsHandlers() throws {
        try EventLoop.run {
            let server = try await HTTPServer.listen(on: .loopback(port: 0))
            let begun = AsyncEvent()
            let serving = start {
                try await server.serve { _, _ in
                    begun.set()
                    try await Task.sleep(for: .seconds(1000))
                }
            }
            let stream = try await TCPStream.connect(to: server.localAddress)
            try await stream.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try await begun.wait()
            serving.cancel()
            await #expect(throws: IOError.self) { try await serving.value }
            await stream.close()
        }
    }

    @Test func severalLoopsServe() throws {
        var configuration = RuntimeConfiguration(loops: 2)
        configuration.isInspectable = false
        try Runtime.run(configuration) { _ in
            let server = try await HTTPServer.listen(on: .loopback(port: 0))
            let serving = start {
                try await server.serve { request, response in
                    // A handler that comes back from elsewhere.
                    try await withEventLoop { _ in await EventLoop.yield() }
                    let body = try await request.body.collect(upTo: 100)
                    try await withEventLoop { _ in await EventLoop.yield() }
                    try await response.send("\(request.path) \(String(decoding: body, as: UTF8.self))")
                }
            }
            for number in 0..<20 {
                let answer = try await ask(
                    server.localAddress,
                    "POST /\(number) HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok")
                #expect(answer.hasSuffix("\r\n\r\n/\(number) ok"))
            }
            await server.stopAccepting()
            try await serving.value
        }
    }

    /// A handler that goes on after its loop's end can do no harm, and whoever serves is told.
    @Test func aHandlerOutlivesTheLoop() async throws {
        let (gate, begun) = (AsyncEvent(), AsyncEvent())
        let (ends, handlerEnds) = AsyncStream.makeStream(of: Void.self)
        let (serving, client) = try await withEventLoop { _ in
            let server = try await HTTPServer.listen(on: .loopback(port: 0))
            let serving = start {
                try await server.serve { request, response in
                    defer { handlerEnds.finish() }
                    begun.set()
                    await Task { try? await gate.wait() }.value
                    // It may be told that nobody gets this, or not yet.
                    try await response.send("late")
                }
            }
            let client = try await TCPStream.connect(to: server.localAddress)
            try await client.write("GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            try await begun.wait()
            return (serving, client)
        }
        gate.set()
        await #expect(throws: IOError.self) { try await serving.value }
        for await _ in ends {}
        await client.close()
    }
}
