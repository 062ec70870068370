// Several loops for one program: who starts them, who places tasks on them, and how they end.

import CRondo
import Glibc
import Synchronization
import SystemPackage

/// How the loops of a ``Runtime`` are made.
public struct RuntimeConfiguration: Sendable {
    /// How many loops there are, each with a thread of its own: 1 to 64.
    public var loops: Int
    /// Whether each loop's thread is kept on a processor of its own. The offload pool's threads stay free.
    public var pinsThreads = false
    /// Whether `rondo ps` may ask the program what its tasks are doing. Only a program that runs on its loops as a
    /// whole (``RondoProgram``) can be asked, and only by its own user. `RONDO_INSPECT=off` in the environment forbids
    /// it too.
    public var isInspectable = true
    /// How each of the loops is to behave. `offloadThreads` is for each of them.
    public var loop: LoopConfiguration

    /// A loop for each processor that the process may use (see ``Processors/available``).
    public init(loops: Int = Processors.available, loop: LoopConfiguration = LoopConfiguration()) {
        self.loops = loops
        self.loop = loop
    }
}

extension RuntimeConfiguration {
    /// With the number of loops that a variable of the environment asks for, if it is set.
    func overridden(by variable: String) throws(IOError) -> RuntimeConfiguration {
        // SAFETY: the value is copied at once.
        guard let value = unsafe getenv(variable).map({ unsafe String(cString: $0) }), !value.isEmpty else {
            return self
        }
        var changed = self
        if value == "all" {
            changed.loops = Processors.available
        } else if let count = Int(value), (1...LoopGroup.limit).contains(count) {
            changed.loops = count
        } else {
            throw IOError("read", variable, .invalid("'\(value)' is neither all nor a number of loops from 1 to 64"))
        }
        return changed
    }
}

/// Event loops that share the tasks of a program, each with a thread and a driver of its own.
///
/// A task becomes ready on the loop whose thread resumes it, so it stays where its streams are; a new task begins on
/// the loop of the task that makes it. Tasks are moved only while they stand ready behind others and another loop has
/// nothing to do. Streams, listeners and files belong to the loop that they were made on, and may be used from every
/// task: what they do is done there.
///
/// A program gets several loops by ``RondoProgram/runtime``, a part of a program by ``run(_:_:)``.
public final class Runtime: Sendable {
    /// The loops. The first is that of the main actor, if the program runs on them.
    public var loops: [EventLoop] { group.loops }

    let group: LoopGroup

    init(_ group: LoopGroup) { self.group = group }

    /// The runtime of the calling thread's loop, if that is one of several.
    public static var current: Runtime? { EventLoop.current?.group.map(Runtime.init) }

    /// The executor to prefer for tasks that may run on every loop: `Task(executorPreference: runtime.executor) { }`.
    /// Tasks of a ``RondoProgram`` do so by themselves.
    public var executor: any TaskExecutor { group }

    /// The loop with the fewest ready jobs and, among equals, the fewest operations under way, as of each loop's last
    /// turn.
    public var leastLoadedLoop: EventLoop { group.leastLoaded }

    /// Starts a task that begins on one of the loops, ``leastLoadedLoop`` if none is named. From there on it goes where
    /// it is resumed, like every other.
    ///
    /// It inherits the caller's priority and task-local values, as `Task { }` does. If the runtime has ended it runs on
    /// Swift's own executor.
    @discardableResult
    public func startTask<Value: Sendable>(
        on loop: EventLoop? = nil, name: String? = nil, priority: TaskPriority? = nil,
        _ body: sending @escaping @isolated(any) () async -> Value
    ) -> Task<Value, Never> {
        let place = loop ?? leastLoadedLoop
        // SAFETY: the task is enqueued before this call returns; the runtime keeps the loop that long.
        unsafe rondo_set_thread_place(Unmanaged.passUnretained(place).toOpaque())
        defer { rondo_set_thread_place(nil) }
        let executor = place.isProgramLoop ? nil : group
        return Task(name: name, executorPreference: executor, priority: priority, operation: body)
    }

    /// Runs an async function on new loops, the first of which is the calling thread's, and answers what it answers.
    ///
    /// The function and its child tasks run on the loops. `Task { }`, `Task.detached` and the main actor do not: see
    /// ``RondoProgram``. When the function returns the loops end, one after another: operations that tasks of their own
    /// still wait for are cancelled.
    ///
    /// - Throws: what `body` throws, or `IOError` if a loop or its thread can't be made.
    public static func run<Value: Sendable>(
        _ configuration: RuntimeConfiguration = RuntimeConfiguration(),
        _ body: sending @escaping (Runtime) async throws -> Value
    ) throws -> Value {
        let threads = try LoopThreads(configuration)
        let runtime = Runtime(threads.group)
        let main = threads.main
        let outcome = Lock<Result<Value, any Error>?>(nil)
        // SAFETY: sent to this function, which sends it on to the one task.
        nonisolated(unsafe) let body = body
        Task(executorPreference: runtime.executor) {
            let result: Result<Value, any Error>
            do { result = .success(try await unsafe body(runtime)) } catch { result = .failure(error) }
            outcome.withLock { $0 = result }
            main.stop()
        }
        main.runTurns()
        threads.end()
        main.close()
        return try outcome.withLock { $0! }.get()
    }
}

/// The threads of a group of loops, but for the first, which is the caller's.
@safe
final class LoopThreads {
    let group = LoopGroup()
    /// The loop of the calling thread.
    let main: EventLoop
    private var threads: [NativeThread] = []

    /// Makes the loops; those of other threads run at once.
    ///
    /// - Parameter isProgram: whether the process is to run on them.
    init(_ configuration: RuntimeConfiguration, isProgram: Bool = false) throws(IOError) {
        guard (1...LoopGroup.limit).contains(configuration.loops) else {
            throw IOError(
                "start", "\(configuration.loops) event loops",
                .invalid("there may be 1 to \(LoopGroup.limit) of them"))
        }
        main = try EventLoop(configuration: configuration.loop)
        var others = configuration.loop
        // A socket that one loop accepts and another serves must suit both drivers.
        if others.makeDriver == nil { others.driver = DriverKind(rawValue: main.driverName) }
        let pins = configuration.pinsThreads
        let births = Births(count: configuration.loops - 1)
        var failure: IOError?
        for number in 1..<configuration.loops {
            do throws(Errno) {
                threads.append(try Self.startThread(number, others, births, pins: pins))
            } catch {
                failure = IOError("start", "a thread for an event loop", .system(error))
                births.missing()
            }
        }
        let born = births.wait()
        failure = failure ?? born.failure
        if let failure {
            births.go(false)
            for thread in threads { thread.join() }
            main.enterThread()
            main.close()
            throw failure
        }
        if pins { Self.pinThread(0) }
        main.enterThread()
        group.form(of: [main] + born.loops)
        let memory = FlightRecorder.memory(
            for: configuration.loop, loops: configuration.loops, isProgram: isProgram && configuration.isInspectable)
        for loop in group.loops { loop.recording = memory }
        if isProgram { main.takeOverProgram() }
        births.go(true)
    }

    /// Ends the other loops and waits for their threads. On the first loop's thread, when it has stopped.
    func end() {
        for loop in group.loops.dropFirst() { loop.stop() }
        for thread in threads { thread.join() }
    }

    private static func startThread(
        _ number: Int, _ configuration: LoopConfiguration, _ births: Births, pins: Bool
    ) throws(Errno) -> NativeThread {
        try NativeThread("rondo-loop-\(number)") {
            if pins { pinThread(number) }
            births.run(configuration)
        }
    }

    private static func pinThread(_ number: Int) {
        let count = Int32(truncatingIfNeeded: rondo_processor_count())
        let processor = rondo_nth_processor(Int32(number) % max(1, count))
        // What can't be pinned runs all the same.
        if processor >= 0 { _ = rondo_pin_thread(processor) }
    }
}

/// Where loops that are made on their own threads meet the thread that made them.
private final class Births: Sendable {
    private let expected: Int
    private let born = Lock<(loops: [EventLoop], failure: IOError?)>(([], nil))
    private let mayRun = Lock(false)
    /// Signalled once by each birth, and by each that will never be.
    private let news = ThreadSemaphore()
    /// Signalled once for each loop.
    private let start = ThreadSemaphore()

    init(count: Int) { expected = count }

    /// The life of a loop's thread.
    func run(_ configuration: LoopConfiguration) {
        let loop: EventLoop
        do throws(IOError) {
            loop = try EventLoop(configuration: configuration)
        } catch {
            born.withLock { $0.failure = error }
            return news.signal()
        }
        loop.enterThread()
        born.withLock { $0.loops.append(loop) }
        news.signal()
        start.wait()
        if mayRun.withLock({ $0 }) { loop.runTurns() }
        loop.close()
    }

    /// A thread could not be started.
    func missing() { news.signal() }

    /// Waits until every loop is there or has failed.
    func wait() -> (loops: [EventLoop], failure: IOError?) {
        for _ in 0..<expected { news.wait() }
        return born.withLock { $0 }
    }

    /// Lets the loops run, or end.
    func go(_ mayRun: Bool) {
        self.mayRun.withLock { $0 = mayRun }
        for _ in 0..<expected { start.signal() }
    }
}
