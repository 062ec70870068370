// Who keeps a loop for itself? A look at each loop's pulse fifty times a second, and one at the stack of a loop that
// has been running the same job for too long.

import CRondoInsight
import Glibc
import Rondo

/// Something that is not as it should be, and what to do about it.
struct Finding: Sendable {
    enum Kind: String, Sendable { case hog }

    var kind: Kind
    var loop: Int
    var taskID: UInt64
    /// How long it took, in nanoseconds; so far, if it goes on.
    var duration: UInt64
    var goesOn: Bool
    /// What was on the stack, innermost first, and then who waits for that.
    var stack: [CodePlace]

    /// The function to look at: the first of the program's own.
    var place: CodePlace? { stack.first(where: \.isProgramCode) ?? stack.first }

    var text: String {
        let kept = goesOn ? "has kept" : "kept"
        let function = place?.text ?? "an unknown function"
        return "task \(taskID) \(kept) loop \(loop) for \(duration / 1_000_000) ms in \(function): no other task ran. "
            + "Let it await EventLoop.yieldIfNeeded() now and then, or give the work to offload { }"
    }
}

extension CodePlace {
    /// Whether it is in the program's own code, as far as that can be told.
    var isProgramCode: Bool {
        guard let file, line ?? 0 > 0 else { return false }
        return !file.contains("/Sources/Rondo") && !file.contains("/swift/stdlib/")
            && !file.contains("/swift/Runtimes/")
    }
}

/// Watches the loops, on a thread of its own: whoever waits for a loop can't see that it does not answer.
final class Watchdog: Sendable {
    /// Nanoseconds between two looks.
    private static let interval: UInt64 = 20_000_000
    private static let findingLimit = 100

    /// A job that has kept its loop for too long.
    private struct Hog {
        var since: UInt64
        var taskID: UInt64 = 0
        /// Where it was, and who waits for that, as addresses: names take a while to find, and the watch goes on.
        var stack: [UInt] = []
    }

    private struct Watch {
        let loop: EventLoop
        var pulse: UInt64 = 0
        /// When this pulse was first seen.
        var since: UInt64 = 0
        var hog: Hog?
    }

    private struct State {
        var watches: [Watch]
        /// The latest findings, oldest first.
        var past: [Finding] = []
        var dropped = 0
    }

    private let state: Lock<State>
    private let threshold: UInt64
    private let symbols: Lock<Symbols>

    /// - Parameter threshold: nanoseconds that a job may keep its loop.
    init(_ loops: [EventLoop], threshold: UInt64, symbols: Lock<Symbols>) {
        state = Lock(State(watches: loops.map { Watch(loop: $0) }))
        self.threshold = threshold
        self.symbols = symbols
    }

    /// What has been found, with what goes on at this moment, oldest first; and how many older ones were forgotten.
    var findings: (findings: [Finding], dropped: Int) {
        let now = monotonicNanoseconds()
        let (past, hogs, dropped) = state.withLock { state in
            let hogs = state.watches.compactMap { watch in watch.hog.map { ($0, watch.loop) } }
            return (state.past, hogs, state.dropped)
        }
        return (past + hogs.map { finding($0, $1, end: now, goesOn: true) }, dropped)
    }

    /// Looks at all loops, for ever.
    func run() {
        var lastLook: UInt64 = 0
        while true {
            _ = poll(nil, 0, Int32(Self.interval / 1_000_000))
            let now = monotonicNanoseconds()
            // Who was stopped himself can't tell who kept whom.
            look(now, isFresh: now &- lastLook < 5 * Self.interval)
            lastLook = monotonicNanoseconds()
        }
    }

    private func look(_ now: UInt64, isFresh: Bool) {
        let ended = state.withLock { state in
            var ended: [(Hog, EventLoop)] = []
            for index in state.watches.indices {
                let hog = look(at: &state.watches[index], now, isFresh)
                if let hog { ended.append((hog, state.watches[index].loop)) }
            }
            return ended
        }
        for (hog, loop) in ended { report(finding(hog, loop, end: now, goesOn: false), loop) }
    }

    /// - Returns: the hog that has ended since.
    private func look(at watch: inout Watch, _ now: UInt64, _ isFresh: Bool) -> Hog? {
        let pulse = watch.loop.pulse.count
        if isFresh { noteRunning(watch.loop, pulse) }
        if pulse != watch.pulse || (!isFresh && watch.hog == nil) {
            let ended = watch.hog
            watch.hog = nil
            watch.pulse = pulse
            watch.since = now
            return ended
        }
        if pulse & 1 == 1, watch.hog == nil, now &- watch.since >= threshold {
            watch.hog = sample(watch.loop, since: watch.since)
        }
        return nil
    }

    /// Counts the time since the last look as that of the task that runs now.
    private func noteRunning(_ loop: EventLoop, _ pulse: UInt64) {
        if pulse & 1 == 0 { return }
        let address = loop.pulse.runningTask
        let name = address == 0 ? "(actor)" : TaskMemory.name(at: address) ?? "(unnamed)"
        // Another job runs by now, and the task may be gone: then what was read may be anything.
        if loop.pulse.count == pulse { loop.pulse.addRunning(Self.interval, name: name) }
    }

    /// Interrupts the loop's thread and takes its stack: 50 to 400 µs of its time.
    private func sample(_ loop: EventLoop, since: UInt64) -> Hog {
        var sample = rondo_sample()
        // SAFETY: the sample lives across the call.
        guard unsafe rondo_sample_thread(loop.threadID, 200, &sample) == 0 else { return Hog(since: since) }
        let frameCount = Int(sample.job_frame >= 0 ? sample.job_frame : sample.frame_count)
        // SAFETY: the arrays are within the sample, and filled so far.
        let frames = unsafe withUnsafeBytes(of: sample.frames) {
            unsafe Array($0.bindMemory(to: UInt.self).prefix(frameCount))
        }
        let callers = unsafe withUnsafeBytes(of: sample.callers) {
            unsafe Array($0.bindMemory(to: UInt.self).prefix(Int(sample.caller_count)))
        }
        return Hog(since: since, taskID: sample.task_id, stack: frames + callers)
    }

    private func finding(_ hog: Hog, _ loop: EventLoop, end: UInt64, goesOn: Bool) -> Finding {
        let places = symbols.withLock { symbols in
            symbols.look(up: hog.stack)
            return hog.stack.flatMap(symbols.places)
        }
        return Finding(
            kind: .hog, loop: loop.number, taskID: hog.taskID, duration: end &- hog.since, goesOn: goesOn,
            stack: places)
    }

    private func report(_ finding: Finding, _ loop: EventLoop) {
        state.withLock { state in
            if state.past.count == Self.findingLimit {
                state.past.removeFirst()
                state.dropped += 1
            }
            state.past.append(finding)
        }
        loop.configuration.logger.warning("\(finding.text)")
    }
}
