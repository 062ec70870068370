// Unix-domain sockets: addresses, streams, their files, credentials.

import CTestSupport
import Glibc
import SystemPackage
import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct UnixSocketTests {
        /// An abstract name that no other test has.
        private func freshName(_ world: World, line: Int = #line) -> UnixAddress {
            .abstract("rondo-test-\(getpid())-\(world)-\(line)")
        }

        // MARK: Addresses

        @Test func addressesAreWrittenAsPeopleWriteThem() {
            #expect(UnixAddress.path("/run/app.sock").description == "/run/app.sock")
            #expect(UnixAddress.abstract("app").description == "@app")
            #expect(UnixAddress.abstract(bytes: [0x61, 0, 0xff]).description == "@a\\x00\\xff")
            #expect(UnixAddress.unnamed.description == "(unnamed)")
            #expect(UnixAddress.path("/run/app.sock").path == "/run/app.sock")
            #expect(UnixAddress.abstract("app").abstractName == Array("app".utf8))
            #expect(UnixAddress.unnamed.isUnnamed && UnixAddress.unnamed.path == nil)
            let all: [UnixAddress] = [.path("/a"), .path("b/c"), .abstract("/a"), .abstract(bytes: [0, 1]), .unnamed]
            for address in all { #expect(UnixAddress(address.socketName) == address) }
            #expect(Set(all).count == 5)
        }

        @Test(arguments: World.allCases) func addressesThatCannotBeSaySo(world: World) throws {
            try world.runInFolder { folder in
                let path = "/tmp/" + String(repeating: "x", count: 103)
                let error = await ioError { try await UnixListener.listen(on: .path(FilePath(path))) }
                let text = "listen on \(path): the path has 108 bytes, and that of a socket at most 107"
                #expect(error?.description == text)
                let other = await ioError {
                    try await UnixStream.connect(to: .abstract(String(repeating: "x", count: 108)))
                }
                #expect(
                    other?.description.hasSuffix("the name has 108 bytes, and that of a socket at most 107") == true)
                #expect(
                    await ioError { try await UnixStream.connect(to: .path("")) }?.description.contains("empty") == true
                )
                #expect(
                    await ioError { try await UnixStream.connect(to: .unnamed) }?.description.contains("no name")
                        == true)
                // The longest that can be.
                let longest = folder.string + "/" + String(repeating: "y", count: 106 - folder.string.utf8.count)
                let listener = try await UnixListener.listen(on: .path(FilePath(longest)))
                let client = try await UnixStream.connect(to: listener.localAddress)
                #expect(try client.peerAddress == .path(FilePath(longest)))
                let name = UnixAddress.abstract(bytes: Array(repeating: 7, count: 107))
                let second = try await UnixListener.listen(on: name)
                let other2 = try await UnixStream.connect(to: name)
                #expect(try other2.peerAddress == name)
                for stream in [client, other2] { await stream.close() }
                for each in [listener, second] { await each.close() }
            }
        }

        // MARK: Streams

        @Test(arguments: World.allCases) func bytesGoBothWays(world: World) throws {
            try world.runInFolder { folder in
                for address in [UnixAddress.path(FilePath("\(folder)/a.sock")), freshName(world)] {
                    let listener = try await UnixListener.listen(on: address)
                    #expect(listener.localAddress == address)
                    let serving = start {
                        try await listener.serve { stream in
                            while let chunk = try await stream.read() { try await stream.write(chunk) }
                        }
                    }
                    let clients = try await withThrowingTaskGroup(of: UnixStream.self) { group in
                        for _ in 0..<20 { group.addTask { try await UnixStream.connect(to: address) } }
                        return try await group.reduce(into: []) { $0.append($1) }
                    }
                    for (index, client) in clients.enumerated() {
                        #expect(try client.peerAddress == address)
                        #expect(try client.localAddress == .unnamed)
                        let bytes = pattern(index * 5000, from: index)
                        let writing = start {
                            try await client.write(bytes)
                            try await client.finishWriting()
                        }
                        let answer = try await client.readToEnd(limit: .max)
                        #expect(answer == bytes)
                        try await writing.value
                        await client.close()
                    }
                    serving.cancel()
                    #expect(await ioError(of: serving)?.cause == .cancelled)
                    await listener.close()
                }
                #expect(try await names(in: folder) == [])
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func aPairIsConnected(world: World) throws {
            try world.run {
                let (one, other) = try UnixStream.pair()
                try await one.write("there")
                #expect(try await other.readExactly(5) == Array("there".utf8))
                try await other.write("back")
                #expect(try await one.readExactly(4) == Array("back".utf8))
                #expect(try one.peerAddress == .unnamed)
                await one.close()
                let isOver = try await other.read() == nil
                #expect(isOver)
                let error = await ioError { try await other.write("late") }
                #expect(
                    error?.description
                        == "write to the other end of a pair: Broken pipe (the peer closed the connection)")
                await other.close()
                let closed = await ioError { try await other.readExactly(1) }
                #expect(closed?.cause == .closed)
                #expect(await ioError { try other.peerCredentials }?.cause == .closed)
            }
        }

        @Test(arguments: World.allCases) func nobodyIsThere(world: World) throws {
            try world.runInFolder { folder in
                let path = "\(folder)/none.sock"
                let missing = await ioError { try await UnixStream.connect(to: .path(FilePath(path))) }
                #expect(missing?.description == "connect to \(path): No such file or directory (check the path)")
                let refused = await ioError { try await UnixStream.connect(to: freshName(world)) }
                #expect(refused?.description.contains(": Connection refused (is the server running?)") == true)
                #expect(refused?.subject.hasPrefix("@rondo-test-") == true)
            }
        }

        @Test(arguments: World.allCases) func whatIsNoListenerRefuses(world: World) throws {
            try world.runInFolder { folder in
                let path = folder.appending("place")
                try await File.write([1], to: path)
                let file = await ioError { try await UnixStream.connect(to: .path(path)) }
                #expect(file?.errno == .connectionRefused)
                let below = path.appending("below")
                let error = await ioError { try await UnixStream.connect(to: .path(below)) }
                #expect(error?.errno == .notDirectory)
                #expect(error?.subject == below.string)
                let taken = await ioError { try await UnixListener.listen(on: .path(path)) }
                #expect(taken?.errno == .addressInUse)
                try await Files.remove(path)
                try leaveStaleSocket(path.string, .unixStream)
                let stale = await ioError { try await UnixStream.connect(to: .path(path)) }
                #expect(stale?.errno == .connectionRefused)
                try await Files.remove(path)
                let other = try await UnixSeqpacketListener.listen(on: .path(path))
                let mistaken = await ioError { try await UnixStream.connect(to: .path(path)) }
                #expect(mistaken?.errno == Errno(rawValue: EPROTOTYPE))
                await other.close()
            }
        }

        /// A socket is where its file is, by whatever name.
        @Test(arguments: World.allCases) func aSocketMovesWithItsFile(world: World) throws {
            try world.runInFolder { folder in
                let (path, moved) = (folder.appending("a"), folder.appending("b"))
                let listener = try await UnixListener.listen(on: .path(path))
                try await Files.rename(path, to: moved)
                #expect(
                    await ioError { try await UnixStream.connect(to: .path(path)) }?.errno == .noSuchFileOrDirectory)
                try await Files.link(moved, to: folder.appending("c"))
                try await Files.makeSymbolicLink(at: folder.appending("d"), to: "c")
                #expect(try await FileStatus.of(moved).kind == .socket)
                #expect(await ioError { try await File.open(moved) }?.errno == Errno(rawValue: ENXIO))
                for name in ["b", "c", "d"] {
                    let client = try await UnixStream.connect(to: .path(folder.appending(name)))
                    let server = try await listener.accept()
                    #expect(try client.peerAddress == .path(path), "the name that it was bound to")
                    #expect(try server.localAddress == .path(path) && server.peerAddress == .unnamed)
                    await client.close()
                    await server.close()
                }
                await listener.close()
                #expect(try await names(in: folder) == ["b", "c", "d"], "its own name is gone")
            }
        }

        // MARK: Ends

        /// Who closes with bytes unread breaks the connection. What he had sent still arrives.
        @Test(arguments: World.allCases) func closingWithUnreadBytesIsAReset(world: World) throws {
            try world.run {
                let (one, other) = try UnixStream.pair()
                try await one.write("last")
                try await other.write("unread")
                await one.close()
                let late = await ioError { try await other.write("late") }
                #expect(late?.errno == .brokenPipe)
                #expect(try await other.readExactly(4) == Array("last".utf8))
                #expect(await ioError { try await other.readExactly(1) }?.errno == .connectionReset)
                await other.close()
                // Connections that nobody has accepted.
                let address = freshName(world)
                let listener = try await UnixListener.listen(on: address)
                let client = try await UnixStream.connect(to: address)
                await listener.close()
                #expect(await ioError { try await client.readExactly(1) }?.errno == .connectionReset)
                await client.close()
                #expect(await ioError { try await UnixStream.connect(to: address) }?.errno == .connectionRefused)
            }
        }

        @Test(arguments: World.allCases) func eachDirectionEndsByItself(world: World) throws {
            try world.run {
                let (one, other) = try UnixStream.pair()
                try await one.write("last")
                try await one.finishWriting()
                #expect(await ioError { try await one.write("more") }?.errno == .brokenPipe)
                #expect(try await other.readToEnd(limit: 10) == Array("last".utf8))
                try await other.write(pattern(50_000))
                #expect(try await one.readExactly(50_000) == pattern(50_000))
                // A writer without room, whose peer closes.
                let writing = start { try await other.write(pattern(10_000_000)) }
                _ = try await one.readExactly(1)
                await one.close()
                let broken = await ioError(of: writing)
                #expect([.connectionReset, .brokenPipe].contains(broken?.errno))
                await other.close()
                // Ended at once: the peer finds the end.
                let (left, right) = try UnixStream.pair()
                await left.abort()
                #expect(try await right.readToEnd(limit: 1) == [])
                await right.close()
            }
        }

        /// A connect that finds the queue full waits for room, and can be cancelled meanwhile.
        @Test(arguments: World.allCases) func aFullQueueIsWaitedFor(world: World) throws {
            try world.run {
                let address = freshName(world)
                let listener = try await UnixListener.listen(on: address, backlog: 0)
                let first = try await UnixStream.connect(to: address)
                let second = start { try await UnixStream.connect(to: address) }
                let third = start { try await UnixStream.connect(to: address) }
                for _ in 0..<20 { try await Task.sleep(for: .microseconds(100)) }
                third.cancel()
                #expect(await ioError(of: third)?.cause == .cancelled)
                let accepted = [try await listener.accept(), try await listener.accept()]
                let connected = try await second.value
                for stream in accepted + [first, connected] { await stream.close() }
                await listener.close()
                #expect(statistics.pendingOperations == 0)
            }
        }

        @Test(arguments: World.allCases) func errorsNameTheListenerOfAClient(world: World) throws {
            try world.run {
                let address = freshName(world)
                let listener = try await UnixListener.listen(on: address)
                let client = try await UnixStream.connect(to: address)
                let server = try await listener.accept()
                let reading = start { try await server.readExactly(1) }
                await settle()
                reading.cancel()
                #expect(
                    await ioError(of: reading)?.description
                        == "read from a client of \(address): the task was cancelled")
                await listener.close()
                let error = await ioError { try await listener.accept() }
                #expect(error?.description == "accept on \(address): it is closed (do not use it after close())")
                await client.close()
                await server.close()
            }
        }

        // MARK: Files

        @Test(arguments: World.allCases) func aFileThatIsThereIsReplacedOnlyWhenAsked(world: World) throws {
            try world.runInFolder { folder in
                let path = "\(folder)/app.sock"
                let address = UnixAddress.path(FilePath(path))
                try leaveStaleSocket(path, .unixStream)
                let error = await ioError { try await UnixListener.listen(on: address) }
                let words =
                    "Address already in use (another program has it, or has left its file behind: see replacingStale)"
                #expect(error?.description == "listen on \(path): \(words)")
                #expect(try await names(in: folder) == ["app.sock"])
                let listener = try await UnixListener.listen(on: address, replacingStale: true)
                // Somebody listens now: it is not stale.
                let second = await ioError { try await UnixListener.listen(on: address, replacingStale: true) }
                #expect(second?.errno == .addressInUse)
                let client = try await UnixStream.connect(to: address)
                await client.close()
                await listener.close()
                #expect(try await names(in: folder) == [])
                // What is no socket is never replaced.
                try await File.write([1], to: FilePath(path))
                let third = await ioError { try await UnixListener.listen(on: address, replacingStale: true) }
                #expect(third?.errno == .addressInUse)
                #expect(try await File.contents(of: FilePath(path)) == [1])
                let datagram = await ioError { try await UnixDatagramSocket.bind(to: address, replacingStale: true) }
                #expect(datagram?.errno == .addressInUse)
            }
        }

        @Test(arguments: World.allCases) func aFileThatIsAnothersByNowStays(world: World) throws {
            try world.runInFolder { folder in
                let path = "\(folder)/app.sock"
                let listener = try await UnixListener.listen(on: .path(FilePath(path)))
                try await Files.remove(FilePath(path))
                let other = try await UnixDatagramSocket.bind(to: .path(FilePath(path)))
                await listener.close()
                #expect(try await names(in: folder) == ["app.sock"])
                await other.close()
                #expect(try await names(in: folder) == [])
                // Gone already: closing does not mind.
                let last = try await UnixSeqpacketListener.listen(on: .path(FilePath(path)))
                try await Files.remove(FilePath(path))
                await last.close()
            }
        }

        @Test(arguments: World.allCases) func whatIsDroppedIsClosedWithItsFile(world: World) throws {
            try world.runInFolder { folder in
                _ = try await UnixListener.listen(on: .path(FilePath("\(folder)/a")))
                _ = try await UnixDatagramSocket.bind(to: .path(FilePath("\(folder)/b")))
                _ = try await UnixSeqpacketListener.listen(on: .path(FilePath("\(folder)/c")))
                _ = try UnixStream.pair()
                _ = try UnixSeqpacket.pair()
                while try await !names(in: folder).isEmpty { try await Task.sleep(for: .microseconds(100)) }
            }
        }

        @Test(arguments: World.allCases) func permissionsAreThoseThatWereAskedFor(world: World) throws {
            try world.runInFolder { folder in
                let path = FilePath("\(folder)/app.sock")
                let listener = try await UnixListener.listen(on: .path(path), permissions: [.ownerReadWrite])
                #expect(try await FileStatus.of(path).permissions == [.ownerReadWrite])
                await listener.close()
                let none = FilePath("\(folder)/none/app.sock")
                #expect(
                    await ioError { try await UnixListener.listen(on: .path(none)) }?.errno == .noSuchFileOrDirectory)
            }
        }

        /// Makes a socket file that nobody has open.
        private func leaveStaleSocket(_ path: String, _ kind: SocketKind) throws {
            let descriptor = try loop.driver.openSocket(kind)
            try loop.driver.bind(descriptor, to: UnixAddress.path(FilePath(path)).socketName)
            loop.driver.closeNow(descriptor)
        }

        /// The names in a folder of this world.
        private func names(in folder: FilePath) async throws -> [String] {
            try await Directory.entries(of: folder).map(\.name)
        }

        // MARK: Credentials

        @Test(arguments: World.allCases) func credentialsAreThoseOfThePeer(world: World) throws {
            try world.run {
                let own = UnixCredentials(processID: getpid(), userID: geteuid(), groupID: getegid())
                let (one, other) = try UnixStream.pair()
                #expect(try one.peerCredentials == own)
                let (left, right) = try UnixSeqpacket.pair()
                #expect(try left.peerCredentials == own)
                for stream in [one, other] { await stream.close() }
                for each in [left, right] { await each.close() }
                // A simulation has no other process.
                if world == .simulated { return }

                // Another process, of another user if we may: it connects, and waits for the end.
                let name = "rondo-credentials-\(getpid())-\(world)"
                let listener = try await UnixListener.listen(on: .abstract(name))
                let child = unsafe test_connect_as(name, geteuid() == 0 ? 4711 : UInt32.max)
                try #require(child > 0)
                let server = try await listener.accept()
                let expected =
                    geteuid() == 0
                    ? UnixCredentials(processID: child, userID: 4711, groupID: 4711)
                    : UnixCredentials(processID: child, userID: geteuid(), groupID: getegid())
                #expect(try server.peerCredentials == expected)
                await server.close()
                var status: Int32 = 0
                while unsafe waitpid(child, &status, 0) < 0, errno == EINTR {}
                #expect(status == 0)
                await listener.close()
            }
        }

        // MARK: No descriptor left

        /// In a process of its own, as for TCP: the listener pauses, says so, does not spin, and goes on.
        @Test(arguments: World.allCases) func aShortageOfDescriptorsPasses(world: World) async throws {
            await #expect(processExitsWith: .success) { [world = world as World] in
                let log = Journal<String>()
                let configure: (inout LoopConfiguration) -> Void = { $0.logger = .recording(in: log) }
                try world.run(configure, simulatedDescriptors: 64) {
                    let address = UnixAddress.abstract("rondo-shortage-\(getpid())")
                    let listener = try await UnixListener.listen(on: address)
                    var limit = rlimit(rlim_cur: 64, rlim_max: 64)
                    if world != .simulated {
                        unsafe #expect(setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0)
                    }
                    var clients: [UnixStream] = []
                    let error = await ioError {
                        while true { clients.append(try await UnixStream.connect(to: address)) }
                    }
                    #expect(error?.errno == .tooManyOpenFiles && clients.count > 10)
                    // Somebody else may give a descriptor back: one connection would not prove a shortage.
                    let accepting = start {
                        var servers: [UnixStream] = []
                        while servers.count < 3 { servers.append(try await listener.accept()) }
                        return servers
                    }
                    let turns = statistics.turns
                    while await listener.shortages < 2 { try await Task.sleep(for: .milliseconds(10)) }
                    #expect(statistics.turns - turns < 200, "the loop spins")
                    for _ in 0..<6 { await clients.removeLast().close() }
                    let servers = try await accepting.value
                    #expect(log.all.contains { $0.contains("accept on \(address): Too many open files") })
                    for stream in clients + servers { await stream.close() }
                    await listener.close()
                }
            }
        }
    }
}
