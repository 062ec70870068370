// A hundred thousand tasks that sleep at once, each until a moment of its own, and how late they wake.
//
//     swift run -c release --package-path Examples timers 100000
//
// You see how many woke how late, and what each has cost: memory, and time of the one thread that runs them all.

import Rondo

@main
struct Timers: RondoProgram {
    static let microseconds = [20, 50, 100, 200, 500, 1000, 2000, 5000, 10_000, 20_000, 50_000, 100_000, .max]

    func run() async throws {
        let argument = CommandLine.arguments.count > 1 ? CommandLine.arguments[1] : "100000"
        guard CommandLine.arguments.count <= 2, let count = Int(argument), count > 0 else { throw UsageError() }
        let memory = try await peakKilobytes()
        let start = ContinuousClock.now + .milliseconds(500 + count / 100)  // all are asleep by then
        let tasks = (0..<count).map { _ in
            Task {
                let moment = start + .microseconds(Int.random(in: 0..<1_000_000))
                try await Task.sleep(until: moment)
                return Int(moment.duration(to: .now) / .microseconds(1))
            }
        }
        var counts = Self.microseconds.map { _ in 0 }
        for task in tasks {
            let late = try await task.value
            counts[Self.microseconds.firstIndex { late < $0 }!] += 1
        }
        print("\(count) tasks slept at once. So much too late they woke:\n")
        for (limit, number) in zip(Self.microseconds, counts) where number > 0 {
            let time = limit == .max ? "more" : "< \(Double(limit) / 1000) ms"
            print(pad(time, 12), pad("\(number)", 9), " ", bar(max(1, 40 * 8 * number / counts.max()!)))
        }
        let bytes = (try await peakKilobytes() - memory) * 1024 / count
        let statistics = await EventLoop.current!.statistics
        let microseconds = Double(statistics.busyNanoseconds / UInt64(count) / 10) / 100
        print("\nEach cost \(bytes) bytes and \(microseconds) µs, and all \(statistics.systemCalls) system calls.")
    }

    func pad(_ text: String, _ width: Int) -> String { String(repeating: " ", count: width - text.count) + text }

    func bar(_ eighths: Int) -> String {
        String(repeating: "█", count: eighths / 8) + ["", "▏", "▎", "▍", "▌", "▋", "▊", "▉"][eighths % 8]
    }

    /// The most memory that this process has had.
    func peakKilobytes() async throws -> Int {
        let status = String(decoding: try await File.contents(of: "/proc/self/status"), as: UTF8.self)
        let line = status.split(separator: "\n").first { $0.hasPrefix("VmHWM:") }
        return Int(line!.split(whereSeparator: \.isWhitespace)[1])!
    }
}

struct UsageError: Error, CustomStringConvertible {
    var description: String { "usage: timers [TASKS]" }
}
