// Small things that many tests need: tasks on the loop, gates, journals, threads.

import Glibc
import Logging
import Synchronization
import Testing

@testable import Rondo

/// The loop that the test runs on.
var loop: EventLoop { EventLoop.current! }

/// Starts a task on the loop that the caller runs on.
@discardableResult
func start<T: Sendable>(
    priority: TaskPriority? = nil, _ body: sending @escaping () async throws -> T
) -> Task<T, any Error> {
    Task(executorPreference: loop.executor, priority: priority, operation: body)
}

/// Lets every task that is ready run until it waits.
func settle() async {
    for _ in 0..<4 { await EventLoop.yield() }
}

/// Whether a count that grows comes to rest, sooner or later: it does not grow for many turns of the loop. A machine
/// that is slow to deliver what was sent may need more than one look; what goes on for ever never passes.
func comesToRest(_ count: () -> Int) async throws -> Bool {
    for _ in 0..<100 {
        let before = count()
        for _ in 0..<100 { try await Task.sleep(for: .microseconds(200)) }
        if count() == before { return true }
    }
    return false
}

/// The loop's state right now.
var statistics: LoopStatistics { loop.currentStatistics }

/// Notes, in the order in which they are made, by any thread.
final class Journal<Note: Sendable>: Sendable {
    private let notes = Lock<[Note]>([])
    init(_: Note.Type = Note.self) {}
    func add(_ note: Note) { notes.withLock { $0.append(note) } }
    var all: [Note] { notes.withLock { $0 } }
    var count: Int { notes.withLock { $0.count } }
}

/// A number that any thread may change.
final class Counter: Sendable {
    private let number = Atomic(0)
    var value: Int { number.load(ordering: .sequentiallyConsistent) }
    @discardableResult
    func add(_ amount: Int = 1) -> Int { number.add(amount, ordering: .sequentiallyConsistent).newValue }
    func set(_ value: Int) { number.store(value, ordering: .sequentiallyConsistent) }
    /// Raises it to `value` if it is lower.
    func raise(to value: Int) { number.max(value, ordering: .sequentiallyConsistent) }
}

/// A door that is opened once, from any thread; tasks wait before it.
final class Gate: Sendable {
    private let state = Lock<(isOpen: Bool, waiting: [CheckedContinuation<Void, Never>])>((false, []))

    func open() {
        let waiting = state.withLock { state in
            state.isOpen = true
            defer { state.waiting = [] }
            return state.waiting
        }
        for continuation in waiting { continuation.resume() }
    }

    /// Waits for the door to open; not ended by cancellation.
    func wait() async {
        await withCheckedContinuation { continuation in
            let isOpen = state.withLock { state in
                if !state.isOpen { state.waiting.append(continuation) }
                return state.isOpen
            }
            if isOpen { continuation.resume() }
        }
    }

    var isOpen: Bool { state.withLock { $0.isOpen } }
    /// How many tasks wait.
    var waiting: Int { state.withLock { $0.waiting.count } }
}

/// A semaphore for threads that may block.
@safe
final class Semaphore: @unchecked Sendable {
    // SAFETY: a sem_t may be used by any thread; it is freed with its last user.
    private let handle = UnsafeMutablePointer<sem_t>.allocate(capacity: 1)
    init() { unsafe sem_init(handle, 0, 0) }
    deinit {
        unsafe sem_destroy(handle)
        unsafe handle.deallocate()
    }
    func signal() { unsafe sem_post(handle) }
    func wait() { while unsafe sem_wait(handle) != 0 {} }
}

/// A thread without an event loop.
final class Thread: @unchecked Sendable {
    // SAFETY: `thread` is written before the initialiser returns, and used by join() only.
    private var thread = pthread_t()
    private let body: @Sendable () -> Void

    private init(_ body: @escaping @Sendable () -> Void) { self.body = body }

    /// Starts a thread that runs `body` once, and that nobody waits for.
    static func detach(_ body: @escaping @Sendable () -> Void) { pthread_detach(start(body).thread) }

    /// Starts a thread that runs `body` once; somebody must join it.
    static func start(_ body: @escaping @Sendable () -> Void) -> Thread {
        let thread = Thread(body)
        let argument = unsafe Unmanaged.passRetained(thread).toOpaque()
        let answer = unsafe pthread_create(
            &thread.thread, nil,
            { argument in
                unsafe Unmanaged<Thread>.fromOpaque(argument!).takeRetainedValue().body()
                return nil
            }, argument)
        #expect(answer == 0)
        return thread
    }

    /// Runs `body` on a thread of its own while the caller blocks.
    static func run(_ body: @escaping @Sendable () -> Void) { start(body).join() }

    func join() { pthread_join(thread, nil) }
}

/// Awaits `operation`, which must throw an `IOError`, and answers that.
func ioError<T>(
    sourceLocation: SourceLocation = #_sourceLocation, _ operation: () async throws -> T
) async -> IOError? {
    do {
        _ = try await operation()
        Issue.record("no error was thrown", sourceLocation: sourceLocation)
    } catch let error as IOError {
        return error
    } catch {
        Issue.record("\(error) was thrown, no IOError", sourceLocation: sourceLocation)
    }
    return nil
}

/// As `ioError`, for the value of a task.
func ioError<T>(
    of task: Task<T, any Error>, sourceLocation: SourceLocation = #_sourceLocation
) async -> IOError? {
    await ioError(sourceLocation: sourceLocation) { try await task.value }
}

/// Bytes that repeat only after a long while, so that every misplaced part shows.
func pattern(_ count: Int, from offset: Int = 0) -> [UInt8] {
    (offset..<offset + count).map { UInt8(truncatingIfNeeded: ($0 &* 2_654_435_761) >> 13) }
}

extension Logger {
    /// A logger whose lines, `level: message`, go to a journal.
    static func recording(in log: Journal<String>) -> Logger { Logger(label: "test") { _ in Recorder(log: log) } }
}

/// Keeps what is logged.
private struct Recorder: LogHandler {
    let log: Journal<String>
    var logLevel = Logger.Level.trace
    var metadata = Logger.Metadata()

    subscript(metadataKey key: String) -> Logger.Metadata.Value? {
        get { metadata[key] }
        set { metadata[key] = newValue }
    }

    init(log: Journal<String>) { self.log = log }

    func log(event: LogEvent) {
        log.add("\(event.level): \(event.message)")
    }
}
