// WebSocket: what RFC 6455 asks for, frame by frame, and a client that others wrote.

import Foundation
import Rondo
import RondoHTTP
import Synchronization
import Testing

@Suite struct WebSocketTests {
    private static let request =
        "GET /chat HTTP/1.1\r\nHost: x\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n"
        + "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"

    @Sendable private static func echo(_ request: ServerRequest, _ response: ServerResponse) async throws {
        try await response.upgradeToWebSocket(request, messageLimit: 100_000) { socket in
            while let message = try await socket.receive() { try await socket.send(message) }
        }
    }

    /// A frame as a client sends it.
    private static func frame(_ opcode: UInt8, _ payload: [UInt8], isLast: Bool = true) -> [UInt8] {
        let key: [UInt8] = [1, 2, 3, 4]
        var frame = [(isLast ? 0x80 : 0) | opcode]
        switch payload.count {
        case ..<126: frame.append(0x80 | UInt8(payload.count))
        case ..<65_536: frame += [0x80 | 126, UInt8(payload.count >> 8), UInt8(payload.count & 255)]
        default: frame += [0x80 | 127] + (0..<8).map { UInt8(truncatingIfNeeded: payload.count >> (56 - 8 * $0)) }
        }
        return frame + key + payload.enumerated().map { $1 ^ key[$0 & 3] }
    }

    private static func text(_ text: String) -> [UInt8] { frame(1, Array(text.utf8)) }

    /// What the server sends behind its head, to the end.
    private func answer(to frames: [UInt8]) throws -> [UInt8] {
        let answer = Mutex<[UInt8]>([])
        try serving(HTTPServerConfiguration(), Self.echo) { address in
            let stream = try await TCPStream.connect(to: address)
            try await stream.write(Array(Self.request.utf8) + frames)
            try await stream.finishWriting()
            let all = try await stream.readToEnd(limit: 1 << 22)
            await stream.close()
            let end = try #require(String(decoding: all, as: UTF8.self).firstRange(of: "\r\n\r\n"))
            let head = String(decoding: all, as: UTF8.self)[..<end.lowerBound]
            #expect(head.hasPrefix("HTTP/1.1 101 ") && head.contains("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="))
            answer.withLock { $0 = Array(all.dropFirst(head.utf8.count + 4)) }
        }
        return answer.withLock { $0 }
    }

    private static let goodbye: [UInt8] = [0x88, 2, 3, 0xE8]

    @Test func messagesComeBack() throws {
        let long = [UInt8](repeating: 7, count: 300)
        let longer = [UInt8](repeating: 8, count: 70_000)
        let frames =
            Self.text("hello") + Self.frame(2, long) + Self.frame(2, longer) + Self.frame(9, [5])
            + Self.frame(1, Array("in ".utf8), isLast: false) + Self.frame(9, [6])
            + Self.frame(0, Array("parts".utf8)) + Self.frame(8, [3, 0xE8])
        let expected: [UInt8] =
            [0x81, 5] + Array("hello".utf8) + [0x82, 126, 1, 44] + long + [0x82, 127, 0, 0, 0, 0, 0, 1, 0x11, 0x70]
            + longer + [0x8A, 1, 5] + [0x8A, 1, 6] + [0x81, 8] + Array("in parts".utf8) + Self.goodbye
        #expect(try answer(to: frames) == expected)
    }

    /// What breaks the protocol, and the code that says so.
    private static let broken: [([UInt8], UInt16)] = [
        ([0x81, 1, 65], 1002),  // not masked
        ([0xC1, 0x80, 0, 0, 0, 0], 1002),  // a reserved bit
        (frame(3, []), 1002), (frame(11, []), 1002),  // unknown kinds
        (frame(0, [65]), 1002),  // nothing to continue
        (frame(1, [65], isLast: false) + frame(1, [65]), 1002),  // a message within another
        (frame(9, [UInt8](repeating: 0, count: 126)), 1002), (frame(9, [1], isLast: false), 1002),  // control frames
        (frame(1, [0xFF]), 1007), (frame(8, [3, 0xE8, 0xFF]), 1007),  // not UTF-8
        (frame(8, [3]), 1002), (frame(8, [3, 0xED]), 1002), (frame(8, [0, 1]), 1002),  // codes
        ([0x82, 0xFF, 0x7F, 255, 255, 255, 255, 255, 255, 255], 1009),  // absurd sizes
        ([0x82, 0xFF, 255, 255, 255, 255, 255, 255, 255, 255], 1009),
        (frame(2, [UInt8](repeating: 1, count: 100_001)), 1009),
        (
            frame(2, [UInt8](repeating: 1, count: 60_000), isLast: false)
                + frame(0, [UInt8](repeating: 1, count: 60_000)), 1009
        ),
    ]

    @Test(arguments: broken.indices) func brokenFramesEndIt(_ number: Int) throws {
        let (frames, code) = Self.broken[number]
        let answer = try answer(to: frames)
        #expect(answer.first == 0x88 && answer.count > 3)
        #expect(UInt16(answer[2]) << 8 | UInt16(answer[3]) == code)
    }

    @Test func whoDoesNotAskProperlyIsToldHow() throws {
        try serving(HTTPServerConfiguration(), Self.echo) { address in
            let plain = try await ask(address, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(parts(plain).status == 426 && plain.contains("Sec-WebSocket-Version: 13"))
            let old = Self.request.replacingOccurrences(of: "Version: 13", with: "Version: 8")
            let refused = try await ask(address, old + "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(parts(refused).status == 426)
            let key = Self.request.replacingOccurrences(of: "ub25jZQ==", with: "==")
            let bad = try await ask(address, key + "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
            #expect(parts(bad).status == 400)
        }
    }

    @Test func theServersEndIsSaid() throws {
        try EventLoop.run {
            let server = try await HTTPServer.listen(on: .loopback(port: 0))
            let serving = start { try await server.serve(Self.echo) }
            let stream = try await TCPStream.connect(to: server.localAddress)
            let reader = BufferedReader(stream)
            try await stream.write(Self.request)
            _ = try await reader.readUntil(Array("\r\n\r\n".utf8), limit: 1000)
            await server.stopAccepting()
            #expect(Array(try await reader.readExactly(4).prefix(4)) == [0x88, 17, 3, 0xE9])
            try await stream.write(Self.frame(8, [3, 0xE8]))
            await stream.close()
            try await serving.value
        }
    }

    private static let hasClient = FileManager.default.fileExists(
        atPath: "/usr/lib/python3/dist-packages/websockets")

    /// The client is Debian's python3-websockets.
    @Test(.enabled(if: hasClient, "needs Debian's python3-websockets")) func aClientThatOthersWrote() throws {
        let script = """
            import asyncio, sys, websockets
            async def main():
                async with websockets.connect(sys.argv[1], max_size=None) as socket:
                    for message in ["", "text", "å" * 1000, b"", b"bytes", bytes(range(256)) * 300]:
                        await socket.send(message)
                        assert await socket.recv() == message
                    await socket.send(["in", " ", "parts"])
                    assert await socket.recv() == "in parts"
                    await (await socket.ping())
                print("done", socket.close_code)
            asyncio.run(main())
            """
        try serving(HTTPServerConfiguration(), Self.echo) { address in
            let command = ChildProcess.Command("/usr/bin/python3", ["-c", script, "ws://127.0.0.1:\(address.port)/"])
            let result = try await ChildProcess.run(command)
            #expect(result.text == "done 1000\n", "\(String(decoding: result.errors, as: UTF8.self))")
        }
    }
}
