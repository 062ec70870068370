// The connections of a server on one loop, and one task that looks twice a second whether any of them is late. A timer
// for each request would cost more than the request.

import Rondo

/// A connection, as far as the registry knows it. It belongs to the loop.
protocol ServedConnection: AnyObject, Sendable {
    /// The tick after which it is late; `.max` for never.
    var deadline: Int { get }
    /// It is late: ends whatever it waits for.
    func expire() async
    /// The server ends: closes the connection now, or after the request that is under way.
    func drain() async
}

/// The connections on one loop.
@safe
final class ConnectionRegistry: @unchecked Sendable {
    // SAFETY: used on the loop's thread only.

    /// Half seconds since this registry began.
    private(set) var tick = 0
    /// The `Date` field's value.
    private(set) var date = HTTPDate.now()
    /// Whether the server is ending.
    private(set) var isDraining = false
    private var connections: [ObjectIdentifier: any ServedConnection] = [:]
    private var ticker: Task<Void, Never>?
    let loop: EventLoop
    /// The loop's. It is of use after the loop's end, too.
    let executor: any TaskExecutor

    static let tickLength: Duration = .milliseconds(500)

    init(on loop: EventLoop) {
        self.loop = loop
        executor = loop.executor
    }

    /// The tick at which something that lasts so long has lasted too long.
    func deadline(after time: Duration) -> Int {
        // One more, as the current tick has begun already.
        tick + 1 + Int((time / Self.tickLength).rounded(.up))
    }

    func add(_ connection: any ServedConnection) {
        connections[ObjectIdentifier(connection)] = connection
        if ticker == nil { startTicking() }
    }

    func remove(_ connection: any ServedConnection) { connections[ObjectIdentifier(connection)] = nil }

    private func startTicking() {
        ticker = Task(name: "HTTP time-outs", executorPreference: executor) {
            while (try? await Task.sleep(for: Self.tickLength)) != nil { self.passTick() }
        }
    }

    private func passTick() {
        tick += 1
        if tick & 1 == 0 { date = HTTPDate.now() }
        for connection in connections.values where connection.deadline < tick {
            start { await connection.expire() }
        }
    }

    /// Tells every connection that the server ends.
    func drain() {
        isDraining = true
        for connection in connections.values { start { await connection.drain() } }
    }

    /// As `drain`, for callers on any thread.
    func drainFromAnywhere() async {
        await Task(executorPreference: executor) { self.drain() }.value
    }

    /// Nothing is served any more. From any thread.
    func stop() {
        start {
            self.ticker?.cancel()
            self.ticker = nil
        }
    }

    private func start(_ body: sending @escaping () async -> Void) {
        Task(executorPreference: executor, operation: body)
    }
}

/// A registry's time as HTTP writes it.
enum HTTPDate {
    /// `Sun, 06 Nov 1994 08:49:37 GMT`
    static func now() -> [UInt8] { text(of: UnixTime.now()) }

    static func text(of seconds: Int) -> [UInt8] {
        let days = Int((Double(seconds) / 86_400).rounded(.down))
        let second = seconds - days * 86_400
        let (year, month, day) = civil(days)
        let weekday = ((days + 4) % 7 + 7) % 7
        let clock = [second / 3600, second / 60 % 60, second % 60].map(twoDigits).joined(separator: ":")
        let text = "\(weekdays[weekday]), \(twoDigits(day)) \(months[month - 1]) \(year) \(clock) GMT"
        return Array(text.utf8)
    }

    private static let weekdays = ["Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"]
    private static let months = [
        "Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec",
    ]

    private static func twoDigits(_ number: Int) -> String { number < 10 ? "0\(number)" : "\(number)" }

    /// Year, month and day of a day after 1970-01-01, in the Gregorian calendar: eras of 400 years, which begin in
    /// March.
    private static func civil(_ days: Int) -> (year: Int, month: Int, day: Int) {
        let shifted = days + 719_468
        let era = (shifted >= 0 ? shifted : shifted - 146_096) / 146_097
        let dayOfEra = shifted - era * 146_097
        let yearOfEra = (dayOfEra - dayOfEra / 1460 + dayOfEra / 36_524 - dayOfEra / 146_096) / 365
        let dayOfYear = dayOfEra - (365 * yearOfEra + yearOfEra / 4 - yearOfEra / 100)
        let shiftedMonth = (5 * dayOfYear + 2) / 153
        let month = shiftedMonth < 10 ? shiftedMonth + 3 : shiftedMonth - 9
        let year = yearOfEra + era * 400 + (month <= 2 ? 1 : 0)
        return (year, month, dayOfYear - (153 * shiftedMonth + 2) / 5 + 1)
    }
}
