@testable import Rondo

/// Memory in the shape of a job, for the queues that never run what they hold.
@safe
final class FakeJobs {
    // SAFETY: each job has 80 bytes, as much as the runtime's have, and all are freed together in deinit.
    private let memory: UnsafeMutableRawPointer
    private static let size = 80

    init(count: Int, priority: (Int) -> UInt8 = { _ in 21 }) {
        unsafe memory = .allocate(byteCount: count * Self.size, alignment: 16)
        unsafe memory.initializeMemory(as: UInt8.self, repeating: 0, count: count * Self.size)
        for number in 0..<count {
            // The job's flags: kind 0 (a task), its priority in the second byte.
            unsafe memory.storeBytes(
                of: UInt32(priority(number)) << 8, toByteOffset: number * Self.size + 32, as: UInt32.self)
        }
    }

    deinit { unsafe memory.deallocate() }

    subscript(_ number: Int) -> UnownedJob {
        JobReference(bits: unsafe UInt(bitPattern: memory + number * Self.size))!.job
    }

    /// Which job this is.
    func number(of job: UnownedJob) -> Int {
        unsafe Int(JobReference(job).bits - UInt(bitPattern: memory)) / Self.size
    }
}
