import Histogram

/// What came of a load.
struct LoadResult {
    /// Nanoseconds, to three digits, up to an hour.
    private(set) var latency = Histogram<UInt64>(highestTrackableValue: 3_600_000_000_000)
    private(set) var answers = 0
    private(set) var statuses: [Int: Int] = [:]
    /// Bytes.
    var received = 0
    /// How often what went wrong.
    var failures: [String: Int] = [:]
    /// Requests that had no answer at the end, and for how many nanoseconds the oldest of them had been due.
    var unanswered = 0
    var longestWait: UInt64 = 0
    /// Requests of an open loop that were due before the end, and no connection was free to send them.
    var unsent = 0

    mutating func note(status: Int, after time: Duration) {
        latency.record(max(1, time.nanoseconds))
        answers += 1
        statuses[status, default: 0] += 1
    }

    /// The most common failure first.
    var failureList: String {
        failures.sorted { ($1.value, $0.key) < ($0.value, $1.key) }.map { "\($1.grouped) × \($0)" }.joined(
            separator: ", ")
    }
}

extension Duration {
    /// At most 584 years of them; 0 for what is negative.
    var nanoseconds: UInt64 {
        let (seconds, attoseconds) = components
        return UInt64(max(0, seconds * 1_000_000_000 + attoseconds / 1_000_000_000))
    }
}
