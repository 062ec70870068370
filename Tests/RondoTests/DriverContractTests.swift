// What every driver promises, one body per promise, held against every world. Both ends of each connection are the
// driver's own, so that a world without a kernel can be held to the same.

import CRondo
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import Rondo

@Suite("Driver contract", .serialized)
struct DriverContractTests {
    // MARK: Operations in general

    @Test(arguments: DriverWorld.usable)
    func nothingCompletes(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let flights = (0..<5000).map { _ in unsafe harness.start(.nothing) }  // more than any queue holds
        for flight in flights { #expect(try harness.result(of: flight) == 0) }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func unknownIdsAreNotCancelled(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        let old = unsafe harness.start(.nothing)
        #expect(try harness.result(of: old) == 0)
        let receiving = harness.receive(server)
        #expect(receiving.id.slot == old.id.slot, "the slot is used again")
        harness.cancel(old)
        harness.driver.cancel(OperationID(slot: 70_000, generation: 3))
        harness.driver.cancel(OperationID(slot: receiving.id.slot, generation: receiving.id.generation + 1))
        #expect(try harness.result(of: harness.send(client, "hello")) == 5)
        try harness.run { receiving.bytes.count == 5 }
        #expect(receiving.result == nil)
        harness.cancel(receiving)
        harness.cancel(receiving)
        #expect(try harness.result(of: receiving) == -ECANCELED)
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func badDescriptorsAreRefused(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        for bad in [Descriptor(rawValue: -1), Descriptor(rawValue: 1_000_003)] {
            unsafe #expect(try harness.perform(.receive(bad)) == -EBADF)
            unsafe #expect(try harness.perform(.accept(bad)) == -EBADF)
            #expect(try harness.result(of: harness.send(bad, "hello")) == -EBADF)
            #expect(try harness.result(of: harness.connect(bad, to: .loopback(port: 1))) == -EBADF)
            unsafe #expect(try harness.perform(.shutdown(bad, how: Int32(SHUT_WR))) == -EBADF)
            unsafe #expect(try harness.perform(.close(bad)) == -EBADF)
            unsafe #expect(try harness.perform(.synchronize(bad, dataOnly: false)) == -EBADF)
        }
        let file = Descriptor(rawValue: try harness.open("/proc/self/exe", O_RDONLY))
        unsafe #expect(try harness.perform(.receive(file)) == -ENOTSOCK)
        #expect(try harness.result(of: harness.send(file, "hello")) == -ENOTSOCK)
        try harness.close(file)
        harness.finish()
    }

    // MARK: Connections

    @Test(arguments: DriverWorld.usable)
    func acceptsMany(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let listener = try harness.makeListener()
        let address = try harness.driver.localAddress(of: listener)
        let accepting = harness.accept(listener)
        var clients: [Descriptor] = []
        for _ in 0..<3 {
            let sockets = try (0..<60).map { _ in try harness.driver.openSocket(for: address) }
            let connecting = sockets.map { harness.connect($0, to: address) }
            for flight in connecting { #expect(try harness.result(of: flight) == 0) }
            clients += sockets
        }
        try harness.run("180 connections") { accepting.descriptors.count == 180 }
        #expect(accepting.result == nil, "accept goes on")
        let ports = try Set(accepting.descriptors.map { try harness.driver.peerAddress(of: $0).port })
        #expect(try ports == Set(clients.map { try harness.driver.localAddress(of: $0).port }))
        harness.cancel(accepting)
        #expect(try harness.result(of: accepting) == -ECANCELED)
        for descriptor in clients + accepting.descriptors + [listener] { try harness.close(descriptor) }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func acceptIsCancelled(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let listener = try harness.makeListener()
        let address = try harness.driver.localAddress(of: listener)
        // Before it was handed over, then while it waits.
        let never = harness.accept(listener)
        harness.cancel(never)
        #expect(try harness.result(of: never) == -ECANCELED)
        let first = harness.accept(listener)
        harness.settle()
        harness.cancel(first)
        #expect(try harness.result(of: first) == -ECANCELED)
        // Together with connections: none is lost between two accepts.
        let second = harness.accept(listener)
        let clients = try (0..<8).map { _ in try harness.driver.openSocket(for: address) }
        let connecting = clients.map { harness.connect($0, to: address) }
        harness.turn(until: 0)
        harness.cancel(second)
        #expect(try harness.result(of: second) == -ECANCELED)
        for flight in connecting { #expect(try harness.result(of: flight) == 0) }
        let third = harness.accept(listener)
        try harness.run("8 connections") { second.descriptors.count + third.descriptors.count == 8 }
        harness.cancel(third)
        #expect(try harness.result(of: third) == -ECANCELED)
        for descriptor in clients + second.descriptors + third.descriptors + [listener] {
            try harness.close(descriptor)
        }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func connectIsRefused(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        for loopback in Machine.loopbacks {
            let listener = try harness.makeListener(on: loopback)
            let address = try harness.driver.localAddress(of: listener)
            try harness.close(listener)
            let socket = try harness.driver.openSocket(for: address)
            #expect(try harness.result(of: harness.connect(socket, to: address)) == -ECONNREFUSED)
            harness.driver.closeNow(socket)
        }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func connectIsCancelled(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let listener = try harness.makeListener(backlog: 0)
        let address = try harness.driver.localAddress(of: listener)
        // A queue of 0 holds one connection; the next ones get no answer.
        let sockets = try (0..<4).map { _ in try harness.driver.openSocket(for: address) }
        #expect(try harness.result(of: harness.connect(sockets[0], to: address)) == 0)
        let connecting = sockets.dropFirst().map { harness.connect($0, to: address) }
        harness.cancel(connecting[2])  // before it was handed over
        harness.settle()
        for flight in connecting { harness.cancel(flight) }
        for flight in connecting { _ = try harness.result(of: flight) }
        #expect(connecting.last?.result == -ECANCELED)
        #expect(connecting.dropLast().contains { $0.result == -ECANCELED }, "one had to wait")
        #expect(connecting.allSatisfy { [0, -ECANCELED].contains($0.result) })
        for socket in sockets { try harness.close(socket) }
        try harness.close(listener)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func echoes(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        for address in Machine.loopbacks {
            let (client, server) = try harness.makeConnection(on: address)
            let atServer = harness.receive(server)
            let atClient = harness.receive(client)
            var offset = 0
            for round in 1...200 {
                let sending = unsafe harness.send(client, Pattern.bytes(offset..<offset + round))
                offset += round
                #expect(try harness.result(of: sending) == round)
                try harness.run { atServer.bytes.count == offset }
                let answering = unsafe harness.send(server, Pattern.bytes(offset - round..<offset))
                try harness.run { atClient.bytes.count == offset }
                #expect(try harness.result(of: answering) == round)
            }
            #expect(Pattern.continues(at: 0, with: atServer.bytes) && Pattern.continues(at: 0, with: atClient.bytes))
            let empty = unsafe harness.send(client, Pattern.bytes(0..<0))
            #expect(try harness.result(of: empty) == 0, "nothing can be sent")
            for flight in [atServer, atClient] {
                harness.cancel(flight)
                #expect(try harness.result(of: flight) == -ECANCELED)
            }
            try harness.close(client, server)
        }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func streamEnds(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        // Bytes and the end arrive together, while a receive waits and before there is one.
        for isArmedBefore in [true, false] {
            let (client, server) = try harness.makeConnection()
            let early = isArmedBefore ? harness.receive(server) : nil
            let sending = harness.send(client, "the end")
            let shutting = unsafe harness.start(.shutdown(client, how: Int32(SHUT_WR)))
            #expect(try harness.result(of: shutting) == 0)
            #expect(try harness.result(of: sending) == 7)
            if !isArmedBefore { harness.settle() }
            let receiving = early ?? harness.receive(server)
            #expect(try harness.result(of: receiving) == 0)
            #expect(receiving.bytes == Array("the end".utf8))
            unsafe #expect(try harness.perform(.receive(server)) == 0, "the end stays the end")
            // The other direction is open.
            let back = harness.receive(client)
            #expect(try harness.result(of: harness.send(server, "answer")) == 6)
            try harness.close(server)
            #expect(try harness.result(of: back) == 0)
            #expect(back.bytes == Array("answer".utf8))
            try harness.close(client)
        }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func ownShutdownEndsReceive(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        let receiving = harness.receive(client)
        harness.settle()
        unsafe #expect(try harness.perform(.shutdown(client, how: Int32(SHUT_RDWR))) == 0)
        #expect(try harness.result(of: receiving) == 0)
        #expect(try harness.result(of: harness.send(client, "late")) == -EPIPE)
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func peerResets(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        for sendIsPending in [false, true] {
            let (client, server) = try harness.makeConnection()
            let receiving = harness.receive(client)
            let bytes = unsafe Pattern.bytes(0..<Pattern.count)  // more than fits anywhere
            let sending = sendIsPending ? unsafe harness.send(client, bytes) : nil
            harness.settle()
            #expect(sending?.result == nil && receiving.result == nil)
            world.resetOnClose(server)
            try harness.close(server)
            if let sending {
                // The kernel tells of a reset once. If the send hears it, the receive sees an end.
                #expect([-ECONNRESET, 0].contains(try harness.result(of: receiving)))
                #expect((1..<Pattern.count).contains(Int(try harness.result(of: sending))), "what was sent before")
            } else {
                #expect(try harness.result(of: receiving) == -ECONNRESET)
            }
            #expect(try harness.result(of: harness.send(client, "late")) == -EPIPE)
            try harness.close(client)
        }
        harness.finish()
    }

    // MARK: Bytes

    @Test(arguments: DriverWorld.usable)
    func largeTransferArrivesWhole(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        let sending = unsafe harness.send(client, Pattern.bytes(0..<Pattern.count))
        harness.settle()
        #expect(sending.result == nil, "more than the kernel takes at once")
        var received = 0
        // A reader that pauses: every receive is ended after a while, and taken up again.
        var target = 100_000
        while received < Pattern.count {
            let receiving = harness.receive(server)
            try harness.run("\(target) bytes") { received + receiving.bytes.count >= min(target, Pattern.count) }
            harness.cancel(receiving)
            #expect(try harness.result(of: receiving) == -ECANCELED)
            #expect(Pattern.continues(at: received, with: receiving.bytes))
            received += receiving.bytes.count
            target = received + 3_000_000
            harness.settle()
        }
        #expect(received == Pattern.count)
        #expect(try harness.result(of: sending) == Pattern.count)
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func twoConnectionsShareTheDriver(_ world: DriverWorld) throws {
        // A sender that never stops must not keep a small message of another connection waiting for its end.
        let harness = try DriverHarness(world)
        let busy = try harness.makeConnection()
        let calm = try harness.makeConnection()
        let busyReceiving = harness.receive(busy.server)
        let calmReceiving = harness.receive(calm.server)
        let busySending = unsafe harness.send(busy.client, Pattern.bytes(0..<Pattern.count))
        let calmSending = harness.send(calm.client, "small")
        try harness.run { calmReceiving.bytes.count == 5 }
        #expect(busyReceiving.bytes.count < Pattern.count)
        #expect(try harness.result(of: calmSending) == 5)
        #expect(try harness.result(of: busySending) == Pattern.count)
        try harness.run { busyReceiving.bytes.count == Pattern.count }
        #expect(Pattern.continues(at: 0, with: busyReceiving.bytes))
        for flight in [busyReceiving, calmReceiving] {
            harness.cancel(flight)
            #expect(try harness.result(of: flight) == -ECANCELED)
        }
        try harness.close(busy.client, busy.server, calm.client, calm.server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func aBusyDriverStillListens(_ world: DriverWorld) throws {
        // Operations that complete at once, for ever, must not keep events and wake-ups away.
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        let receiving = harness.receive(server)
        harness.settle()
        let sending = harness.send(client, "hello")
        let far = harness.driver.now + 30_000_000_000
        var turns = 0
        while receiving.bytes.count < 5, turns < 1000 {
            _ = unsafe harness.start(.nothing)
            harness.turn(until: far)
            turns += 1
        }
        #expect(receiving.bytes.count == 5)
        harness.cancel(receiving)
        #expect(try harness.result(of: receiving) == -ECANCELED)
        #expect(try harness.result(of: sending) == 5)
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func receiveIsCancelled(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        var received: [UInt8] = []
        func end(_ flight: Flight) throws {
            harness.cancel(flight)
            #expect(try harness.result(of: flight) == -ECANCELED)
            received += flight.bytes
        }
        // Before it was handed over; while it waits; together with bytes; after bytes; with bytes that wait.
        try end(harness.receive(server))
        let waiting = harness.receive(server)
        harness.settle()
        try end(waiting)
        let together = harness.receive(server)
        harness.settle()
        #expect(try harness.result(of: harness.send(client, "one ")) == 4)
        try end(together)
        let after = harness.receive(server)
        #expect(try harness.result(of: harness.send(client, "two ")) == 4)
        try harness.run { (received + after.bytes).count == 8 }
        try end(after)
        #expect(try harness.result(of: harness.send(client, "three ")) == 6)
        harness.settle()
        try end(harness.receive(server))
        let last = harness.receive(server)
        #expect(try harness.result(of: harness.send(client, "four")) == 4)
        try harness.run { (received + last.bytes).count == 18 }
        try end(last)
        #expect(String(decoding: received, as: UTF8.self) == "one two three four")
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func urgentDataHidesNothing(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        // The kernel ends a receive at the urgent byte, which is not part of the stream.
        for isArmedBefore in [true, false] {
            let early = isArmedBefore ? harness.receive(server) : nil
            harness.settle()
            #expect(try harness.result(of: harness.send(client, "before")) == 6)
            #expect(unsafe Glibc.send(client.rawValue, "!", 1, Int32(MSG_OOB)) == 1)
            #expect(try harness.result(of: harness.send(client, "after")) == 5)
            let receiving = early ?? harness.receive(server)
            try harness.run("all but the urgent byte") { receiving.bytes.count == 11 }
            harness.cancel(receiving)
            #expect(try harness.result(of: receiving) == -ECANCELED)
            #expect(receiving.bytes == Array("beforeafter".utf8))
        }
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func sendIsCancelledWhileBlocked(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        let never = harness.send(client, "never")
        harness.cancel(never)
        let first = max(0, Int(try harness.result(of: never)))
        #expect([-ECANCELED, 5].contains(never.result))
        let blocked = unsafe harness.send(client, Pattern.bytes(0..<Pattern.count))
        harness.settle()
        #expect(blocked.result == nil)
        harness.cancel(blocked)
        let sent = Int(try harness.result(of: blocked))
        #expect((1..<Pattern.count).contains(sent), "some of it was sent")
        // The rest goes as if nothing had been: what the result says is exactly what the peer gets.
        let rest = unsafe harness.send(client, Pattern.bytes(sent..<Pattern.count))
        harness.settle()
        harness.cancel(rest)
        let more = max(0, Int(try harness.result(of: rest)))
        let receiving = harness.receive(server)
        unsafe #expect(try harness.perform(.shutdown(client, how: Int32(SHUT_WR))) == 0)
        #expect(try harness.result(of: receiving) == 0)
        #expect(receiving.bytes.count == first + sent + more)
        #expect(Pattern.continues(at: 0, with: Array(receiving.bytes.dropFirst(first))))
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func buffersRunOutAndComeBack(_ world: DriverWorld) throws {
        let buffers = ReceiveBuffers(bufferSize: 4096, initialCount: 4, capacity: 4)
        let harness = try DriverHarness(world, buffers: buffers)
        let (client, server) = try harness.makeConnection()
        let total = 200_000
        let sending = unsafe harness.send(client, Pattern.bytes(0..<total))
        var received = 0
        var shortages = 0
        while received < total {
            let receiving = harness.receive(server)
            receiving.keepsSlices = true
            try harness.run { receiving.result != nil || received + receiving.bytes.count == total }
            if receiving.result == nil {
                harness.cancel(receiving)
                #expect(try harness.result(of: receiving) == -ECANCELED)
            } else {
                #expect(receiving.result == -ENOBUFS)
                shortages += 1
                // Still none free: the next receive says so again, and loses nothing.
                unsafe #expect(try harness.perform(.receive(server)) == -ENOBUFS)
            }
            #expect(Pattern.continues(at: received, with: receiving.bytes))
            received += receiving.bytes.count
            harness.releaseSlices(of: receiving)
        }
        #expect(try harness.result(of: sending) == total)
        #expect(shortages >= 5, "16 KB at a time")
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable, 0..<4)
    func anythingGoes(_ world: DriverWorld, seed: Int) throws {
        let buffers = ReceiveBuffers(bufferSize: 4096, initialCount: 4, capacity: 16)
        let harness = try DriverHarness(world, buffers: buffers)
        var random = SplitMix(state: UInt64(seed))
        let pairs = try (0..<2).map { _ in try harness.makeConnection() }
        var streams = pairs.flatMap {
            [Stream(from: $0.client, to: $0.server), Stream(from: $0.server, to: $0.client)]
        }
        for _ in 0..<1500 {
            let index = Int(random.next() % 4)
            switch random.next() % 10 {
            case 0, 1, 2:
                let size = random.next() % 4 == 0 ? Int(random.next() % 400_000) : Int(random.next() % 2000)
                streams[index].send(size, harness)
            case 3, 4: streams[index].receive(keeping: random.next() % 3 == 0, harness)
            case 5: if let sending = streams[index].sending { harness.cancel(sending) }
            case 6: if let receiving = streams[index].receiving { harness.cancel(receiving) }
            case 7: if let receiving = streams[index].receiving { harness.releaseSlices(of: receiving) }
            case 8: harness.turn(until: harness.driver.now + random.next() % 50_000)
            default: harness.turn(until: 0)
            }
            for index in streams.indices { streams[index].collect(harness) }
        }
        try harness.run("all bytes") {
            for index in streams.indices {
                streams[index].collect(harness)
                streams[index].receive(keeping: false, harness)
                if let receiving = streams[index].receiving { harness.releaseSlices(of: receiving) }
            }
            return streams.allSatisfy(\.isEven)
        }
        for pair in pairs {
            unsafe #expect(try harness.perform(.shutdown(pair.client, how: Int32(SHUT_WR))) == 0)
            unsafe #expect(try harness.perform(.shutdown(pair.server, how: Int32(SHUT_WR))) == 0)
        }
        try harness.run("all ends") {
            for index in streams.indices { streams[index].collect(harness) }
            return streams.allSatisfy { $0.receiving == nil }
        }
        for pair in pairs { try harness.close(pair.client, pair.server) }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func aMessageCostsFewSystemCalls(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let (client, server) = try harness.makeConnection()
        let receiving = harness.receive(server)
        harness.settle()
        let before = harness.driver.systemCalls
        for count in 1...100 {
            let sending = harness.send(client, "x")
            try harness.run { sending.result != nil && receiving.bytes.count == count }
        }
        let calls = harness.driver.systemCalls - before
        // io_uring: enter. epoll: send, wait, receive.
        #expect(calls <= (world.isUring ? 150 : 350))
        harness.cancel(receiving)
        #expect(try harness.result(of: receiving) == -ECANCELED)
        try harness.close(client, server)
        harness.finish()
    }

    // MARK: Time and wake-ups

    @Test(arguments: DriverWorld.usable)
    func waitIsNeverShort(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let driver = harness.driver
        let start = driver.now
        driver.wait(until: 0)
        driver.wait(until: 1)  // a time that is past
        driver.wait(until: start)
        #expect(driver.nextCompletion() == nil)
        var earlyWaits = 0
        for microseconds in [1, 50, 100, 400, 999, 1000, 1001, 1500, 3000] as [UInt64] {
            for _ in 0..<5 {
                let deadline = driver.now + microseconds * 1000
                driver.wait(until: deadline)
                if driver.now < deadline { earlyWaits += 1 }
                #expect(driver.nextCompletion() == nil)
            }
        }
        // A signal ends a wait (the kernel sends one of its own to a thread whose io_uring it takes down); counting
        // time wrongly would end five or more.
        #expect(earlyWaits < 4)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func waitEndsWithACompletion(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let far = harness.driver.now + 3_600_000_000_000
        let flight = unsafe harness.start(.nothing)
        harness.driver.wait(until: far)
        harness.turn(until: 0)
        #expect(flight.result == 0 && harness.driver.now < far)
        let (client, server) = try harness.makeConnection()
        let receiving = harness.receive(server)
        harness.settle()
        harness.cancel(receiving)
        try harness.run { receiving.result != nil }
        #expect(harness.driver.now < far)
        try harness.close(client, server)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func noWakeIsLost(_ world: DriverWorld) throws {
        final class Rounds: @unchecked Sendable {
            // SAFETY: other threads only call the driver's `wake()`.
            let driver: any Driver
            let asked = Atomic(0)
            let answered = Atomic(0)
            init(_ driver: any Driver) { self.driver = driver }
        }
        let harness = try DriverHarness(world)
        harness.driver.wake()  // before the wait that it ends
        // Ten thousand rounds of two threads may take long on a busy machine; a wake that is lost takes an hour.
        let far = harness.driver.now + 3_600_000_000_000
        harness.driver.wait(until: far)
        #expect(harness.driver.now < far)
        let rounds = Rounds(harness.driver)
        let count = 10_000
        let thread = startThread {
            for round in 1...count {
                while rounds.asked.load(ordering: .acquiring) < round { sched_yield() }
                rounds.answered.store(round, ordering: .releasing)
                rounds.driver.wake()
            }
        }
        for round in 1...count {
            rounds.asked.store(round, ordering: .releasing)
            while rounds.answered.load(ordering: .acquiring) < round {
                harness.turn(until: far)
                if harness.driver.now >= far { Issue.record("a wake was lost in round \(round)"); break }
            }
            if harness.driver.now >= far { break }
        }
        rounds.asked.store(count, ordering: .releasing)
        pthread_join(thread, nil)
        harness.finish()
    }

    // MARK: Files and the pool

    @Test(arguments: DriverWorld.usable)
    func files(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let directory = "/tmp/rondo-contract-\(getpid())-\(world)"
        unsafe mkdir(directory, 0o700)
        defer { unsafe rmdir(directory) }
        let path = directory + "/file"
        let file = Descriptor(rawValue: try harness.open(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o600))
        defer { unsafe unlink(path) }
        #expect(try harness.open(path, O_RDWR | O_CREAT | O_EXCL, mode: 0o600) == -EEXIST)
        #expect(try harness.open(directory + "/none", O_RDONLY) == -ENOENT)
        #expect(fcntl(file.rawValue, F_GETFD) & FD_CLOEXEC != 0)

        let bytes = unsafe Pattern.bytes(0..<100_000)
        func write(_ range: Range<Int>, at offset: UInt64) throws -> Int32 {
            let start = unsafe bytes.baseAddress! + range.lowerBound
            return try unsafe harness.perform(.write(file, start, count: range.count, offset: offset))
        }
        #expect(try write(50_000..<100_000, at: 50_000) == 50_000)
        #expect(try write(0..<20_000, at: .max) == 20_000, "at the current position")
        #expect(try write(20_000..<50_000, at: .max) == 30_000)
        unsafe #expect(try harness.perform(.synchronize(file, dataOnly: true)) == 0)
        unsafe #expect(try harness.perform(.synchronize(file, dataOnly: false)) == 0)

        let memory = UnsafeMutableRawPointer.allocate(byteCount: 200_000, alignment: 8)
        defer { unsafe memory.deallocate() }
        unsafe #expect(try harness.perform(.read(file, memory, count: 200_000, offset: 0)) == 100_000)
        unsafe #expect(memcmp(memory, bytes.baseAddress!, 100_000) == 0)
        unsafe #expect(try harness.perform(.read(file, memory, count: 10, offset: .max)) == 10)
        unsafe #expect(memcmp(memory, bytes.baseAddress! + 50_000, 10) == 0, "the position is behind the last write")
        unsafe #expect(try harness.perform(.read(file, memory, count: 10, offset: 100_000)) == 0)

        for byPath in [false, true] {
            let status = try harness.status(of: byPath ? nil : file, path: byPath ? path : nil)
            #expect(status.result == 0 && status.size == 100_000)
        }
        #expect(try harness.status(of: nil, path: directory + "/none").result == -ENOENT)

        let (listed, names) = try harness.list(directory)
        #expect(listed == 0 && names == ["file"])
        #expect(try harness.list(directory + "/none").result == -ENOENT)
        #expect(try harness.list(path).result == -ENOTDIR)
        try harness.close(file)
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func offloadedCallsComeBack(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world, threads: 3)
        let works = (0..<500).map { number in OffloadWork { Int32(number) } }
        let flights = works.map { unsafe harness.start(.offload(Unmanaged.passUnretained($0))) }
        for (number, flight) in flights.enumerated() { #expect(try harness.result(of: flight) == number) }
        #expect(harness.pool.threadCount <= 3)
        withExtendedLifetime(works) { harness.finish() }
    }

    @Test(arguments: DriverWorld.usable)
    func queuedFileOperationIsCancelled(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world, threads: 1)
        let gate = PoolGate()
        let blocker = OffloadWork { gate.wait() }
        let blocking = unsafe harness.start(.offload(Unmanaged.passUnretained(blocker)))
        // The pool is busy: what needs it waits in its queue.
        let memory = UnsafeMutableRawPointer.allocate(byteCount: 8, alignment: 8)
        defer { unsafe memory.deallocate() }
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 7, count: 8)
        let zero = unsafe Descriptor(rawValue: Glibc.open("/dev/zero", O_RDONLY))
        let reading = unsafe harness.start(.read(zero, memory, count: 8, offset: .max))
        let listing = DirectoryListing()
        let listings = harness.startList("/", into: listing)
        harness.cancel(reading)
        harness.cancel(listings)
        harness.cancel(reading)
        if world.isUring {
            #expect([8, -ECANCELED].contains(try harness.result(of: reading)))
        } else {
            #expect(try harness.result(of: reading) == -ECANCELED)
            #expect(try harness.result(of: listings) == -ECANCELED)
        }
        gate.open()
        #expect(try harness.result(of: blocking) == 0)
        #expect([0, -ECANCELED].contains(try harness.result(of: listings)))
        harness.cancel(listings)
        // A call that runs can't be taken back: it ends with its own result.
        unsafe #expect(try harness.perform(.read(zero, memory, count: 8, offset: .max)) == 8)
        try harness.close(zero)
        withExtendedLifetime((blocker, listing)) { harness.finish() }
    }

    // MARK: The process as a whole

    // In processes of their own: they change or count what the whole process has.

    @Test(arguments: DriverWorld.usable)
    func acceptOutlivesAShortageOfDescriptors(_ world: DriverWorld) async {
        await #expect(processExitsWith: .success) { [world] in
            try DriverContractTests().acceptWithoutDescriptors(world)
        }
    }

    private func acceptWithoutDescriptors(_ world: DriverWorld) throws {
        let harness = try DriverHarness(world)
        let listener = try harness.makeListener()
        let address = try harness.driver.localAddress(of: listener)
        let clients = try (0..<3).map { _ in try harness.driver.openSocket(for: address) }
        for client in clients { #expect(try harness.result(of: harness.connect(client, to: address)) == 0) }
        var limits = rlimit()
        unsafe getrlimit(__rlimit_resource_t(7), &limits)
        let before = limits.rlim_cur
        let free = dup(0)
        close(free)
        limits.rlim_cur = rlim_t(free)  // every number below is taken
        unsafe setrlimit(__rlimit_resource_t(7), &limits)
        unsafe #expect(try harness.perform(.accept(listener)) == -EMFILE)
        unsafe #expect(try harness.perform(.accept(listener)) == -EMFILE)
        limits.rlim_cur = before
        unsafe setrlimit(__rlimit_resource_t(7), &limits)
        let accepting = harness.accept(listener)
        try harness.run("the connections that had to wait") { accepting.descriptors.count == 3 }
        harness.cancel(accepting)
        #expect(try harness.result(of: accepting) == -ECANCELED)
        for descriptor in clients + accepting.descriptors + [listener] { try harness.close(descriptor) }
        harness.finish()
    }

    @Test(arguments: DriverWorld.usable)
    func noDescriptorIsLeft(_ world: DriverWorld) async {
        await #expect(processExitsWith: .success) { [world] in
            try DriverContractTests().leaveNoDescriptor(world)
        }
    }

    private func leaveNoDescriptor(_ world: DriverWorld) throws {
        func openDescriptors() -> [String] {
            (0..<2000).compactMap { number in
                var target = [CChar](repeating: 0, count: 256)
                let length = unsafe readlink("/proc/self/fd/\(number)", &target, 255)
                guard length > 0 else { return nil }
                let bytes = target.prefix(length).map(UInt8.init(bitPattern:))
                return "\(number): \(String(decoding: bytes, as: UTF8.self))"
            }
        }
        // Dispatch and the test library open and close some of their own when they like, but not every time.
        var difference = ""
        for _ in 0..<4 {
            let before = openDescriptors()
            try acceptsMany(world)
            try acceptIsCancelled(world)
            try connectIsRefused(world)
            try connectIsCancelled(world)
            try peerResets(world)
            try badDescriptorsAreRefused(world)
            try receiveIsCancelled(world)
            try buffersRunOutAndComeBack(world)
            try files(world)
            try queuedFileOperationIsCancelled(world)
            let after = openDescriptors()
            if after == before { return }
            difference = "before: \(before), after: \(after)"
        }
        Issue.record("descriptors are left: \(difference)")
    }
}

/// One direction of a connection in `anythingGoes`, with what must have arrived.
private struct Stream {
    let from: Descriptor
    let to: Descriptor
    var sending: Flight?
    var receiving: Flight?
    private var sent = 0
    private var received = 0

    init(from: Descriptor, to: Descriptor) {
        self.from = from
        self.to = to
    }

    /// Whether all that was sent has arrived.
    var isEven: Bool { sending == nil && received + (receiving?.bytes.count ?? 0) == sent }

    mutating func send(_ size: Int, _ harness: DriverHarness) {
        guard sending == nil, sent + size <= Pattern.count else { return }
        sending = unsafe harness.send(from, Pattern.bytes(sent..<sent + size))
    }

    mutating func receive(keeping: Bool, _ harness: DriverHarness) {
        guard receiving == nil else { return }
        receiving = harness.receive(to)
        receiving?.keepsSlices = keeping
    }

    mutating func collect(_ harness: DriverHarness) {
        if let flight = sending, let result = flight.result {
            #expect(result >= 0 || result == -ECANCELED)
            sent += max(0, Int(result))
            sending = nil
        }
        if let flight = receiving, let result = flight.result {
            #expect([-ECANCELED, -ENOBUFS, 0].contains(result))
            #expect(Pattern.continues(at: received, with: flight.bytes))
            received += flight.bytes.count
            harness.releaseSlices(of: flight)
            receiving = nil
        }
    }
}

private struct SplitMix {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }
}

/// Holds a thread until it is opened.
@safe
private final class PoolGate: @unchecked Sendable {
    // SAFETY: the semaphore is made for several threads.
    private let semaphore = unsafe rondo_semaphore_create()
    func wait() -> Int32 {
        unsafe rondo_semaphore_wait(semaphore)
        return 0
    }
    func open() { unsafe rondo_semaphore_post(semaphore) }
    deinit { unsafe rondo_semaphore_destroy(semaphore) }
}

extension DriverHarness {
    fileprivate func open(_ path: String, _ flags: Int32, mode: UInt32 = 0) throws -> Int32 {
        unsafe try path.withCString { unsafe try perform(.open($0, flags: flags, mode: mode)) }
    }

    fileprivate func status(of file: Descriptor?, path: String?) throws -> (result: Int32, size: UInt64) {
        let raw = UnsafeMutablePointer<rondo_statx>.allocate(capacity: 1)
        defer { unsafe raw.deallocate() }
        unsafe raw.initialize(to: rondo_statx())
        let result: Int32
        if let path {
            result = unsafe try path.withCString { unsafe try perform(.status(file, $0, raw)) }
        } else {
            result = unsafe try perform(.status(file, nil, raw))
        }
        var status = rondo_file_status()
        unsafe rondo_statx_decode(raw, &status)
        return (result, status.size)
    }

    fileprivate func startList(_ path: StaticString, into listing: DirectoryListing) -> Flight {
        let path = unsafe UnsafeRawPointer(path.utf8Start).assumingMemoryBound(to: CChar.self)
        return unsafe start(.list(path, Unmanaged.passUnretained(listing)))
    }

    fileprivate func list(_ path: String) throws -> (result: Int32, names: [String]) {
        let listing = DirectoryListing()
        let result = unsafe try path.withCString { unsafe try perform(.list($0, Unmanaged.passUnretained(listing))) }
        return (result, listing.entries.map(\.name))
    }
}
