// The operators of swift-async-algorithms run tasks and timers of their own: under takeover, on the loop as well.

import AsyncAlgorithms
import Rondo

/// Numbers from a task of their own; whether the operator that takes them is at home is noted on the way.
private struct Source {
    let numbers: AsyncMapSequence<AsyncStream<Int>, Int>
    let strangers: Strangers

    actor Strangers {
        private(set) var count = 0
        func note(_ isHome: Bool) { if !isHome { count += 1 } }
    }

    init(_ count: Int) {
        let (stream, feed) = AsyncStream<Int>.makeStream()
        let strangers = Strangers()
        self.strangers = strangers
        numbers = stream.map { number in
            await strangers.note(isHome())
            return number
        }
        Task {
            for number in 0..<count {
                feed.yield(number)
                await EventLoop.yield()
            }
            feed.finish()
        }
    }

    /// Whether `sequence` answers these elements, and all of it is at home.
    func check<Elements: AsyncSequence>(
        _ sequence: Elements, _ isRight: ([Elements.Element]) -> Bool
    ) async throws -> Bool {
        var elements: [Elements.Element] = []
        for try await element in sequence {
            if !isHome() { return false }
            elements.append(element)
        }
        return await strangers.count == 0 && isRight(elements)
    }
}

let algorithmChecks = [
    Check("debounce") {
        let source = Source(5)
        return try await source.check(source.numbers.debounce(for: .microseconds(100))) { $0.last == 4 }
    },
    Check("throttle") {
        let source = Source(5)
        return try await source.check(source.numbers._throttle(for: .microseconds(1))) { $0.first == 0 }
    },
    Check("merge") {
        let (source, other) = (Source(20), Source(20))
        let isRight = try await source.check(merge(source.numbers, other.numbers)) { numbers in
            numbers.sorted() == (0..<40).map { $0 / 2 }
        }
        let strangers = await other.strangers.count
        return isRight && strangers == 0
    },
    Check("combineLatest") {
        let (source, other) = (Source(20), Source(20))
        let isRight = try await source.check(combineLatest(source.numbers, other.numbers)) { pairs in
            pairs.last.map { $0 == (19, 19) } ?? false
        }
        let strangers = await other.strangers.count
        return isRight && strangers == 0
    },
    Check("timer sequence") {
        let begin = ContinuousClock.now
        var ticks = 0
        for await _ in AsyncTimerSequence(interval: .microseconds(50), clock: .continuous) {
            if !isHome() { return false }
            ticks += 1
            if ticks == 3 { break }
        }
        return begin.duration(to: .now) >= .microseconds(150)
    },
]
