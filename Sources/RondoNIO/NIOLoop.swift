// The NIO face of a Rondo loop: what NIO asks of an event loop, answered by the loop that the program already runs on.
// It owns no thread, polls nothing and never waits: closures become jobs of the loop, deadlines become its sleeps.

public import Dispatch
import Glibc
public import NIOCore
public import Rondo
import Synchronization

extension Rondo.EventLoop {
    /// This loop as NIO sees it. There is one such face for each loop; ask from any thread.
    public var nio: NIOLoop { NIOLoop.face(of: self) }
}

/// A Rondo loop, as a NIO `EventLoop`.
///
/// What NIO's channels, futures and handlers do with it happens on the loop's own thread, in turns with all other tasks
/// of the loop. It may be used from any thread.
///
/// After the Rondo loop has ended, closures and scheduled tasks still run, one at a time, on Swift's own executor:
/// nothing that waits for a promise waits for ever.
@safe
public final class NIOLoop: NIOSerialEventLoopExecutor, @unchecked Sendable {
    // SAFETY: `loop` and `taskExecutor` never change; `standIn` and `queue` guard themselves; everything else is
    // touched on the loop's thread only, which each method makes sure of. After the loop's end the one drain job
    // stands in for that thread.

    /// The loop behind this face.
    public let loop: Rondo.EventLoop
    /// Where the loop's tasks run. It outlives the loop.
    let taskExecutor: any TaskExecutor
    /// The thread that stands in for the loop's after its end, as `pthread_self()` gives it; 0 for none.
    private let standIn = Atomic<UInt>(0)
    private let queue = Mutex(Queue())

    /// The tasks to be run at a time.
    var timers = TimerHeap()
    /// The task that sleeps until the earliest of them, and until when.
    var sleeper: (task: Task<Void, Never>, deadline: NIODeadline)?
    /// Everything that `shutdownGracefully` closes.
    private var channels: [ObjectIdentifier: any Channel] = [:]
    /// Whether `shutdownGracefully` was called.
    private(set) var isShutDown = false
    /// What received bytes are copied to for the pipeline; a new one is made if a handler keeps it.
    var readBuffer = ByteBuffer()
    /// What small writes are put together in, when nothing else uses it.
    var mergeBuffers: [ByteBuffer] = []

    private struct Queue {
        var entries: [Entry] = []
        /// Whether a job that will run them is under way.
        var isScheduled = false
    }

    private enum Entry {
        case closure(@Sendable () -> Void)
        case job(UnownedJob)
    }

    private init(_ loop: Rondo.EventLoop) {
        self.loop = loop
        taskExecutor = loop.executor
    }

    // MARK: One for each loop

    private struct Weak {
        weak var face: NIOLoop?
    }

    private static let faces = Mutex<[ObjectIdentifier: Weak]>([:])

    static func face(of loop: Rondo.EventLoop) -> NIOLoop {
        faces.withLock { faces in
            if let face = faces[ObjectIdentifier(loop)]?.face { return face }
            faces = faces.filter { $0.value.face != nil }
            let face = NIOLoop(loop)
            faces[ObjectIdentifier(loop)] = Weak(face: face)
            return face
        }
    }

    /// The face of the loop that the caller runs on, if it runs on one.
    public static var current: NIOLoop? { Rondo.EventLoop.current?.nio }

    // MARK: Where we are

    /// Whether the caller is on the loop's thread.
    public var inEventLoop: Bool { loop.isCurrent || standIn.load(ordering: .relaxed) == UInt(pthread_self()) }

    public func isIsolatingCurrentContext() -> Bool? { inEventLoop }

    // MARK: Closures and jobs

    /// Runs `task` on the loop, after everything that was handed over before it.
    public func execute(_ task: @escaping @Sendable () -> Void) { add(.closure(task)) }

    public func enqueue(_ job: consuming ExecutorJob) { add(.job(UnownedJob(job))) }

    private func add(_ entry: Entry) {
        let mustSchedule = queue.withLock { queue in
            queue.entries.append(entry)
            defer { queue.isScheduled = true }
            return !queue.isScheduled
        }
        if mustSchedule {
            Task.detached(name: "NIO loop", executorPreference: taskExecutor) { await self.drain() }
        }
    }

    /// Runs what is in the queue, and what is added meanwhile, but lets the loop's other tasks have their turns.
    private func drain() async {
        var entries: [Entry] = []
        while true {
            queue.withLock { swap(&$0.entries, &entries) }
            if loop.isCurrent {
                run(entries)
            } else {
                standIn.store(UInt(pthread_self()), ordering: .relaxed)
                run(entries)
                standIn.store(0, ordering: .relaxed)
            }
            entries.removeAll(keepingCapacity: true)
            let isDone = queue.withLock { queue in
                queue.isScheduled = !queue.entries.isEmpty
                return queue.entries.isEmpty
            }
            if isDone { return }
            await Rondo.EventLoop.yield()
        }
    }

    private func run(_ entries: [Entry]) {
        for entry in entries {
            switch entry {
            case .closure(let closure): closure()
            case .job(let job):
                // SAFETY: the job was given up to this executor, and each is run once.
                unsafe job.runSynchronously(on: asUnownedSerialExecutor())
            }
        }
    }

    // MARK: As a group

    public func next() -> any NIOCore.EventLoop { self }

    public func any() -> any NIOCore.EventLoop { self }

    public func makeIterator() -> EventLoopIterator { EventLoopIterator([self]) }

    // MARK: The end

    /// Closes all channels of this face, fails its scheduled tasks, and calls back. The Rondo loop goes on: its end is
    /// the business of whoever runs it. Channels that are made afterwards are refused.
    public func shutdownGracefully(queue: DispatchQueue, _ callback: @escaping @Sendable ((any Error)?) -> Void) {
        execute {
            self.isShutDown = true
            for timer in self.timers.removeAll() { timer.complete(EventLoopError.shutdown) }
            let closed = self.channels.values.map { channel in
                channel.close(promise: nil)
                return channel.closeFuture
            }
            EventLoopFuture.andAllComplete(closed, on: self).whenComplete { _ in queue.async { callback(nil) } }
        }
    }

    /// Notes a channel that lives here.
    func add(_ channel: any Channel) { channels[ObjectIdentifier(channel)] = channel }

    /// A channel has closed.
    func remove(_ channel: any Channel) { channels[ObjectIdentifier(channel)] = nil }

    // MARK: Buffers

    /// How large a buffer to merge writes in is.
    static let mergeCapacity = 64 * 1024

    /// An empty buffer for some writes that go out together.
    func takeMergeBuffer() -> ByteBuffer {
        mergeBuffers.popLast() ?? ByteBufferAllocator().buffer(capacity: Self.mergeCapacity)
    }

    /// Takes one back. A few are kept: as many as writes of different channels go out in one turn, usually.
    func giveBack(_ buffer: inout ByteBuffer) {
        guard mergeBuffers.count < 16 else { return }
        buffer.clear()
        mergeBuffers.append(buffer)
    }
}
