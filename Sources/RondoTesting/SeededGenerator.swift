import Rondo

/// A stream of random numbers that is the same for the same seed, everywhere and in every version.
///
/// It is SplitMix64 (Steele, Lea, Flood: Fast splittable pseudorandom number generators, 2014).
public struct SeededGenerator: RandomNumberGenerator, Sendable {
    private var state: UInt64

    /// A stream by its number. Neighbouring seeds have unrelated streams.
    public init(seed: UInt64) { state = seed }

    /// The next 64 bits of the stream.
    public mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xbf58_476d_1ce4_e5b9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94d0_49bb_1331_11eb
        return mixed ^ (mixed >> 31)
    }

    /// A number from 0 to `limit` − 1. The standard library's own way may change with its version; this one does not.
    mutating func below(_ limit: UInt64) -> UInt64 { next().multipliedFullWidth(by: limit).high }

    /// A number of `range`.
    mutating func number(in range: ClosedRange<Int>) -> Int {
        range.lowerBound + Int(below(UInt64(range.upperBound - range.lowerBound) + 1))
    }

    /// True once in `odds` times; never if `odds` is 0.
    mutating func chance(oneIn odds: Int) -> Bool { odds > 0 && below(UInt64(odds)) == 0 }

    /// Nanoseconds of a span of time.
    mutating func nanoseconds(in range: ClosedRange<Duration>) -> UInt64 {
        let first = range.lowerBound.nanosecondsRoundedUp
        return first + below(range.upperBound.nanosecondsRoundedUp - first + 1)
    }
}
