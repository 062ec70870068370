/// What a loop has done since it started, and what it has before it now.
public struct LoopStatistics: Sendable {
    /// Passes through the loop's phases.
    public var turns: UInt64 = 0
    /// Jobs run: stretches of tasks between two `await`s. Counted at the end of each turn's batch.
    public var jobs: UInt64 = 0
    /// Operations begun. What could be done without one is not counted: of a file, what is in memory.
    public var operations: UInt64 = 0
    /// The same by their kinds: `receive`, `send`, `accept`, `read`, `offload`… A multishot operation (accept, receive)
    /// counts once, however often it completes.
    public var operationsByKind: [String: UInt64] = [:]
    /// System calls that the driver made, but for those of the offload pool and those that are answered at once: making
    /// a socket, say, or reading of a file what is in memory. With io_uring at most one a turn.
    public var systemCalls: UInt64 = 0
    /// Jobs that are ready to run.
    public var readyJobs: Int = 0
    /// Timers that are set.
    public var timers: Int = 0
    /// Operations that have not finished.
    public var pendingOperations: Int = 0
    /// Calls queued or running in the offload pool.
    public var offloadDepth: Int = 0
    /// Nanoseconds that the loop was at work, waits left out.
    public var busyNanoseconds: UInt64 = 0
    /// Tasks taken from other loops that had too many.
    public var jobsTaken: UInt64 = 0
    /// Connections that listeners of this loop have accepted, those that were handed to other loops among them.
    public var connectionsAccepted: UInt64 = 0
    /// Connections of stream sockets that became this loop's: accepted, connected to a peer, or one end of a pair.
    public var connectionsOpened: UInt64 = 0
    /// Those of them that were closed.
    public var connectionsClosed: UInt64 = 0
    /// Bytes that ``copy(from:to:limit:)`` and ``relay(_:_:)`` had the kernel move from a socket or a file to a socket,
    /// so that this process did not copy them. Also counted are those from sockets that a sink has not taken.
    public var bytesMoved: UInt64 = 0
    /// Events of the flight recorder so far; 0 if it is off.
    public var eventsRecorded: UInt64 = 0
    /// Those of them that newer ones have overwritten.
    public var eventsDropped: UInt64 = 0
    /// For how long tasks were seen running, by their names: from fifty looks a second, so one that runs for less than
    /// a second in all is a guess. Tasks without a name are `(unnamed)`, queues of actors `(actor)`; beyond 256 names
    /// the rest is `(other)`. Empty where nobody may look: see `RuntimeConfiguration.isInspectable`.
    public var runningNanosecondsByName: [String: UInt64] = [:]
    /// How long a turn took, waits left out: so long may a job that became ready have stood in line.
    public var lag = LagHistogram()
    /// How long after their deadlines sleeps and time limits have ended: of each that was not cancelled. One that was
    /// set when its deadline had passed already counts from that deadline, too.
    public var timerLateness = LagHistogram()

    /// Of a loop that has done nothing.
    public init() {}
}

/// A histogram of nanoseconds with two buckets for each power of two: values are exact to within a half.
public struct LagHistogram: Sendable {
    private var counts = InlineArray<128, UInt64>(repeating: 0)

    /// How many values were recorded.
    public private(set) var count: UInt64 = 0
    /// The largest value recorded, in nanoseconds.
    public private(set) var maxNanoseconds: UInt64 = 0

    @inline(__always)
    mutating func record(_ nanoseconds: UInt64) {
        counts[Self.bucket(of: nanoseconds)] &+= 1
        count &+= 1
        if nanoseconds > maxNanoseconds { maxNanoseconds = nanoseconds }
    }

    /// The sum of all values, in nanoseconds, as far as a histogram knows: each counts as its bucket's end.
    public var approximateSum: UInt64 {
        counts.indices.filter { counts[$0] > 0 }.reduce(0) { sum, bucket in
            sum &+ counts[bucket] &* min(Self.end(of: bucket), maxNanoseconds)
        }
    }

    /// How many values do not exceed `nanoseconds`, which is rounded up to the end of its bucket.
    public func count(upTo nanoseconds: UInt64) -> UInt64 {
        counts.indices.prefix { $0 <= Self.bucket(of: nanoseconds) }.reduce(0) { $0 + counts[$1] }
    }

    /// The value that `fraction` (0 to 1) of the records do not exceed, in nanoseconds, rounded up to its bucket's end.
    public func nanoseconds(at fraction: Double) -> UInt64 {
        let wanted = UInt64((Double(count) * fraction).rounded(.up))
        var seen: UInt64 = 0
        for bucket in counts.indices {
            seen += counts[bucket]
            if seen >= wanted, seen > 0 { return min(Self.end(of: bucket), maxNanoseconds) }
        }
        return maxNanoseconds
    }

    @inline(__always)
    private static func bucket(of nanoseconds: UInt64) -> Int {
        if nanoseconds < 2 { return Int(nanoseconds) }
        let power = 63 - nanoseconds.leadingZeroBitCount
        return 2 * power + Int(nanoseconds >> UInt64(power - 1) & 1)
    }

    private static func end(of bucket: Int) -> UInt64 {
        if bucket < 2 { return UInt64(bucket) }
        let power = UInt64(bucket / 2)
        let start = (2 + UInt64(bucket % 2)) << (power - 1)
        return start + (1 << (power - 1)) - 1
    }
}
