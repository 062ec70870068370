// The worlds that every test body runs in: the same body, once on each driver. A test is a synchronous function:
//
//     @Test(arguments: World.allCases) func something(world: World) throws {
//         try world.run { … }
//     }
//
// After each run the loop must have let go of everything: operations, timers, receive buffers, descriptors.

import Glibc
import Synchronization
import RondoTesting
import Testing

@testable import Rondo

/// A driver that test bodies run on.
enum World: String, CaseIterable, Codable, Sendable, CustomTestStringConvertible {
    case uring, epoll, simulated

    static let allCases: [World] = Machine.uringFeatures == nil ? [.epoll, .simulated] : [.uring, .epoll, .simulated]

    /// Those with the kernel behind them: for tests that need real files, sockets of the kernel or `/proc`.
    static let real = allCases.filter { $0.driver != nil }

    /// That of io_uring, where there is one.
    static let withRing = allCases.filter { $0 == .uring }

    /// The driver of a real world.
    var driver: DriverKind? {
        switch self {
        case .uring: .uring
        case .epoll: .epoll
        case .simulated: nil
        }
    }

    var testDescription: String { rawValue }

    /// The simulation that a test body runs in, if it does.
    @TaskLocal static var simulation: Simulation?

    /// How a loop of this world is configured.
    var configuration: LoopConfiguration {
        var configuration = LoopConfiguration()
        configuration.driver = driver
        return configuration
    }

    /// Runs `body` on a new loop of this world, on the calling thread, and checks that the loop leaves nothing behind.
    ///
    /// - Parameters:
    ///   - objectsOutliveIt: whether the body leaves streams or files to tasks that outlive the loop.
    ///   - simulatedDescriptors: the most descriptors of the simulated world.
    @discardableResult
    func run<T: Sendable>(
        _ adjust: (inout LoopConfiguration) -> Void = { _ in }, objectsOutliveIt: Bool = false,
        simulatedDescriptors: Int = SimulationOptions().descriptorLimit,
        sourceLocation: SourceLocation = #_sourceLocation, _ body: sending @escaping () async throws -> T
    ) throws -> T {
        var configuration = configuration
        adjust(&configuration)
        let before = KernelObjects()
        let witness = Witness()
        // SAFETY: sent to this function, which sends it on to the one task of the loop.
        nonisolated(unsafe) let body = body
        let watched: () async throws -> T = {
            witness.loop = EventLoop.current
            return try await unsafe body()
        }
        // SAFETY: as `body`.
        nonisolated(unsafe) let main = watched
        let result = Result {
            if driver != nil { return try EventLoop.run(configuration: configuration) { try await unsafe main() } }
            var options = SimulationOptions()
            options.loop = configuration
            options.receiveBufferLimit = configuration.receiveBufferLimit
            // Many tests are about the order in which the loop runs its jobs.
            options.order = .firstInFirstOut
            options.descriptorLimit = simulatedDescriptors
            return try Simulation.run(options: options) { simulation in
                witness.simulation = simulation
                return try await Self.$simulation.withValue(simulation) { try await unsafe main() }
            }
        }
        witness.check(sourceLocation)
        if !objectsOutliveIt { witness.checkSimulation(sourceLocation) }
        weak let rest = witness.loop
        witness.loop = nil
        // Tasks that outlive their loop keep hold of the counter that wakes it, and of what they use.
        var ignored: Set<String> = rest == nil ? [] : ["anon_inode:[eventfd]"]
        if objectsOutliveIt { ignored.formUnion(["socket:", "files"]) }
        before.check(ignoring: ignored, sourceLocation)
        return try result.get()
    }

    /// As `run`, on a thread of its own: for tests that need Swift's own executor meanwhile, whose threads a
    /// synchronous test would hold.
    @discardableResult
    func runElsewhere<T: Sendable>(
        _ adjust: @escaping @Sendable (inout LoopConfiguration) -> Void = { _ in }, objectsOutliveIt: Bool = false,
        sourceLocation: SourceLocation = #_sourceLocation, _ body: sending @escaping () async throws -> T
    ) async throws -> T {
        // SAFETY: sent to this function, which sends it on to the one thread.
        nonisolated(unsafe) let body = body
        return try await withCheckedThrowingContinuation { continuation in
            Thread.detach {
                continuation.resume(
                    with: Result {
                        try run(adjust, objectsOutliveIt: objectsOutliveIt, sourceLocation: sourceLocation) {
                            try await unsafe body()
                        }
                    })
            }
        }
    }
}

/// Keeps hold of a test's loop, to look at it when it has closed.
private final class Witness: @unchecked Sendable {
    // SAFETY: written on the loop's thread, which is also the thread that reads it after the loop has ended.
    var loop: EventLoop?
    var simulation: Simulation?

    /// Nothing of the simulated world is open any more.
    func checkSimulation(_ sourceLocation: SourceLocation) {
        let open = simulation?.openDescriptors ?? []
        #expect(open.isEmpty, "left behind", sourceLocation: sourceLocation)
    }

    func check(_ sourceLocation: SourceLocation) {
        guard let loop else { return }
        let statistics = loop.currentStatistics
        #expect(statistics.pendingOperations == 0, "operations left behind", sourceLocation: sourceLocation)
        #expect(statistics.timers == 0, "timers left behind", sourceLocation: sourceLocation)
        #expect(statistics.readyJobs == 0, "ready jobs left behind", sourceLocation: sourceLocation)
        #expect(
            loop.driver.receiveBuffers.lentSlices == 0, "receive buffers left behind", sourceLocation: sourceLocation)
    }
}

/// The process's sockets, rings, event counters, directories and temporary files, to be compared before and after.
///
/// Only what loops make is counted: the test library opens pipes and files of its own whenever it likes. A run that
/// overlaps with another one says nothing; the suites below ``LoopSuites`` never do.
struct KernelObjects {
    private static let active = Lock<(running: Int, started: Int)>((0, 0))
    private let open: [String: Int]
    private let ticket: Int?

    init() {
        ticket = Self.active.withLock { active in
            active.running += 1
            active.started += 1
            return active.running == 1 ? active.started : nil
        }
        open = Self.count()
    }

    /// Compares with what is open now.
    func check(ignoring ignored: Set<String>, _ sourceLocation: SourceLocation) {
        let wasAlone = Self.active.withLock { active in
            active.running -= 1
            return active.started == ticket
        }
        if !wasAlone { return }
        // A thread of Swift's pool may hold an ended loop for a moment longer, and with it the eventfd that wakes the
        // loop: such a thread gets the processor, and a great many looks.
        var left = leftBehind(ignoring: ignored)
        for _ in 0..<20_000 where !left.isEmpty {
            sched_yield()
            left = leftBehind(ignoring: ignored)
        }
        #expect(left.isEmpty, "left behind: \(left)", sourceLocation: sourceLocation)
    }

    /// What is open now and was not before, by what it is.
    private func leftBehind(ignoring ignored: Set<String>) -> [String: Int] {
        Self.count().filter { kind, count in !ignored.contains(kind) && count > open[kind, default: 0] }
    }

    /// What the process has open, by what it is.
    static func count() -> [String: Int] {
        var counts: [String: Int] = [:]
        for name in names(in: "/proc/self/fd") {
            guard let target = linkTarget("/proc/self/fd/\(name)") else { continue }
            for kind in ["socket:", "anon_inode:[io_uring]", "anon_inode:[eventfd]", "anon_inode:[eventpoll]"]
            where target.hasPrefix(kind) {
                counts[kind, default: 0] += 1
            }
            if target.contains("/\(TemporaryFolder.prefix)") { counts["files", default: 0] += 1 }
        }
        return counts
    }
}

/// The parent of every suite that runs loops: they run one at a time, so that descriptors can be counted, and so that
/// Swift's own executor always has a free thread.
@Suite(.serialized) enum LoopSuites {}
