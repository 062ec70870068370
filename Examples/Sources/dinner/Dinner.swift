// Dinner, cooked by one cook: three dishes one after another, and then together.
//
//     swift run -c release --package-path Examples dinner
//
// You see a lane for each dish: the cook works on it (█), or it cooks by itself (·). The cook is one thread, so no two
// lanes have a █ at one time; together, the waiting overlaps and the work does not.

import Rondo

@main
struct Dinner: RondoProgram {
    /// Work and waiting in turns, in milliseconds.
    static let dishes = [
        ("soup   ", [30, 220, 20, 120]), ("roast  ", [40, 360, 20]), ("pudding", [20, 80, 30, 160, 10]),
    ]

    func run() async throws {
        let alone = try await serve("One after another:") { kitchen in
            for (dish, times) in Self.dishes { try await kitchen.make(dish, times) }
        }
        let together = try await serve("\nTogether, by the same cook:") { kitchen in
            try await withThrowingTaskGroup { group in
                for (dish, times) in Self.dishes { group.addTask { try await kitchen.make(dish, times) } }
                try await group.waitForAll()
            }
        }
        print("\n\(alone) ms became \(together) ms.")
    }

    func serve(_ title: String, _ cook: (Kitchen) async throws -> Void) async throws -> Int {
        let kitchen = Kitchen()
        try await cook(kitchen)
        print(title)
        for (dish, _) in Self.dishes { print(dish, await kitchen.lanes[dish].map { String($0) } ?? "") }
        return await kitchen.now
    }
}

actor Kitchen {
    private let start = ContinuousClock.now
    private(set) var lanes: [String: [Character]] = [:]

    func make(_ dish: String, _ times: [Int]) async throws {
        for (step, milliseconds) in times.enumerated() {
            let from = now
            if step % 2 == 0 {
                while now < from + milliseconds {}  // the cook's hands: a program should not do this for long
            } else {
                try await Task.sleep(for: .milliseconds(milliseconds))
            }
            var lane = lanes[dish] ?? []
            while lane.count * 20 < from { lane.append(" ") }
            while lane.count * 20 < now { lane.append(step % 2 == 0 ? "█" : "·") }
            lanes[dish] = lane
        }
    }

    var now: Int { Int(start.duration(to: .now) / .milliseconds(1)) }
}
