import Rondo

/// Why a simulation failed, and how to see it again.
public struct SimulationFailure: Error, CustomStringConvertible {
    /// What went wrong.
    public enum Cause: Sendable, CustomStringConvertible {
        /// The body threw this.
        case thrown(any Error)
        /// No task can go on. The operations are those that tasks still waited for.
        case deadlock(pending: [String])
        /// More virtual time passed than ``SimulationOptions/timeLimit``.
        case timeLimit(Duration)
        /// More steps were taken than ``SimulationOptions/stepLimit``.
        case stepLimit(UInt64)
        /// Two runs with the same seed were different, here first.
        case differentRuns(String)

        public var description: String {
            switch self {
            case .thrown(let error): return "\(error)"
            case .deadlock(let pending):
                let start = "all tasks wait and nothing will ever happen: no timer is set, no event is to come, "
                if pending.isEmpty {
                    return start + "and no operation is pending (do tasks wait for each other, or for a Task { } "
                        + "that has left the loop? Use task groups or Task(executorPreference: loop.executor), or "
                        + "set allowsForeignThreads)"
                }
                let shown = pending.prefix(20).joined(separator: ", ")
                let rest = pending.count > 20 ? " and \(pending.count - 20) more" : ""
                return start + "pending operations: \(shown)\(rest)"
            case .timeLimit(let limit):
                return "it did not end within \(limit) of virtual time (is there a loop that never ends?)"
            case .stepLimit(let limit):
                return "it did not end within \(limit) steps (does a task spin, without waiting for anything?)"
            case .differentRuns(let difference):
                return "two runs with this seed differ: \(difference) (does the program use addresses, hash order, "
                    + "random numbers of its own, or other threads? SWIFT_DETERMINISTIC_HASHING=1 fixes hash order)"
            }
        }
    }

    /// The seed with which it happens.
    public var seed: UInt64
    /// Virtual time from the start to the failure.
    public var time: Duration
    /// What went wrong.
    public var cause: Cause

    public var description: String {
        "simulation with seed \(seed) failed after \(time): \(cause)\n"
            + "Replay it with Simulation.run(seed: \(seed)), or with RONDO_SEED=\(seed) in the environment of the test."
    }
}
