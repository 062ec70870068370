public import Rondo

/// What a simulated world is like. The defaults make what is rare in a real world frequent.
public struct SimulationOptions: Sendable {
    /// In which order jobs run that are ready at the same time.
    public enum Order: Sendable {
        /// As the seed says.
        case seeded
        /// First in, first out, as on a real loop.
        case firstInFirstOut
    }

    /// In which order jobs run that are ready at the same time.
    public var order = Order.seeded
    /// How long a segment, an acknowledgement or a connection request travels.
    public var networkLatency: ClosedRange<Duration> = .microseconds(20) ... .milliseconds(5)
    /// How many bytes of a stream travel together.
    public var segmentSize: ClosedRange<Int> = 1...2048
    /// Bytes of one direction of a connection that are sent and not yet received. A sender waits when there are more.
    public var connectionCapacity = 64 * 1024
    /// One send in so many ends early, with a part of its bytes; 0 for none.
    public var partialSendOdds = 64
    /// How long a connect, a message or a piece of a stream takes through a Unix socket. Nothing is under way there: it
    /// is the caller that takes so long, and when its operation has ended the peer has everything. Who waits for a pipe
    /// learns after so long that it is ready.
    public var localLatency: ClosedRange<Duration> = .zero ... .microseconds(100)
    /// How long an operation on a file takes.
    public var fileLatency: ClosedRange<Duration> = .microseconds(5) ... .milliseconds(2)
    /// One read or write of a file in so many ends early, with a part of its bytes, and one long one of a pipe; 0 for
    /// none.
    public var partialFileOdds = 16
    /// How many bytes all files may hold together.
    public var fileCapacity = Int.max
    /// How long a call waits for a thread of the offload pool.
    public var offloadLatency: ClosedRange<Duration> = .microseconds(5) ... .milliseconds(2)
    /// How long a request to end an operation early takes. Half of these requests take no time.
    public var cancelLatency: ClosedRange<Duration> = .zero ... .milliseconds(1)
    /// The most descriptors that may be open.
    public var descriptorLimit = 65_536
    /// Virtual time after which the simulation fails: it probably never ends.
    public var timeLimit: Duration = .seconds(30 * 24 * 3600)
    /// Steps after which the simulation fails: a task probably spins.
    public var stepLimit: UInt64 = 20_000_000
    /// Whether threads outside of the simulation may resume its tasks. The run then depends on more than the seed, and
    /// a standstill is not noticed.
    public var allowsForeignThreads = false
    /// Whether every step is kept, for ``Simulation/trace``. The digest is there without.
    public var keepsTrace = false
    /// How the loop behaves.
    public var loop = LoopConfiguration()

    /// The size of a receive buffer.
    package var receiveBufferSize = 32 * 1024
    /// The most receive buffers; a power of two.
    package var receiveBufferLimit = 256

    public init() {}
}
