import Rondo
import Testing

extension ExampleTests {
    @Suite struct TimersTests {
        @Test(arguments: Driver.allCases, [1, 20_000]) func everyTaskWakesOnce(driver: Driver, count: Int) throws {
            try onLoop {
                let outcome = try await run("timers", ["\(count)"], environment: driver.environment)
                #expect(outcome.status == .exited(0) && outcome.errors.isEmpty)
                let lines = outcome.output.split(separator: "\n")
                #expect(lines.first == "\(count) tasks slept at once. So much too late they woke:")
                #expect(lines.last?.hasPrefix("Each cost ") == true)
                // `< 0.5 ms   1234   ███▌`; the longest bar has 40 columns.
                let rows = lines.dropFirst().dropLast().map { words($0) }
                #expect(rows.compactMap { row in row.compactMap { Int($0) }.last }.reduce(0, +) == count)
                #expect(rows.map { $0.last!.count { $0 == "█" } }.max() == 40)
                #expect(rows.allSatisfy { $0.first == "<" || $0.first == "more" })
            }
        }

        @Test(arguments: [["0"], ["-1"], ["many"], ["1", "2"]]) func wrongArguments(arguments: [String]) throws {
            try onLoop {
                let outcome = try await run("timers", arguments)
                #expect(outcome == .usage("timers [TASKS]"))
            }
        }
    }
}
