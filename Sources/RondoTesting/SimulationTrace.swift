// What happened in a simulation, and its fingerprint. Two runs were the same if their fingerprints are.

import Rondo

/// One thing that the seed decided or the world answered.
public struct SimulationStep: Hashable, Sendable, CustomStringConvertible {
    /// What a step is.
    public enum Event: Hashable, Sendable {
        /// Of so many ready jobs this one ran.
        case pick(Int, of: Int)
        /// An operation completed, for good or (`more`) not.
        case completion(String, id: UInt64, result: Int32, bytes: Int, more: Bool)
    }

    /// Virtual time since the simulation's start.
    public var time: Duration
    /// What happened.
    public var event: Event

    public var description: String {
        switch event {
        case .pick(let choice, let candidates): "\(time): job \(choice + 1) of \(candidates)"
        case .completion(let kind, let id, let result, let bytes, let more):
            "\(time): \(kind) \(id & 0xffff_ffff).\(id >> 32) = \(result), \(bytes) bytes\(more ? ", more" : "")"
        }
    }
}

/// A hash over all steps (FNV-1a, 64 bits), and on demand the steps themselves.
struct SimulationTrace {
    /// The hash so far.
    private(set) var digest: UInt64 = 0xcbf2_9ce4_8422_2325
    /// How many steps there were.
    private(set) var stepCount: UInt64 = 0
    /// The steps, if they are kept.
    private(set) var steps: [SimulationStep] = []
    /// Whether they are.
    let keepsSteps: Bool

    init(keepsSteps: Bool) { self.keepsSteps = keepsSteps }

    mutating func add(pick: Int, of candidates: Int, at time: UInt64) {
        stepCount += 1
        mix(1, time, UInt64(pick), UInt64(candidates))
        if keepsSteps { append(.pick(pick, of: candidates), time) }
    }

    mutating func add(_ completion: Completion, of kind: Operation.Kind, at time: UInt64) {
        stepCount += 1
        mix(2 + UInt64(kind.rawValue) << 8, time, completion.operation.rawValue, completion.more ? 1 : 0)
        mix(UInt64(UInt32(bitPattern: completion.result)), UInt64(completion.slice.count))
        guard keepsSteps else { return }
        append(
            .completion(
                "\(kind)", id: completion.operation.rawValue, result: completion.result,
                bytes: Int(completion.slice.count), more: completion.more), time)
    }

    private mutating func append(_ event: SimulationStep.Event, _ time: UInt64) {
        steps.append(SimulationStep(time: .nanoseconds(time &- SimulatedWorld.startTime), event: event))
    }

    private mutating func mix(_ words: UInt64...) {
        for word in words {
            for shift in stride(from: 0, to: 64, by: 8) {
                digest = (digest ^ (word >> UInt64(shift) & 0xff)) &* 0x100_0000_01b3
            }
        }
    }
}
