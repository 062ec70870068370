// Accepting and serving.

import Glibc
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct TCPListenerTests {
        private struct Failure: Error {}

        /// The accept stays armed: what arrives at once is there after one turn, and nobody is refused.
        @Test(arguments: World.allCases) func manyConnectionsWaitToBeAccepted(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                var clients: [TCPStream] = []
                for _ in 0..<300 { clients.append(try await TCPStream.connect(to: listener.localAddress)) }
                let turns = statistics.turns
                var servers: [TCPStream] = []
                for _ in 0..<300 { servers.append(try await listener.accept()) }
                #expect(statistics.turns - turns < 100)
                for stream in clients + servers { await stream.close() }
                await listener.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func aClosedListenerSaysSo(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let accepting = start { try await listener.accept() }
                await settle()
                let second = await ioError { try await listener.accept() }
                #expect(second?.cause == .busy)
                await listener.close()
                await listener.close()
                #expect(await ioError(of: accepting)?.cause == .closed)
                let error = await ioError { try await listener.accept() }
                let text = "accept on \(listener.localAddress): it is closed (do not use it after close())"
                #expect(error?.description == text)
                #expect(statistics.pendingOperations == 0)
                try await Task.sleep(for: .microseconds(1))
            }
        }

        /// Connections that nobody took are closed with their listener.
        @Test(arguments: World.allCases) func closingClosesWhatNobodyTook(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let first = try await TCPStream.connect(to: listener.localAddress)
                let server = try await listener.accept()
                let others = [
                    try await TCPStream.connect(to: listener.localAddress),
                    try await TCPStream.connect(to: listener.localAddress),
                ]
                try await Task.sleep(for: .milliseconds(1))
                await listener.close()
                for client in others {
                    // The end, or a reset.
                    if let isOver = try? await client.read() == nil { #expect(isOver) }
                    await client.close()
                }
                await Pair(client: first, server: server).close()
            }
        }

        // MARK: Serving

        @Test(arguments: World.allCases) func cancellingEndsAllHandlersAndWaitsForThem(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let (begun, ended) = (Counter(), Counter())
                let serving = start {
                    try await listener.serve { stream in
                        begun.add()
                        _ = try? await stream.readExactly(1)
                        #expect(Task.isCancelled)
                        for _ in 0..<10 { await EventLoop.yield() }
                        ended.add()
                    }
                }
                var clients: [TCPStream] = []
                for _ in 0..<50 { clients.append(try await TCPStream.connect(to: listener.localAddress)) }
                while begun.value < 50 { try await Task.sleep(for: .microseconds(100)) }
                serving.cancel()
                #expect(await ioError(of: serving)?.cause == .cancelled)
                #expect(ended.value == 50)
                for client in clients {
                    let isOver = try await client.read() == nil
                    #expect(isOver)
                    await client.close()
                }
                await listener.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func anErrorEndsItsConnectionOnly(world: World) throws {
            let log = Journal<String>()
            try world.run {
                $0.logger = .recording(in: log)
            } _: {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let serving = start {
                    try await listener.serve { stream in
                        while let chunk = try await stream.read() {
                            if chunk.count == 3 { throw Failure() }
                            try await stream.write(chunk)
                        }
                    }
                }
                let (good, bad) = (
                    try await TCPStream.connect(to: listener.localAddress),
                    try await TCPStream.connect(to: listener.localAddress)
                )
                try await bad.write("bad")
                let isOver = try await bad.read() == nil
                #expect(isOver)
                try await good.write("good")
                let answer = try await good.readExactly(4)
                #expect(answer == Array("good".utf8))
                serving.cancel()
                _ = await serving.result
                await Pair(client: good, server: bad).close()
                await listener.close()
            }
            #expect(log.all.contains { $0.contains("a connection ended: Failure()") })
        }

        @Test(arguments: World.allCases) func closingTheListenerEndsServing(world: World) throws {
            try world.run {
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let serving = start { try await listener.serve { _ in } }
                await settle()
                await listener.close()
                #expect(await ioError(of: serving)?.cause == .closed)
            }
        }

        @Test(arguments: World.allCases) func connectionsComeAndGoInAnyOrder(world: World) throws {
            try world.run {
                let count = connectionsThatFit(2000)
                let listener = try await TCPListener.listen(on: .loopback(port: 0))
                let active = Counter()
                let serving = start {
                    try await listener.serve { stream in
                        active.add()
                        defer { active.add(-1) }
                        while let chunk = try await stream.read() { try await stream.write(chunk) }
                    }
                }
                var random = FixedRandom(seed: 7)
                var open: [TCPStream] = []
                var (opened, most) = (0, 0)
                while opened < count || !open.isEmpty {
                    if opened < count, open.isEmpty || random.next() % 3 != 0 {
                        open.append(try await TCPStream.connect(to: listener.localAddress))
                        opened += 1
                    } else {
                        let stream = open.remove(at: Int(random.next() % UInt64(open.count)))
                        try await stream.write("bye")
                        let answer = try await stream.readExactly(3)
                        #expect(answer == Array("bye".utf8))
                        await stream.close()
                    }
                    most = max(most, open.count)
                }
                #expect(most > count / 4)
                while active.value > 0 { try await Task.sleep(for: .microseconds(100)) }
                serving.cancel()
                #expect(await ioError(of: serving)?.cause == .cancelled)
                await listener.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        // MARK: No descriptor left

        /// In a process of its own: no descriptor is left to accept with. The listener pauses, says so, does not spin,
        /// and goes on.
        @Test(arguments: World.real) func aShortageOfDescriptorsPasses(world: World) async throws {
            await #expect(processExitsWith: .success) { [world = world as World] in
                let log = Journal<String>()
                try world.run {
                    $0.logger = .recording(in: log)
                } _: {
                    let listener = try await TCPListener.listen(on: .loopback(port: 0))
                    var (clients, error) = await useUpDescriptors(connectingTo: listener)
                    #expect(error.hint == "raise the limit of open files: ulimit -n")

                    let accepting = start {
                        var servers: [TCPStream] = []
                        while servers.count < 3 { servers.append(try await listener.accept()) }
                        return servers
                    }
                    let turns = statistics.turns
                    while await listener.shortages < 3 { try await Task.sleep(for: .milliseconds(10)) }
                    #expect(statistics.turns - turns < 200, "the loop spins")
                    for _ in 0..<4 { await clients.removeLast().close() }
                    let servers = try await accepting.value
                    for (server, client) in zip(servers, clients) {
                        #expect(try server.peerAddress == client.localAddress)
                    }
                    for stream in clients + servers { await stream.close() }
                    await listener.close()
                }
                let warnings = log.all.filter { $0.contains("Too many open files") }
                #expect(warnings.count == 1)
                #expect(warnings.first?.hasPrefix("warning: accept on 127.0.0.1:") == true)
                #expect(warnings.first?.contains("trying again every 50 ms") == true)
            }
        }

        /// A loop that ends while a listener waits for descriptors loses no task.
        @Test(arguments: World.real) func aLoopEndsInAShortage(world: World) async throws {
            await #expect(processExitsWith: .success) { [world = world as World] in
                let causes = Journal<IOError.Cause?>()
                try world.run {
                    let listener = try await TCPListener.listen(on: .loopback(port: 0))
                    let (clients, _) = await useUpDescriptors(connectingTo: listener)
                    start {
                        var error: IOError?
                        while error == nil { error = await ioError { try await listener.accept() } }
                        causes.add(error?.cause)
                        await listener.close()
                    }
                    while await listener.shortages < 1 { try await Task.sleep(for: .milliseconds(1)) }
                    for client in clients { await client.close() }
                }
                #expect(causes.all == [.cancelled])
            }
        }
    }
}

/// Connects until the process has no descriptor left. That it has to find out: other threads of the test library may
/// open some, too.
private func useUpDescriptors(connectingTo listener: TCPListener) async -> (clients: [TCPStream], error: IOError) {
    let highest = names(in: "/proc/self/fd").compactMap { Int($0) }.max()!
    var limit = rlimit()
    unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    limit.rlim_cur = rlim_t(highest + 16)
    unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    var clients: [TCPStream] = []
    while true {
        do throws(IOError) {
            clients.append(try await TCPStream.connect(to: listener.localAddress))
        } catch {
            return (clients, error)
        }
    }
}

/// How many of `wanted` connections, both ends in this process, its limit of descriptors allows.
private func connectionsThatFit(_ wanted: Int) -> Int {
    var limit = rlimit()
    unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
    return min(wanted, Int(limit.rlim_cur) / 3)
}

/// The same numbers in every run (SplitMix64).
struct FixedRandom: RandomNumberGenerator {
    private var state: UInt64
    init(seed: UInt64) { state = seed }
    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ (word >> 30)) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ (word >> 27)) &* 0x94d0_49bb_1331_11eb
        return word ^ (word >> 31)
    }
}
