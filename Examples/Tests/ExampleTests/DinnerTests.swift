import Rondo
import Testing

extension ExampleTests {
    @Suite struct DinnerTests {
        @Test(arguments: Driver.allCases) func theWaitingOverlaps(driver: Driver) throws {
            try onLoop {
                let outcome = try await run("dinner", environment: driver.environment)
                let lines = outcome.output.split(separator: "\n", omittingEmptySubsequences: false)
                try #require(outcome.status == .exited(0) && lines.count == 12, "\(outcome)")
                #expect([4, 9, 11].allSatisfy { lines[$0].isEmpty })
                #expect(lines[0] == "One after another:" && lines[5] == "Together, by the same cook:")
                let (alone, together) = (try lanes(lines[1...3]), try lanes(lines[6...8]))
                // One dish is ready before the next begins; and together, all have begun before the first is ready.
                #expect(
                    alone[0].upperBound <= alone[1].lowerBound + 1 && alone[1].upperBound <= alone[2].lowerBound + 1)
                #expect(together.map(\.lowerBound).max()! < together.map(\.upperBound).min()!)
                // No wait is shorter than it was to be, so neither is a dinner.
                let times = words(lines[10]).compactMap { Int($0) }
                #expect(times.count == 2 && times[0] >= 1110 && times[1] >= 420)
            }
        }

        /// From where to where something is drawn.
        private func lanes(_ lines: ArraySlice<Substring>) throws -> [Range<Int>] {
            try zip(lines, ["soup    ", "roast   ", "pudding "]).map { line, name in
                #expect(line.hasPrefix(name))
                let lane = Array(line.dropFirst(name.count))
                let start = try #require(lane.firstIndex { $0 != " " })
                #expect(lane[start...].allSatisfy { $0 == "█" || $0 == "·" })
                return start..<lane.count
            }
        }
    }
}
