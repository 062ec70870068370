// Signals that tasks wait for. They are sent to this process only, and only while a handler is there.

import CRondo
import Glibc
import Testing

@testable import Rondo

/// Sends a signal to the calling thread; its handler has run when this returns. (A signal to the process is handled by
/// any thread that does not block it, at some time. Threads of Dispatch, which run tests, block all.)
private func raise(_ signal: Signal) {
    var (wanted, before) = (sigset_t(), sigset_t())
    // SAFETY: sets of this function's own.
    unsafe sigemptyset(&wanted)
    unsafe sigaddset(&wanted, signal.rawValue)
    unsafe pthread_sigmask(SIG_UNBLOCK, &wanted, &before)
    #expect(pthread_kill(pthread_self(), signal.rawValue) == 0)
    unsafe pthread_sigmask(SIG_SETMASK, &before, nil)
}

/// What the process does when a signal comes, as a number that can be compared.
private func disposition(_ signal: Signal) -> Int {
    var action = sigaction()
    unsafe #expect(sigaction(signal.rawValue, nil, &action) == 0)
    return unsafe unsafeBitCast(action.__sigaction_handler, to: Int.self)
}

extension LoopSuites {
    @Suite struct SignalTests {
        @Test(arguments: World.real) func signalsArrive(world: World) throws {
            let before = disposition(.user1)
            try world.run {
                let signals = try Signals.of(.user1, .user2)
                #expect(disposition(.user1) != before)
                var iterator = signals.makeAsyncIterator()
                raise(.user1)  // before anybody waits
                #expect(await iterator.next() == .user1)
                let waiting = start {
                    var iterator = signals.makeAsyncIterator()
                    return await iterator.next()
                }
                await settle()
                raise(.user2)
                #expect(try await waiting.value == .user2)
                // To the process, from anywhere.
                #expect(kill(getpid(), SIGUSR1) == 0)
                #expect(await iterator.next() == .user1)
            }
            #expect(disposition(.user1) == before)
        }

        @Test(arguments: World.real) func burstsAreOne(world: World) throws {
            try world.run {
                let signals = try Signals.of(.user1, .user2)
                var iterator = signals.makeAsyncIterator()
                for _ in 0..<100 {
                    raise(.user2)
                    raise(.user1)
                }
                #expect(await iterator.next() == .user1, "in the order of their numbers")
                #expect(await iterator.next() == .user2)
                let rest = start {
                    var iterator = signals.makeAsyncIterator()
                    return await iterator.next()
                }
                await settle()
                rest.cancel()
                #expect(try await rest.value == nil, "nothing was left, and cancellation ends the wait")
                // The next wait is not hurt by that.
                raise(.user1)
                #expect(await iterator.next() == .user1)
            }
        }

        @Test(arguments: World.real) func everyListenerHears(world: World) throws {
            let before = disposition(.user1)
            try world.run {
                var first: Signals? = try Signals.of(.user1)
                let second = try Signals.of(.user1, .hangup)
                raise(.user1)
                var firstIterator = first!.makeAsyncIterator()
                var secondIterator = second.makeAsyncIterator()
                #expect(await firstIterator.next() == .user1)
                #expect(await secondIterator.next() == .user1)
                first = nil
                #expect(disposition(.user1) != before, "one listener is left")
                raise(.user1)
                #expect(await secondIterator.next() == .user1)
                _ = (firstIterator, second)
            }
            #expect(disposition(.user1) == before)
        }

        @Test(arguments: World.real) func theOldDispositionComesBack(world: World) throws {
            let before = signal(SIGUSR1, SIG_IGN)
            defer { signal(SIGUSR1, before) }
            try world.run {
                for _ in 0..<20 {
                    let signals = try Signals.of(.user1)
                    raise(.user1)
                    var iterator = signals.makeAsyncIterator()
                    #expect(await iterator.next() == .user1)
                }
            }
            raise(.user1)  // ignored again
            #expect(disposition(.user1) == 1, "SIG_IGN")
        }

        @Test(arguments: World.real) func threadsMaySendThem(world: World) throws {
            try world.run {
                let signals = try Signals.of(.user1)
                let thread = Thread.start { for _ in 0..<1000 { raise(.user1) } }
                var iterator = signals.makeAsyncIterator()
                #expect(await iterator.next() == .user1)
                thread.join()
            }
        }

        @Test(arguments: World.real) func someCannotBeHeard(world: World) throws {
            try world.run {
                for signal in [Signal.kill, .stop, .segmentationFault, Signal(rawValue: 0), Signal(rawValue: 65)] {
                    let error = await ioError { try Signals.of(signal) }
                    #expect("\(error!)" == "listen for \(signal): this signal can't be waited for")
                }
                let many = try (0..<64).map { _ in try Signals.of(.user1) }
                let error = await ioError { try Signals.of(.user1) }
                #expect("\(error!)".contains("64 listeners already"))
                withExtendedLifetime(many) {}
            }
        }
    }
}
