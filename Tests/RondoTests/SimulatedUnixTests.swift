// Unix sockets in many simulated worlds: what their own contract tests, which run in one of them, can't show.

import Glibc
import RondoTesting
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct SimulatedUnixTests {
        private static let path = UnixAddress.path("/tmp/rondo-simulated.sock")

        /// Clients that echo through a path, write while they read, and end in their own time.
        private static func echo(_ simulation: Simulation) async throws {
            simulation.files.makeFolder("/tmp")
            let listener = try await UnixListener.listen(on: path, backlog: 2)
            let serving = start {
                try await listener.serve { stream in
                    while let chunk = try await stream.read() { try await stream.write(chunk) }
                    try await stream.finishWriting()
                }
            }
            try await withThrowingDiscardingTaskGroup { group in
                for index in 0..<6 {
                    group.addTask {
                        let client = try await UnixStream.connect(to: path)
                        let bytes = pattern(index * 3000, from: index)
                        let writing = start {
                            try await client.write(bytes)
                            try await client.finishWriting()
                        }
                        try #require(try await client.readToEnd(limit: .max) == bytes)
                        try await writing.value
                        await client.close()
                    }
                }
            }
            await listener.stopAccepting()
            try await serving.value
            try #require(simulation.openDescriptors == [])
        }

        /// Messages of both kinds, with descriptors, and receivers that give up.
        private static func exchange(_ simulation: Simulation) async throws {
            simulation.files.write("/passed", "on")
            let file = try #require(simulation.files.open("/passed"))
            let listener = try await UnixSeqpacketListener.listen(on: .abstract("hub"))
            let client = try await UnixSeqpacket.connect(to: .abstract("hub"))
            let server = try await listener.accept()
            let (left, right) = try UnixDatagramSocket.pair()
            let sending = start {
                for index in 0..<30 {
                    try await client.send(pattern(index * 7), passing: index % 3 == 0 ? [file] : [])
                    try await left.send([UInt8(index)])
                }
                try await client.finishSending()
            }
            var next = 0
            while next < 30 {
                let receiving = start { try await server.receive() }
                if next % 4 == 0 { try await Task.sleep(for: .microseconds(50)) }
                if next % 2 == 0 { receiving.cancel() }
                guard let message = try? await receiving.value else { continue }
                try #require(message.bytes == pattern(next * 7))
                try #require(message.descriptors.count == (next % 3 == 0 ? 1 : 0))
                try #require(try await right.receive().bytes == [UInt8(next)])
                next += 1
            }
            try #require(try await server.receive() == nil)
            try await sending.value
            for each in [client, server] { await each.close() }
            for each in [left, right] { await each.close() }
            await listener.close()
            try #require(simulation.openDescriptors == ["the file /passed"])
            simulation.files.close(file)
        }

        @Test func connectionsEchoInEveryWorld() throws {
            try Simulation.explore(seeds: 0..<40) { try await Self.echo($0) }
            var narrow = SimulationOptions()
            narrow.connectionCapacity = 100
            narrow.partialSendOdds = 2
            try Simulation.explore(seeds: 0..<20, options: narrow) { try await Self.echo($0) }
        }

        @Test func messagesArriveInEveryWorld() throws {
            try Simulation.explore(seeds: 0..<100) { try await Self.exchange($0) }
        }

        @Test func theSeedDecidesAll() throws {
            let digests = try (UInt64(0)..<5).map { seed in
                try Simulation.verifyReplay(seed: seed) { try await Self.echo($0) }
                try Simulation.verifyReplay(seed: seed) { try await Self.exchange($0) }
                return try Simulation.run(seed: seed) { simulation in
                    try await Self.echo(simulation)
                    return simulation.digest
                }
            }
            #expect(Set(digests).count == 5)
        }

        /// What the seed may choose happens in some worlds.
        @Test func aFullQueueSaysSoOrLetsWait() throws {
            var answers: [Int32: Int] = [:]
            for seed in 0..<40 {
                let answer = try Simulation.run(seed: UInt64(seed)) { simulation in
                    simulation.files.makeFolder("/tmp")
                    let listener = try await UnixListener.listen(on: Self.path, backlog: 0)
                    let client = try await UnixStream.connect(to: Self.path)
                    let socket = try loop.driver.openSocket(.unixStream)
                    let name = UnsafeMutableRawBufferPointer.allocate(byteCount: 128, alignment: 8)
                    defer { unsafe name.deallocate() }
                    let bytes = Self.path.socketName.bytes
                    unsafe name.copyBytes(from: bytes)
                    let address = unsafe UnsafePointer(name.baseAddress!.assumingMemoryBound(to: sockaddr.self))
                    let accepting = start {
                        try await Task.sleep(for: .milliseconds(1))
                        return try await listener.accept()
                    }
                    let answer = await unsafe loop.perform(
                        .connectNamed(socket, address, length: socklen_t(bytes.count)))
                    await client.close()
                    try await accepting.value.close()
                    _ = await unsafe loop.perform(.close(socket))
                    await listener.close()
                    return answer
                }
                answers[answer, default: 0] += 1
            }
            #expect(Set(answers.keys) == [0, -EAGAIN])
        }

        /// The machine's files are not touched, and the simulation's are as in a real one.
        @Test func theFileIsTheSimulationsOwn() throws {
            try Simulation.explore(seeds: 0..<5) { simulation in
                simulation.files.makeFolder("/tmp")
                let listener = try await UnixListener.listen(on: Self.path, permissions: .ownerReadWrite)
                #expect(unsafe access("/tmp/rondo-simulated.sock", F_OK) == -1)
                #expect(simulation.files.list("/tmp") == ["rondo-simulated.sock"])
                #expect(simulation.openDescriptors == ["the Unix stream listening at /tmp/rondo-simulated.sock"])
                await listener.close()
                #expect(simulation.files.list("/tmp") == [])
            }
        }

        /// Faults that a test asks for.
        @Test func connectionsAreReset() throws {
            try Simulation.explore(seeds: 0..<20) { simulation in
                let listener = try await UnixListener.listen(on: .abstract("a"))
                let other = try await UnixListener.listen(on: .abstract("b"))
                let client = try await UnixStream.connect(to: listener.localAddress)
                let server = try await listener.accept()
                let bystander = try await UnixStream.connect(to: other.localAddress)
                try await server.write("before")
                simulation.network.resetConnections(to: .abstract("a"))
                try #require(try await client.readExactly(6) == Array("before".utf8))
                for stream in [client, server] {
                    try #require(await ioError { try await stream.readExactly(1) }?.errno == .connectionReset)
                    try #require(await ioError { try await stream.write("x") }?.errno == .brokenPipe)
                    await stream.close()
                }
                try await bystander.write("untouched")
                let spared = try await other.accept()
                try #require(try await spared.readExactly(9) == Array("untouched".utf8))
                for stream in [bystander, spared] { await stream.close() }
                for each in [listener, other] { await each.close() }
            }
        }

        /// Pipes of any sizes, whose ends give up now and then.
        @Test func pipesInEveryWorld() throws {
            let body: @Sendable (Simulation) async throws -> Void = { simulation in
                let (reader, writer) = try PipeReader.makePipe()
                let bytes = pattern(300_000)
                let writing = start {
                    try await writer.write(bytes)
                    await writer.close()
                }
                var received: [UInt8] = []
                var round = 0
                while received.count < bytes.count {
                    round += 1
                    let limit = 1 + round * 997 % 20_000
                    let reading = start { try await reader.read(upTo: limit) }
                    if round % 3 == 0 { try await Task.sleep(for: .microseconds(30)) }
                    if round % 2 == 0 { reading.cancel() }
                    guard let part = try? await reading.value else { continue }
                    try #require(part.count <= limit)
                    received += part
                }
                try #require(received == bytes)
                try #require(try await reader.read() == nil)
                try await writing.value
                await reader.close()
                try #require(simulation.openDescriptors == [])
            }
            try Simulation.explore(seeds: 0..<30, body)
            for seed in 0..<3 as Range<UInt64> { try Simulation.verifyReplay(seed: seed, body) }
        }

        /// What a program shares with its surroundings is a file or a pipe of the simulation.
        @Test func sharedFilesAreReadFromWhereTheyAre() throws {
            try Simulation.explore(seeds: 0..<20) { simulation in
                simulation.files.write("/f", "0123456789")
                let file = try #require(simulation.files.open("/f"))
                let first = try PipeReader.sharing(file, name: "f")
                var head: [UInt8] = []
                while head.count < 4 { head += try await first.read(upTo: 4 - head.count) ?? [] }
                await first.close()
                let second = try PipeReader.sharing(file, name: "f")
                try #require(try await head + second.readToEnd() == Array("0123456789".utf8))
                await second.close()
                simulation.files.close(file)
                try #require(simulation.openDescriptors == [])
                let error = await ioError { try PipeReader.sharing(.standardInput, name: "standard input") }
                try #require(error?.description.hasSuffix("a simulation has no streams of the process") == true)
            }
        }

        /// A passed descriptor stands for the same open file; closing one leaves the other.
        @Test func passedDescriptorsStandForTheSameObject() throws {
            try Simulation.explore(seeds: 0..<20) { simulation in
                simulation.files.write("/f", "0123456789")
                let file = try #require(simulation.files.open("/f"))
                let (one, other) = try UnixStream.pair()
                try await one.write([1], passing: [file])
                simulation.files.close(file)
                // Under way it is nobody's number, and yet open.
                try #require(simulation.openDescriptors.count == 2)
                let message = try await other.readMessage()
                let received = try #require(message?.descriptors.first?.take())
                try #require(simulation.openDescriptors.count { $0 == "the file /f" } == 1)
                simulation.files.close(received)
                // One that is never received is closed with the socket that it waits at.
                let second = try #require(simulation.files.open("/f"))
                try await one.write([2], passing: [second])
                simulation.files.close(second)
                for each in [one, other] { await each.close() }
                try #require(simulation.openDescriptors == [])
            }
        }
    }
}
