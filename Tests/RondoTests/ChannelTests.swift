// Channels as tasks see them.

import Testing

@testable import Rondo

extension LoopSuites {
    @Suite struct ChannelTests {
        /// Counts how many of them there are.
        private final class Counted: Sendable {
            let alive: Counter
            init(_ alive: Counter) {
                self.alive = alive
                alive.add()
            }
            deinit { alive.add(-1) }
        }

        @Test(arguments: World.allCases, [0, 1, 5, 1000]) func valuesComeOutInOrder(world: World, capacity: Int) throws
        {
            try world.run {
                let channel = BoundedChannel<Int>(capacity: capacity)
                let sender = start {
                    for number in 0..<500 { try await channel.send(number) }
                    channel.finish()
                }
                var received: [Int] = []
                for try await number in channel {
                    #expect(channel.count <= capacity)
                    received.append(number)
                }
                #expect(received == Array(0..<500))
                try await sender.value
                #expect(channel.isClosed && channel.isFinished)
                let firstAnswer = try await channel.receive()
                #expect(firstAnswer == nil)
                await #expect(throws: SendError.closed) { try await channel.send(7) }
                #expect(!channel.trySend(7) && channel.tryReceive() == nil)
            }
        }

        @Test(arguments: World.allCases) func aFullChannelHoldsItsSenders(world: World) throws {
            try world.run {
                let channel = BoundedChannel<Int>(capacity: 2)
                let sent = Journal<Int>()
                let senders = (0..<5).map { number in
                    start {
                        try await channel.send(number)
                        sent.add(number)
                    }
                }
                await until { channel.waitingSenders == 3 }
                #expect(sent.all == [0, 1])
                #expect(!channel.trySend(7))
                for number in 0..<5 {
                    #expect(channel.tryReceive() == number)
                    await settle()
                    #expect(sent.all == Array(0..<min(5, number + 3)))
                }
                for sender in senders { try await sender.value }
            }
        }

        @Test(arguments: World.allCases) func aRendezvousWaitsForTheReceiver(world: World) throws {
            try world.run {
                let channel = BoundedChannel<Int>(capacity: 0)
                #expect(!channel.trySend(1), "nobody is there to receive it")
                let receivers = (0..<2).map { _ in start { try await channel.receive() } }
                await until { channel.waitingReceivers == 2 }
                #expect(channel.trySend(1) && channel.trySend(2) && !channel.trySend(3))
                let firstAnswer = try await receivers[0].value
                #expect(firstAnswer == 1)
                let secondAnswer = try await receivers[1].value
                #expect(secondAnswer == 2)
                let sender = start { try await channel.send(4) }
                await until { channel.waitingSenders == 1 }
                #expect(channel.tryReceive() == 4)
                try await sender.value
            }
        }

        // MARK: Cancelling

        @Test(arguments: World.allCases) func aCancelledReceiverTakesNothing(world: World) throws {
            try world.run {
                let channel = BoundedChannel<Int>(capacity: 1)
                let early = start { try await channel.receive() }
                early.cancel()
                await #expect(throws: CancellationError.self) { try await early.value }
                let tasks = (0..<3).map { _ in start { try await channel.receive() } }
                await until { channel.waitingReceivers == 3 }
                tasks[0].cancel()
                #expect(channel.waitingReceivers == 2)
                try await channel.send(1)
                // It was given the value: it is not cancelled any more.
                tasks[1].cancel()
                let firstAnswer = try await tasks[1].value
                #expect(firstAnswer == 1)
                await #expect(throws: CancellationError.self) { try await tasks[0].value }
                channel.finish()
                let secondAnswer = try await tasks[2].value
                #expect(secondAnswer == nil)
                // A value that is there is received even by a cancelled task.
                let full = BoundedChannel<Int>(capacity: 1)
                try await full.send(7)
                let late = start { try await full.receive() }
                late.cancel()
                let thirdAnswer = try await late.value
                #expect(thirdAnswer == 7)
            }
        }

        @Test(arguments: World.allCases) func aCancelledSenderHasNotSent(world: World) throws {
            try world.run {
                let alive = Counter()
                let channel = BoundedChannel<Counted>(capacity: 1)
                try await channel.send(Counted(alive))
                let senders = (0..<3).map { _ in start { try await channel.send(Counted(alive)) } }
                await until { channel.waitingSenders == 3 }
                #expect(alive.value == 4)
                senders[1].cancel()
                #expect(channel.waitingSenders == 2)
                await #expect(throws: SendError.cancelled) { try await senders[1].value }
                #expect(alive.value == 3)
                #expect(channel.tryReceive() != nil)
                // It has its room: it is not cancelled any more.
                senders[0].cancel()
                try await senders[0].value
                #expect(channel.tryReceive() != nil && channel.tryReceive() != nil && channel.tryReceive() == nil)
                try await senders[2].value
                #expect(alive.value == 0)
                let full = BoundedChannel<Int>(capacity: 0)
                let early = start { try await full.send(7) }
                early.cancel()
                await #expect(throws: SendError.cancelled) { try await early.value }
                #expect("\(SendError.closed)" == "send: the channel is closed (do not send after finish() or close())")
            }
        }

        // MARK: The end

        @Test(arguments: World.allCases) func whatWasSentBeforeTheEndIsReceived(world: World) throws {
            try world.run {
                let channel = BoundedChannel<Int>(capacity: 1)
                let senders = (0..<3).map { number in start { try await channel.send(number) } }
                await until { channel.waitingSenders == 2 }
                channel.finish()
                #expect(channel.isClosed && !channel.isFinished)
                var received: [Int] = []
                for try await number in channel { received.append(number) }
                #expect(received == [0, 1, 2])
                for sender in senders { try await sender.value }
            }
        }

        @Test(arguments: World.allCases) func closingDropsWhatNobodyReceived(world: World) throws {
            try world.run {
                let alive = Counter()
                let channel = BoundedChannel<Counted>(capacity: 1)
                let senders = (0..<3).map { _ in start { try await channel.send(Counted(alive)) } }
                await until { channel.waitingSenders == 2 }
                channel.close()
                try await senders[0].value
                for sender in senders[1...] { await #expect(throws: SendError.closed) { try await sender.value } }
                #expect(alive.value == 0)
                #expect(channel.isFinished)
                let empty = BoundedChannel<Counted>(capacity: 1)
                let receiver = start { try await empty.receive() }
                await until { empty.waitingReceivers == 1 }
                empty.close()
                let firstAnswer = try await receiver.value
                #expect(firstAnswer == nil)
            }
        }

        @Test(arguments: World.allCases) func aDroppedChannelDropsItsValues(world: World) throws {
            try world.run {
                let alive = Counter()
                weak var dropped: BoundedChannel<Counted>?
                do {
                    let channel = BoundedChannel<Counted>(capacity: 200)
                    for _ in 0..<200 { #expect(channel.trySend(Counted(alive))) }
                    for _ in 0..<50 { #expect(channel.tryReceive() != nil) }
                    dropped = channel
                    let waiter = start { try await BoundedChannel<Counted>(capacity: 0).send(Counted(alive)) }
                    await settle()
                    #expect(alive.value == 151)
                    waiter.cancel()
                    await #expect(throws: SendError.cancelled) { try await waiter.value }
                    withExtendedLifetime(channel) {}
                }
                #expect(dropped == nil)
                #expect(alive.value == 0)
            }
        }

        /// A value whose end comes back to the channel finds it unlocked.
        @Test(arguments: World.allCases) func theEndOfAValueMayUseTheChannel(world: World) throws {
            final class Curious: Sendable {
                let channel: BoundedChannel<Curious>
                let seen: Counter
                init(_ channel: BoundedChannel<Curious>, _ seen: Counter) {
                    self.channel = channel
                    self.seen = seen
                }
                deinit { seen.add(channel.count + 1) }
            }
            try world.run {
                let (channel, seen) = (BoundedChannel<Curious>(capacity: 1), Counter())
                try await channel.send(Curious(channel, seen))
                let sender = start { try await channel.send(Curious(channel, seen)) }
                await until { channel.waitingSenders == 1 }
                sender.cancel()
                _ = await sender.result
                #expect(seen.value == 2)
                channel.close()
                #expect(seen.value == 3)
            }
        }
    }
}
