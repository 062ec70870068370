// How connections end: in order, by a reset, by close, by being dropped.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TCPEndTests {
        @Test(arguments: World.allCases) func eachSideEndsByItself(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                try await pair.client.write("question")
                try await pair.client.finishWriting()
                let question = try await pair.server.readToEnd(limit: 100)
                #expect(question == Array("question".utf8))
                // The other direction is still open.
                try await pair.server.write("answer")
                try await pair.server.finishWriting()
                let answer = try await pair.client.readToEnd(limit: 100)
                #expect(answer == Array("answer".utf8))
                let isOver = try await pair.client.read() == nil
                #expect(isOver)
                let error = await ioError { try await pair.client.write("more") }
                #expect(error?.errno == .brokenPipe)
                await pair.close()
            }
        }

        @Test(arguments: World.allCases) func writingToAPeerThatClosedFails(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                await pair.server.close()
                let error = await ioError { while true { try await pair.client.write("anybody there?") } }
                #expect([.brokenPipe, .connectionReset].contains(error?.errno))
                #expect("\(try #require(error))".hasPrefix("write to 127.0.0.1:"))
                #expect("\(try #require(error))".hasSuffix("(the peer closed the connection)"))
                await pair.close()
            }
        }

        @Test(arguments: World.real) func aPeerThatResetsIsToldApart(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let reader = start { try await pair.server.read() == nil }
                await settle()
                pair.client.resetOnClose()
                await pair.client.close()
                #expect(await ioError(of: reader)?.errno == .connectionReset)
                await pair.close()
            }
        }

        @Test(arguments: World.allCases) func aClosedStreamSaysSo(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let peer = try pair.client.peerAddress
                await pair.close()
                await pair.close()
                let errors = [
                    await ioError { try await pair.client.read() == nil },
                    await ioError { try await pair.client.write("late") },
                    await ioError { try await pair.client.finishWriting() },
                ]
                #expect(errors.map { $0?.cause } == [.closed, .closed, .closed])
                let text = "\(peer): it is closed (do not use it after close())"
                #expect(
                    errors.compactMap { $0?.description }
                        == ["read from \(text)", "write to \(text)", "finish writing to \(text)"])
                #expect(await ioError { try await pair.server.write("late") }?.cause == .closed)
                #expect(throws: IOError.self) { try pair.server.localAddress }
            }
        }

        @Test(arguments: World.real) func closingEndsReadersAndWriters(world: World) throws {
            try world.run {
                let pair = try await connectedPair()
                let reader = start { try await pair.client.read() == nil }
                // More than the kernel keeps for a peer that never reads.
                let writer = start { try await pair.client.write([UInt8](repeating: 0, count: 50_000_000)) }
                await settle()
                try await Task.sleep(for: .milliseconds(2))
                await pair.client.close()
                #expect(await ioError(of: reader)?.cause == .closed)
                #expect(await ioError(of: writer)?.cause == .closed)
                #expect(statistics.pendingOperations == 0)
                await pair.close()
            }
        }

        @Test(arguments: World.allCases) func aStreamThatIsDroppedIsClosed(world: World) throws {
            try world.run {
                for round in 0..<10 {
                    let server = try await serverOfDroppedClient(afterReading: round % 2 == 1)
                    let isOver = try await server.read() == nil
                    #expect(isOver)
                    await server.close()
                }
                await settle()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func aListenerThatIsDroppedIsClosed(world: World) throws {
            try world.run {
                let address = try await TCPListener.listen(on: .loopback(port: 0)).localAddress
                await settle()
                try await Task.sleep(for: .microseconds(1))
                #expect(await ioError { try await TCPStream.connect(to: address) }?.errno == .connectionRefused)
            }
        }

        /// Connects, drops the client's end, and answers the server's.
        private func serverOfDroppedClient(afterReading: Bool) async throws -> TCPStream {
            let pair = try await connectedPair()
            if afterReading {
                // The receive stays armed: it must be taken back before the descriptor is closed.
                let client = pair.client
                let reader = start { try await client.readExactly(1) }
                await settle()
                reader.cancel()
                #expect(await ioError(of: reader)?.cause == .cancelled)
            }
            return pair.server
        }
    }
}
