import CRondo
public import Logging

/// How an event loop is to behave. The defaults are right for almost every program.
public struct LoopConfiguration: Sendable {
    /// The driver to use; nil lets `RONDO_DRIVER` decide, and else what works here.
    public var driver: DriverKind?
    /// The most jobs that run before the loop looks at its input and output again.
    public var batchJobs = 1024
    /// The longest time for which jobs run before the loop looks at its input and output again. A job that runs is
    /// never interrupted, so one hog can take longer.
    public var batchTime: Duration = .milliseconds(1)
    /// Operations that a job may finish without waiting before it must let others go first.
    public var operationBudget = 128
    /// How long a job may compute before `yieldIfNeeded()` gives up the loop.
    public var timeSlice: Duration = .microseconds(500)
    /// How long a job may keep the loop before it is reported as a hog, with the function that it is in: by the logger,
    /// and by `rondo ps`. In a ``RondoProgram`` that may be looked at; exact to about 20 ms.
    public var hogTime: Duration = .milliseconds(50)
    /// The most threads for `offload { }`.
    public var offloadThreads = max(4, Int(rondo_processor_count()) * 2)
    /// Whether what happens on the loop is recorded in a file of fixed size, for `rondo trace`.
    public var recorder: RecorderSetting = .automatic
    /// How much memory the record of each loop takes; all loops of a program take 64 MB at most, unless this is more.
    public var recorderMegabytes = 4
    /// Where the loop reports what it decides.
    public var logger: Logger

    /// Whether the loop knows which tasks are alive and since when they do what they do: for `rondo ps`.
    package var tracksTasks = false
    /// The most receive buffers of 32 KB that there may be; a power of two.
    package var receiveBufferLimit = 4096
    /// The most pipes that bytes are moved through at a time; each takes up to 1 MB of the kernel's memory while a sink
    /// is slow.
    package var transferPipeLimit = 16
    /// After how many bytes that came close together a copy between sockets moves them through a pipe.
    package var bulkThreshold = 1 << 20
    /// Makes the driver instead of what the choice says: the entrance for simulations.
    package var makeDriver: (@Sendable (OffloadPool) throws(IOError) -> any Driver)?
    /// Chooses among ready jobs of a class, given how many there are: for simulations.
    package var tieBreak: (@Sendable (Int) -> Int)?

    public init() { logger = Logger(label: "rondo") }
}
