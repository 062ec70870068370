// A program's own code in a simulated world: time, network, files and the order of tasks come from a seed. With the
// same seed the same happens, byte for byte, and so a failure that was found once can be looked at again.

import Glibc
import Rondo

/// A run of async code in a simulated world.
///
/// ```
/// let answer = try Simulation.run(seed: 42) { simulation in
///     simulation.files.write("/etc/motd", "hello")
///     try await Task.sleep(for: .seconds(3600))  // takes microseconds
///     return try await fetchGreeting()
/// }
/// ```
///
/// The function and its child tasks run in the simulation, and so do actors that are pinned to its loop and tasks that
/// prefer its executor. `Task { }`, `Task.detached` and the main actor are not the simulation's.
///
/// A simulation belongs to the thread that runs it.
@safe
public final class Simulation: @unchecked Sendable {
    // SAFETY: every property belongs to the simulation's thread; `run` returns there.

    /// What decides everything.
    public let seed: UInt64
    /// The network, for tests to look at and to break.
    public let network: SimulatedNetwork
    /// The files, for tests to prepare and to look at.
    public let files: SimulatedFiles

    private let world: SimulatedWorld
    /// Who waits for the end of the body, or for its failure.
    private var waiter: UnsafeContinuation<Void, any Error>?
    /// The body, to be cancelled if it comes to a standstill.
    private var main: Task<Void, Never>?

    private init(seed: UInt64, options: SimulationOptions) {
        self.seed = seed
        world = SimulatedWorld(seed: seed, options: options)
        files = SimulatedFiles(world: world)
        network = SimulatedNetwork(world: world, unix: SimulatedUnixSockets(world: world, files: files))
    }

    // MARK: Looking at it

    /// Virtual time since the start.
    public var now: Duration { .nanoseconds(world.now - SimulatedWorld.startTime) }

    /// A fingerprint of all that was decided and answered so far. The same seed gives the same.
    public var digest: UInt64 { world.trace.digest }

    /// How many steps there were so far.
    public var stepCount: UInt64 { world.trace.stepCount }

    /// All steps so far, if ``SimulationOptions/keepsTrace`` is set.
    public var trace: [SimulationStep] { world.trace.steps }

    /// What is open now: sockets, listeners and files.
    public var openDescriptors: [String] { world.descriptors.all }

    /// Received bytes that nobody has given back yet, in slices.
    package var lentSlices: Int { world.receiveBuffers.lentSlices }

    // MARK: Running

    /// The seed that the environment asks for (`RONDO_SEED`), if it does.
    public static var environmentSeed: UInt64? { environmentValue("RONDO_SEED").flatMap { UInt64($0) } }

    /// Runs `body` in a new simulated world on the calling thread, and answers what it answers.
    ///
    /// - Parameter seed: what decides everything; nil for `RONDO_SEED`, or else 1.
    /// - Throws: ``SimulationFailure`` if `body` throws, if it can't go on, or if it takes too much virtual time.
    public static func run<Value: Sendable>(
        seed: UInt64? = nil, options: SimulationOptions = SimulationOptions(),
        _ body: sending @escaping (Simulation) async throws -> Value
    ) throws -> Value {
        let simulation = Simulation(seed: seed ?? environmentSeed ?? 1, options: options)
        return try simulation.run(body)
    }

    /// Runs `body` once for each seed, until it fails. If `RONDO_SEED` is set, only with that.
    ///
    /// - Throws: ``SimulationFailure`` of the first seed that fails.
    public static func explore(
        seeds: Range<UInt64>, options: SimulationOptions = SimulationOptions(),
        _ body: @escaping @Sendable (Simulation) async throws -> Void
    ) throws {
        if let seed = environmentSeed { return try run(seed: seed, options: options, body) }
        for seed in seeds { try run(seed: seed, options: options, body) }
    }

    /// Runs `body` twice with the same seed, and compares the runs step by step.
    ///
    /// - Throws: ``SimulationFailure`` if they differ or fail.
    public static func verifyReplay(
        seed: UInt64, options: SimulationOptions = SimulationOptions(),
        _ body: @escaping @Sendable (Simulation) async throws -> Void
    ) throws {
        var options = options
        options.keepsTrace = true
        let runs = try (0..<2).map { _ in
            let simulation = Simulation(seed: seed, options: options)
            try simulation.run(body)
            return simulation
        }
        if runs[0].digest == runs[1].digest { return }
        let (first, second) = (runs[0].trace, runs[1].trace)
        let index =
            zip(first, second).enumerated().first { $0.element.0 != $0.element.1 }?.offset
            ?? min(first.count, second.count)
        let (left, right) = [first, second].map { $0.indices.contains(index) ? "\($0[index])" : "the end" }.pair
        throw runs[0].failure(.differentRuns("step \(index + 1) is \(left) in one, \(right) in the other"))
    }

    private func run<Value: Sendable>(_ body: sending @escaping (Simulation) async throws -> Value) throws -> Value {
        VirtualClock.start(at: world.now)
        defer { VirtualClock.stop() }
        let result = SimulationResult<Value>()
        // SAFETY: the closure was sent to this function, which sends it on to the one task that calls it.
        nonisolated(unsafe) let body = body
        try EventLoop.run(configuration: configuration) { [self] in
            try await untilEnd {
                do { result.value = .success(try await unsafe body(self)) } catch {
                    result.value = .failure(self.failure(.thrown(error)))
                }
            }
        }
        return try result.value!.get()
    }

    /// Runs `body` as a task that can be given up, and waits for its end.
    private func untilEnd(_ body: sending @escaping () async -> Void) async throws {
        let loop = EventLoop.current!
        // SAFETY: as in `run`.
        nonisolated(unsafe) let body = body
        try await unsafe withUnsafeThrowingContinuation { continuation in
            unsafe waiter = continuation
            main = Task(executorPreference: loop.executor, priority: .medium) { [self] in
                await unsafe body()
                end(nil)
            }
        }
        main = nil
    }

    /// The body has ended, or can't.
    private func end(_ cause: SimulationFailure.Cause?) {
        guard let waiter = unsafe waiter else { return }
        unsafe self.waiter = nil
        guard let cause else { return unsafe waiter.resume() }
        unsafe waiter.resume(throwing: failure(cause))
        main?.cancel()
    }

    private func failure(_ cause: SimulationFailure.Cause) -> SimulationFailure {
        SimulationFailure(seed: seed, time: now, cause: cause)
    }

    private var configuration: LoopConfiguration {
        var configuration = world.options.loop
        let (world, network, files) = (world, network, files)
        configuration.makeDriver = { [unowned self] _ in
            SimulatedDriver(world: world, network: network, files: files) { [unowned self] cause in end(cause) }
        }
        configuration.tieBreak = { candidates in world.pick(of: candidates) }
        return configuration
    }
}

/// Where the body's result is put.
@safe
private final class SimulationResult<Value: Sendable>: @unchecked Sendable {
    // SAFETY: belongs to the simulation's thread.
    var value: Result<Value, any Error>?
}

extension Array {
    fileprivate var pair: (Element, Element) { (self[0], self[1]) }
}
