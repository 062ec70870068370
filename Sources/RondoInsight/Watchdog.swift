// Who keeps a loop for itself? A look at each loop's pulse fifty times a second, and one at the stack of a loop that has
// been running the same job for too long.

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
        let time = "\(duration / 1_000_000) ms"
        return "task \(taskID) \(goesOn ? "has kept" : "kept") loop \(loop) for \(time) in \(place?.text ?? "an unknown function"): "
            + "no other task ran. Let it await EventLoop.yieldIfNeeded() now and then, or give the work to offload { }"
    }
}

extension CodePlace {
    /// Whether it is in the program's own code, as far as that can be told.
    var isProgramCode: Bool {
        guard let file, line ?? 0 > 0 else { return false }
        return !file.contains("/Sources/Rondo") && !file.contains("/swift/stdlib/") && !file.contains("/swift/Runtimes/")
    }
}

/// Watches the loops. It belongs to the inspector's thread.
final class Watchdog {
    /// How often it looks.
    static let interval: UInt64 = 20_000_000
    private static let findingLimit = 100

    private struct Watch {
        let loop: EventLoop
        var pulse: UInt64 = 0
        /// When this pulse was first seen.
        var since: UInt64 = 0
        /// The finding about the job that runs now.
        var hog: Finding?
    }

    private var watches: [Watch]
    private let threshold: UInt64
    private let symbols: Symbols
    private var lastLook: UInt64 = 0
    /// The latest, oldest first.
    private(set) var findings: [Finding] = []
    /// Findings that had to make room.
    private(set) var dropped = 0

    /// - Parameter threshold: nanoseconds that a job may keep its loop.
    init(_ loops: [EventLoop], threshold: UInt64, symbols: Symbols) {
        watches = loops.map { Watch(loop: $0) }
        self.threshold = threshold
        self.symbols = symbols
    }

    /// What has been found, with what is going on at this moment.
    var allFindings: [Finding] { findings + watches.compactMap(\.hog) }

    func look() {
        let now = monotonicNanoseconds()
        // Who was not looking himself (a stopped process, a stalled machine) can't tell who kept whom.
        let isFresh = now &- lastLook < 5 * Self.interval
        lastLook = now
        for index in watches.indices { look(at: &watches[index], now, isFresh) }
    }

    private func look(at watch: inout Watch, _ now: UInt64, _ isFresh: Bool) {
        let pulse = watch.loop.pulse
        if pulse != watch.pulse || !isFresh {
            if let hog = watch.hog, pulse != watch.pulse { report(hog, end: now, watch.loop) }
            watch.hog = nil
            watch.pulse = pulse
            watch.since = now
            return
        }
        guard pulse & 1 == 1, now &- watch.since >= threshold else { return }
        if watch.hog == nil { watch.hog = sample(watch.loop) }
        watch.hog?.duration = now &- watch.since
    }

    private func report(_ hog: Finding, end: UInt64, _ loop: EventLoop) {
        var hog = hog
        hog.goesOn = false
        if findings.count == Self.findingLimit {
            findings.removeFirst()
            dropped += 1
        }
        findings.append(hog)
        loop.configuration.logger.warning("\(hog.text)")
    }

    /// Interrupts the loop's thread and takes its stack: 50 to 400 µs of its time.
    private func sample(_ loop: EventLoop) -> Finding {
        var finding = Finding(kind: .hog, loop: loop.number, taskID: 0, duration: 0, goesOn: true, stack: [])
        var sample = rondo_sample()
        // SAFETY: the sample lives across the call.
        guard unsafe rondo_sample_thread(loop.threadID, 200, &sample) == 0 else { return finding }
        finding.taskID = sample.task_id
        let frameCount = Int(sample.job_frame >= 0 ? sample.job_frame : sample.frame_count)
        // SAFETY: the arrays are within the sample, and filled so far.
        let frames = unsafe withUnsafeBytes(of: sample.frames) {
            unsafe Array($0.bindMemory(to: UInt.self).prefix(frameCount))
        }
        let callers = unsafe withUnsafeBytes(of: sample.callers) {
            unsafe Array($0.bindMemory(to: UInt.self).prefix(Int(sample.caller_count)))
        }
        symbols.look(up: frames + callers)
        finding.stack = (frames + callers).flatMap(symbols.places)
        return finding
    }
}
