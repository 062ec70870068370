// What the memory of a Swift task says: read from outside, between two jobs of its loop.
//
// The layout is that of the runtime of Swift 6.3 (`rondo_knows_task_layout`), as `AsyncTask` in the runtime's sources
// (stdlib/public/Concurrency and include/swift/ABI) has it. All memory is copied by the kernel, so that an address that
// is stale answers nothing instead of ending the program.

import CRondo
import Glibc

/// A task as it was when it was looked at.
struct TaskMemory {
    /// What the runtime notes that a task waits for.
    enum Dependency {
        case task(UInt)
        case continuation, group, executor
    }

    /// Its address.
    let address: UInt
    let id: UInt64
    /// The task that it is a child of, by its address.
    let parent: UInt?
    let isGroupChild: Bool
    let isAsyncLet: Bool
    let priority: UInt8
    let isCancelled: Bool
    let isRunning: Bool
    let isReady: Bool
    let isComplete: Bool
    private(set) var name: String?
    /// Children by `async let`, by their addresses.
    private(set) var asyncLets: [UInt] = []
    let dependency: Dependency?
    /// The loop's note of the timer that it sleeps on.
    let timerNote: UInt64
    /// When it became ready or ran last, in the loop's units.
    let lastSeen: UInt32
    /// Where it will go on, and who called that, innermost first; empty while it runs.
    private(set) var stack: [UInt] = []

    private static let headerSize = 240
    private static let stackLimit = 64
    private static let recordLimit = 256
    private static let childLimit = 10_000

    /// - Returns: nil if there is no memory at the address.
    init?(at address: UInt) {
        guard let header = Memory(address, count: Self.headerSize) else { return nil }
        self.address = address
        let flags = header.load(32, UInt32.self)
        let status = header.load(96, UInt32.self)
        id = UInt64(header.load(144, UInt32.self)) << 32 | UInt64(header.load(36, UInt32.self))
        isAsyncLet = flags & 1 << 28 != 0
        isGroupChild = flags & 1 << 26 != 0
        parent = flags & 1 << 24 != 0 ? header.load(208, UInt.self) : nil
        priority = UInt8(truncatingIfNeeded: status)
        isCancelled = status & 0x100 != 0
        isRunning = status & 0x800 != 0
        isReady = status & 0x1000 != 0
        isComplete = status & 0x2000 != 0
        timerNote = header.load(48, UInt64.self)
        lastSeen = header.load(76, UInt32.self)
        dependency = status & 0x4000 != 0 ? Self.dependency(at: header.load(160, UInt.self)) : nil
        readRecords(header.load(104, UInt.self))
        if !isRunning && !isComplete {
            readStack(resume: header.load(56, UInt.self), context: header.load(64, UInt.self))
        }
    }

    /// A task's name, and nothing else of it.
    static func name(at address: UInt) -> String? {
        guard let first = Memory(address + 104, count: 8) else { return nil }
        var name: String?
        forEachRecord(first.load(0, UInt.self)) { kind, content in
            if kind == 6 { name = Memory.text(at: content) }
        }
        return name
    }

    private static func dependency(at address: UInt) -> Dependency? {
        guard let record = Memory(address, count: 40) else { return nil }
        switch record.load(32, UInt8.self) {
        case 1: return .task(record.load(16, UInt.self))
        case 2: return .continuation
        case 3: return .group
        case 4: return .executor
        default: return nil
        }
    }

    private mutating func readRecords(_ first: UInt) {
        Self.forEachRecord(first) { kind, content in
            switch kind {
            case 1: readAsyncLets(content)
            case 6: name = Memory.text(at: content)
            default: break
            }
        }
    }

    /// Status records are a list: kind, next, content.
    private static func forEachRecord(_ first: UInt, _ body: (_ kind: UInt8, _ content: UInt) -> Void) {
        var address = first
        var seen = 0
        while address != 0, seen < recordLimit, let record = Memory(address, count: 24) {
            seen += 1
            body(record.load(0, UInt8.self), record.load(16, UInt.self))
            address = record.load(8, UInt.self)
        }
    }

    private mutating func readAsyncLets(_ first: UInt) {
        var address = first
        while address != 0, asyncLets.count < Self.childLimit {
            asyncLets.append(address)
            guard let next = Memory(address + 216, count: 8) else { return }
            address = next.load(0, UInt.self)
        }
    }

    /// An async function's frame begins with its caller's frame and the place where the caller goes on.
    private mutating func readStack(resume: UInt, context: UInt) {
        // What waits at a continuation goes on where its frame says, too.
        if case .continuation? = dependency {} else { stack.append(resume) }
        var address = context
        while address != 0, stack.count < Self.stackLimit, let frame = Memory(address, count: 16) {
            let caller = frame.load(8, UInt.self)
            if caller == 0 { return }
            stack.append(caller)
            address = frame.load(0, UInt.self)
        }
    }
}

/// A copy of a piece of this process's memory.
struct Memory {
    private let bytes: [UInt8]

    init?(_ address: UInt, count: Int) {
        var isThere = false
        bytes = unsafe [UInt8](unsafeUninitializedCapacity: count) { buffer, filled in
            // SAFETY: the kernel fills `count` bytes, or answers that it can't.
            isThere = unsafe rondo_peek(address, buffer.baseAddress!, count) != 0
            filled = isThere ? count : 0
        }
        if !isThere { return nil }
    }

    func load<Value: BitwiseCopyable>(_ offset: Int, _ type: Value.Type) -> Value {
        // SAFETY: offsets are within what was copied; Array's own bounds are checked.
        unsafe bytes.withUnsafeBytes { unsafe $0.loadUnaligned(fromByteOffset: offset, as: type) }
    }

    /// A C string of at most 256 bytes.
    static func text(at address: UInt) -> String? {
        var text: [UInt8] = []
        while text.count < 256, let piece = Memory(address + UInt(text.count), count: 8) {
            if let end = piece.bytes.firstIndex(of: 0) {
                text += piece.bytes[..<end]
                break
            }
            text += piece.bytes
        }
        return text.isEmpty ? nil : String(decoding: text, as: UTF8.self)
    }
}
