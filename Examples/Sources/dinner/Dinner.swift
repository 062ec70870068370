// Dinner, cooked by one cook: three dishes one after another, and then together.
//
//     swift run -c release --package-path Examples dinner
//
// You see a lane for each dish: the cook works on it (█), or it cooks by itself (·). The cook is one thread, so no two
// lanes have a █ in one column; together, the waiting overlaps and the work does not.

import Rondo

@main
struct Dinner: RondoProgram {
    static let steps = [("soup", [30, 220, 20, 120]), ("roast", [40, 360, 20]), ("pudding", [20, 80, 30, 160, 10])]

    func run() async throws {
        print("One after another:")
        let alone = try await cook { kitchen in
            for (dish, times) in Self.steps { try await kitchen.make(dish, times) }
        }
        print("\nTogether, by the same cook:")
        let together = try await cook { kitchen in
            try await withThrowingTaskGroup { group in
                for (dish, times) in Self.steps { group.addTask { try await kitchen.make(dish, times) } }
                try await group.waitForAll()
            }
        }
        print("\n\(alone.milliseconds) ms became \(together.milliseconds) ms.")
    }

    func cook(_ body: (Kitchen) async throws -> Void) async throws -> Duration {
        let kitchen = Kitchen()
        let time = try await ContinuousClock().measure { try await body(kitchen) }
        for (dish, _) in Self.steps { print(await kitchen.lane(of: dish)) }
        return time
    }
}

/// Notes who has the cook's hands, and when. Work and waiting take turns in the times of a dish, in milliseconds.
actor Kitchen {
    private let start = ContinuousClock.now
    private var notes: [String: [(mark: Character, from: Int, to: Int)]] = [:]

    func make(_ dish: String, _ times: [Int]) async throws {
        for (number, milliseconds) in times.enumerated() {
            let from = now
            if number % 2 == 0 {
                while now < from + milliseconds {}  // the cook's hands: this is what a program should not do for long
            } else {
                try await Task.sleep(for: .milliseconds(milliseconds))
            }
            notes[dish, default: []].append((number % 2 == 0 ? "█" : "·", from, now))
        }
    }

    func lane(of dish: String) -> String {
        var lane = [Character](repeating: " ", count: 64)
        for note in notes[dish] ?? [] {
            for column in note.from / 20...max(note.from, note.to - 1) / 20 where column < 64 { lane[column] = note.mark }
        }
        return "\(dish)\(String(repeating: " ", count: 9 - dish.count))\(String(lane))"
    }

    private var now: Int { start.duration(to: .now).milliseconds }
}

extension Duration {
    var milliseconds: Int { Int(self / .milliseconds(1)) }
}
