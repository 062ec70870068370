// How requests end before their time: cancelled, timed out, dropped, closed. Nothing is left of them.

import HTTPOrigins
import HTTPTypes
import Rondo
import Testing

@testable import RondoHTTPClient

@Suite struct EndTests {
    @Test func aCancelledRequestEndsAtOnce() async throws {
        try await withClient { client in
            let hasCome = AsyncEvent()
            let isGone = AsyncEvent()
            let origin = try await ScriptedOrigin { _, _, stream in
                hasCome.set()
                _ = try? await stream.readToEnd(limit: 100)
                isGone.set()
            }
            let task = Task { await failure { try await client.get(origin.url()) } }
            try await hasCome.wait()
            task.cancel()
            #expect(await task.value?.isCancellation == true)
            #expect(await client.statistics.running == 0)
            // The server sees the end of the connection.
            try await isGone.wait()
            await origin.stop()
        }
    }

    @Test func aCancelledReaderEndsAtOnce() async throws {
        try await withClient { client in
            let origin = try await ScriptedOrigin { _, _, stream in
                try await stream.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart")
                _ = try? await stream.readToEnd(limit: 100)
            }
            let hasRead = AsyncEvent()
            let task = Task {
                await failure {
                    for try await chunk in try await client.get(origin.url()).body {
                        #expect(chunk == Array("start".utf8))
                        hasRead.set()
                    }
                }
            }
            try await hasRead.wait()
            task.cancel()
            #expect(await task.value?.isCancellation == true)
            #expect(await client.statistics.running == 0)
            await origin.stop()
        }
    }

    @Test func aDroppedBodyEndsItsConnection() async throws {
        try await withClient { client in
            let isGone = AsyncEvent()
            let origin = try await ScriptedOrigin { _, _, stream in
                try await stream.write("HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nstart")
                _ = try? await stream.readToEnd(limit: 100)
                isGone.set()
            }
            _ = try await client.get(origin.url())
            try await isGone.wait()
            await origin.stop()
        }
    }

    @Test func whoWaitsForAPermitCanBeCancelled() async throws {
        try await withClient(testConfiguration { $0.pool.requestsPerHost = 1 }) { client in
            let hasCome = AsyncEvent()
            let origin = try await ScriptedOrigin { request, _, stream in
                if request.path == "/slow" {
                    hasCome.set()
                    _ = try await stream.readToEnd(limit: 100)
                }
                try await stream.answer()
            }
            let first = Task { await failure { try await client.get(origin.url("slow")) } }
            try await hasCome.wait()
            let second = Task { await failure { try await client.get(origin.url()) } }
            second.cancel()
            #expect(await second.value?.isCancellation == true)
            first.cancel()
            #expect(await first.value?.isCancellation == true)
            // The permit has come back.
            #expect(try await client.get(origin.url()).status.code == 200)
            await origin.stop()
        }
    }

    @Test(arguments: [HTTPClientError.Phase.firstByte, .idle, .whole])
    func timeIsUp(_ phase: HTTPClientError.Phase) async throws {
        let configuration = testConfiguration {
            switch phase {
            case .firstByte: $0.timeouts.firstByte = .milliseconds(50)
            case .idle: $0.timeouts.idle = .milliseconds(50)
            default: $0.timeouts.whole = .milliseconds(50)
            }
        }
        try await withClient(configuration) { client in
            let origin = try await ScriptedOrigin { _, _, stream in
                if phase != .firstByte { try await stream.write("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx") }
                _ = try await stream.readToEnd(limit: 100)
            }
            let error = await failure { try await client.get(origin.url()).body.collect(limit: 100) }
            guard case .timedOut(phase, .milliseconds(50)) = error?.cause else {
                Issue.record("\(error as Any)")
                return await origin.stop()
            }
            #expect(error?.isTransient == true)
            await origin.stop()
        }
    }

    /// Whoever does not read is not punished for it: the server waits, and the time of the client does not count.
    @Test func aSlowReaderPausesItsServer() async throws {
        let idle = Duration.milliseconds(100)
        try await withClient(testConfiguration { $0.timeouts.idle = idle }) { client in
            while true {
                let pulse = Pulse()
                guard let error = await failure({ try await readAfterAPause(of: idle * 3, client) }) else { break }
                // On a machine that stands still for so long, the best server is idle for so long: then once more.
                guard case .timedOut(.idle, _) = error.cause, pulse.longestPause > idle / 2 else { throw error }
            }
        }
    }

    private func readAfterAPause(of pause: Duration, _ client: HTTPClient) async throws {
        let sent = Made()
        let size = 64 << 20
        let origin = try await ScriptedOrigin { _, _, stream in
            try await stream.write("HTTP/1.1 200 OK\r\nContent-Length: \(size)\r\n\r\n")
            let piece = [UInt8](repeating: 5, count: 65_536)
            for _ in 0..<size / piece.count {
                try await stream.write(piece)
                sent.add(1)
            }
        }
        do {
            let before = residentBytes()
            let response = try await client.get(origin.url())
            try await Task.sleep(for: pause)
            #expect(sent.value < 500, "of 1024 pieces so many were sent without a reader")
            #expect(residentBytes() - before < 48 << 20)
            var count = 0
            for try await chunk in response.body { count += chunk.count }
            #expect(count == size)
        } catch {
            await origin.stop()
            throw error
        }
        await origin.stop()
    }

    @Test func closeWaitsForWhatIsUnderWay() async throws {
        try await withClient { client in
            let hasCome = AsyncEvent()
            let mayAnswer = AsyncEvent()
            let origin = try await ScriptedOrigin { _, _, stream in
                hasCome.set()
                try await mayAnswer.wait()
                try await stream.answer(body: [1])
            }
            let request = Task { try await client.get(origin.url()).body.collect(limit: 10) }
            try await hasCome.wait()
            let closing = Task { await client.close() }
            // The close has begun when requests are refused.
            while true {
                let error = await failure { try await client.get("http://127.0.0.1:1/") }
                if case .closed = error?.cause { break }
            }
            mayAnswer.set()
            #expect(try await request.value == [1])
            await closing.value
            await origin.stop()
        }
    }

    @Test func aCancelledCloseEndsWhatIsUnderWay() async throws {
        try await withClient { client in
            let hasCome = AsyncEvent()
            let origin = try await ScriptedOrigin { _, _, stream in
                hasCome.set()
                _ = try await stream.readToEnd(limit: 100)
            }
            let request = Task { await failure { try await client.get(origin.url()) } }
            try await hasCome.wait()
            let closing = Task { await client.close() }
            closing.cancel()
            await closing.value
            guard case .closed = await request.value?.cause else { _ = Issue.record("it goes on"); return }
            await origin.stop()
        }
    }
}
