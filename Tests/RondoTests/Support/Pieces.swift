// Byte streams without a kernel: bytes that come in chosen pieces, and a place where bytes go.

import Synchronization

@testable import Rondo

/// A source that hands out pieces; between them it may be cancelled.
final class Pieces: ByteSource {
    enum Step {
        case bytes([UInt8])
        case cancelled
    }
    private var steps: [Step]
    private var next = 0
    private(set) var reads = 0

    init(_ steps: [Step]) { self.steps = steps }

    init(_ text: String, size: Int = .max) {
        let bytes = Array(text.utf8)
        steps = Pieces.split(bytes, size)
    }

    init(_ bytes: [UInt8], size: Int) { steps = Pieces.split(bytes, size) }

    /// The bytes in pieces of sizes that a seed chooses, with cancellations in between.
    init(_ bytes: [UInt8], seed: UInt64) {
        var numbers = SeededNumbers(state: seed)
        steps = []
        var rest = bytes[...]
        while !rest.isEmpty {
            if numbers.below(4) == 0 { steps.append(.cancelled) }
            let count = min(rest.count, 1 + numbers.below(numbers.below(3) == 0 ? 40 : 4))
            steps.append(.bytes(Array(rest.prefix(count))))
            rest = rest.dropFirst(count)
        }
        steps.append(.cancelled)
    }

    private static func split(_ bytes: [UInt8], _ size: Int) -> [Step] {
        stride(from: 0, to: bytes.count, by: min(size, max(1, bytes.count))).map {
            .bytes(Array(bytes[$0..<($0 + min(size, bytes.count - $0))]))
        }
    }

    var subject: String { "the pieces" }

    func read(upTo limit: Int) async throws(IOError) -> ByteChunk? {
        reads += 1
        guard next < steps.count else { return nil }
        next += 1
        switch steps[next - 1] {
        case .cancelled: throw IOError("read from", subject, .cancelled)
        case .bytes(let bytes):
            if bytes.count <= limit { return ByteChunk(bytes) }
            next -= 1
            steps[next] = .bytes(Array(bytes.dropFirst(limit)))
            return ByteChunk(Array(bytes.prefix(limit)))
        }
    }
}

/// A sink that keeps what it is given, write by write.
final class Collected: ByteSink {
    private(set) var writes: [[UInt8]] = []
    private(set) var vectored = 0
    private(set) var isFinished = false
    var bytes: [UInt8] { writes.flatMap { $0 } }
    var failure: IOError?

    func write(_ bytes: RawSpan) async throws(IOError) {
        if let failure { throw failure }
        writes.append([UInt8](copying: bytes))
    }

    func write(_ head: RawSpan, _ body: RawSpan) async throws(IOError) {
        vectored += 1
        try await write(head)
        try await write(body)
    }

    func finishWriting() async throws(IOError) { isFinished = true }
}

/// Numbers from a seed.
struct SeededNumbers {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9e37_79b9_7f4a_7c15
        var word = state
        word = (word ^ word >> 30) &* 0xbf58_476d_1ce4_e5b9
        word = (word ^ word >> 27) &* 0x94d0_49bb_1331_11eb
        return word ^ word >> 31
    }

    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }
}

/// Runs `body` again for as long as it is cancelled: nothing may be lost in between.
func untilNotCancelled<Value>(_ body: () async throws(IOError) -> Value) async throws(IOError) -> Value {
    while true {
        do throws(IOError) {
            return try await body()
        } catch {
            if !error.isCancellation { throw error }
        }
    }
}
