// The worlds that a driver contract is held against, and a harness that plays the loop's part: it submits, waits and
// collects on the test's thread, and checks what holds for every operation of every driver: completions only while it
// is pending, exactly one of them the last.

import CRondo
import Glibc
import Synchronization
import SystemPackage
import Testing

@testable import Rondo

/// A driver on a kind of kernel.
enum DriverWorld: String, CaseIterable, Sendable, Codable, CustomTestStringConvertible {
    case uring
    /// io_uring without what later kernels brought: shared buffers, absolute waits.
    case uringOfLinux6_1
    case epoll
    /// epoll without `epoll_pwait2`.
    case epollOfLinux5_10

    /// Those that work here.
    static let usable: [DriverWorld] = allCases.filter { world in
        switch world {
        case .uring, .uringOfLinux6_1: Machine.uringFeatures != nil
        case .epoll, .epollOfLinux5_10: true
        }
    }

    var testDescription: String { rawValue }
    var isUring: Bool { self == .uring || self == .uringOfLinux6_1 }

    func makeDriver(pool: OffloadPool, buffers: ReceiveBuffers) throws -> any Driver {
        let reason = "a test wants it"
        switch self {
        case .uring:
            let choice = DriverChoice(kind: .uring, reason: reason, features: Machine.uringFeatures!)
            return try UringDriver(choice: choice, receiveBuffers: buffers, offload: pool)
        case .uringOfLinux6_1:
            let choice = DriverChoice(kind: .uring, reason: reason)
            return try UringDriver(choice: choice, receiveBuffers: buffers, offload: pool)
        case .epoll, .epollOfLinux5_10:
            let choice = DriverChoice(kind: .epoll, reason: reason)
            return try EpollDriver(
                choice: choice, receiveBuffers: buffers, offload: pool, allowsNanosecondWaits: self == .epoll)
        }
    }

    /// Makes the coming close of a socket reset its connection.
    func resetOnClose(_ descriptor: Descriptor) {
        var setting = linger(l_onoff: 1, l_linger: 0)
        let answer = unsafe setsockopt(
            descriptor.rawValue, SOL_SOCKET, SO_LINGER, &setting, socklen_t(MemoryLayout<linger>.size))
        #expect(answer == 0)
    }
}

/// One submitted operation, and all that came of it.
@safe
final class Flight {
    let id: OperationID
    let kind: Operation.Kind
    /// The result of the last completion.
    fileprivate(set) var result: Int32?
    /// Bytes received.
    fileprivate(set) var bytes: [UInt8] = []
    /// Slices received and not given back.
    fileprivate(set) var slices: [BufferSlice] = []
    /// Connections accepted.
    fileprivate(set) var descriptors: [Descriptor] = []
    /// Whether received slices are kept until `DriverHarness.releaseSlices`.
    var keepsSlices = false
    /// What the operation's pointers point to.
    private let memory: UnsafeMutableRawPointer?

    fileprivate init(_ id: OperationID, _ kind: Operation.Kind, memory: UnsafeMutableRawPointer?) {
        self.id = id
        self.kind = kind
        unsafe self.memory = unsafe memory
    }

    deinit { unsafe memory?.deallocate() }
}

/// A test that would wait for ever.
struct Stuck: Error, CustomStringConvertible {
    var description: String
}

/// Plays the loop's part for one driver.
final class DriverHarness {
    let world: DriverWorld
    let driver: any Driver
    let pool: OffloadPool
    private let deliveries = Deliveries()
    private var live: [OperationID: Flight] = [:]
    private var generations: [UInt32] = []
    private var freeSlots: [UInt32] = []
    /// How long a test may wait for anything.
    private static let patience: UInt64 = 30_000_000_000

    /// Finished calls on their way from the pool's threads.
    private final class Deliveries: Sendable {
        private let works = Lock<[OffloadWork]>([])
        func add(_ work: OffloadWork) { works.withLock { $0.append(work) } }
        func take() -> [OffloadWork] {
            works.withLock { works in
                defer { works = [] }
                return works
            }
        }
    }

    private struct Waker: @unchecked Sendable {
        // SAFETY: only `wake()` is called, which any thread may.
        let driver: any Driver
    }

    /// The buffers hold whatever a test sends: a kernel that receives by itself may fill them all in one wait.
    init(
        _ world: DriverWorld, buffers: ReceiveBuffers = ReceiveBuffers(initialCount: 1024), threads: Int = 2
    ) throws {
        self.world = world
        pool = OffloadPool(threadLimit: threads)
        driver = try world.makeDriver(pool: pool, buffers: buffers)
        let waker = Waker(driver: driver)
        pool.deliver = { [deliveries] work in
            deliveries.add(work)
            waker.driver.wake()
        }
    }

    /// Ends the harness, after the test has ended its operations.
    func finish(sourceLocation: SourceLocation = #_sourceLocation) {
        pool.close()
        for _ in 0..<3 { turn(until: 0) }
        #expect(live.values.map(\.kind) == [], "operations are left", sourceLocation: sourceLocation)
        #expect(driver.receiveBuffers.lentSlices == 0, "slices are lent out", sourceLocation: sourceLocation)
        driver.close()
        pool.deliver = nil
    }

    // MARK: The loop's part

    /// One wait, and all that has completed.
    func turn(until deadline: UInt64) {
        driver.wait(until: deadline)
        while let completion = driver.nextCompletion() { finish(completion) }
        for work in deliveries.take() {
            finish(Completion(operation: work.operation, result: work.result))
        }
    }

    /// Turns until `isDone`.
    func run(_ what: String = "a condition", until isDone: () -> Bool) throws {
        let limit = driver.now + Self.patience
        while !isDone() {
            turn(until: limit)
            if driver.now >= limit {
                throw Stuck(description: "waited for \(what) with pending: \(live.values.map(\.kind))")
            }
        }
    }

    /// Turns until an operation has ended.
    @discardableResult
    func result(of flight: Flight) throws -> Int32 {
        try run("the end of \(flight.kind)") { flight.result != nil }
        return flight.result!
    }

    /// Turns that do not wait, until nothing has come for a while. Proves nothing, but lets happen what can.
    func settle() {
        for _ in 0..<20 { turn(until: 0) }
    }

    func cancel(_ flight: Flight) { driver.cancel(flight.id) }

    private func finish(_ completion: Completion) {
        guard let flight = live[completion.operation] else {
            Issue.record("a completion for no operation: \(completion)")
            return
        }
        if completion.more {
            #expect(flight.kind == .receive || flight.kind == .accept, "more of \(flight.kind)")
        } else {
            flight.result = completion.result
            live[completion.operation] = nil
            freeSlots.append(completion.operation.slot)
        }
        switch flight.kind {
        case .receive where completion.result > 0:
            #expect(Int(completion.slice.count) == Int(completion.result))
            let bytes = unsafe driver.receiveBuffers.bytes(of: completion.slice)
            unsafe flight.bytes.append(contentsOf: bytes)
            if flight.keepsSlices {
                flight.slices.append(completion.slice)
            } else {
                driver.receiveBuffers.release(completion.slice)
            }
        case .accept where completion.result >= 0:
            flight.descriptors.append(Descriptor(rawValue: completion.result))
        default:
            #expect(!completion.more, "an error is the last completion")
        }
    }

    func releaseSlices(of flight: Flight) {
        for slice in flight.slices { driver.receiveBuffers.release(slice) }
        flight.slices = []
    }

    // MARK: Operations

    /// Submits an operation. `memory` is freed with the flight.
    func start(_ operation: Operation, memory: UnsafeMutableRawPointer? = nil) -> Flight {
        let slot = freeSlots.popLast() ?? UInt32(generations.count)
        if slot == generations.count { generations.append(0) }
        generations[Int(slot)] += 1
        let id = OperationID(slot: slot, generation: generations[Int(slot)])
        let flight = unsafe Flight(id, operation.kind, memory: memory)
        live[id] = flight
        unsafe driver.submit(operation, as: id)
        return flight
    }

    func perform(_ operation: Operation) throws -> Int32 { unsafe try result(of: start(operation)) }

    func accept(_ listener: Descriptor) -> Flight { unsafe start(.accept(listener)) }
    func receive(_ descriptor: Descriptor) -> Flight { unsafe start(.receive(descriptor)) }

    func connect(_ descriptor: Descriptor, to address: SocketAddress) -> Flight {
        let memory = UnsafeMutablePointer<SocketAddress>.allocate(capacity: 1)
        unsafe memory.initialize(to: address)
        return unsafe start(.connect(descriptor, memory), memory: UnsafeMutableRawPointer(memory))
    }

    /// Sends bytes that live as long as the process.
    func send(_ descriptor: Descriptor, _ bytes: UnsafeRawBufferPointer) -> Flight {
        unsafe start(.send(descriptor, bytes.baseAddress ?? UnsafeRawPointer(bitPattern: 1)!, count: bytes.count))
    }

    func send(_ descriptor: Descriptor, _ text: String) -> Flight {
        let bytes = Array(text.utf8)
        let memory = UnsafeMutableRawPointer.allocate(byteCount: max(1, bytes.count), alignment: 1)
        unsafe bytes.withUnsafeBytes { unsafe memory.copyMemory(from: $0.baseAddress!, byteCount: bytes.count) }
        return unsafe start(.send(descriptor, memory, count: bytes.count), memory: memory)
    }

    func close(_ descriptors: Descriptor...) throws {
        for descriptor in descriptors { unsafe #expect(try perform(.close(descriptor)) == 0) }
    }

    // MARK: Connections

    func makeListener(on address: SocketAddress = .loopback(port: 0), backlog: Int32 = 128) throws -> Descriptor {
        let listener = try driver.openSocket(for: address)
        try driver.listen(listener, on: address, backlog: backlog)
        return listener
    }

    /// A connection with both its ends here.
    func makeConnection(
        on address: SocketAddress = .loopback(port: 0)
    ) throws -> (client: Descriptor, server: Descriptor) {
        let listener = try makeListener(on: address)
        let client = try driver.openSocket(for: address)
        let connecting = connect(client, to: try driver.localAddress(of: listener))
        let accepting = accept(listener)
        #expect(try result(of: connecting) == 0)
        try run("a connection") { !accepting.descriptors.isEmpty }
        cancel(accepting)
        #expect(try result(of: accepting) == -ECANCELED)
        try close(listener)
        return (client, accepting.descriptors[0])
    }
}

/// Bytes whose order can be told, as many as any test sends.
enum Pattern {
    static let count = 16 << 20
    nonisolated(unsafe) private static let memory: UnsafeRawPointer = {
        let memory = UnsafeMutablePointer<UInt64>.allocate(capacity: count / 8)
        var word: UInt64 = 0x9e37_79b9_7f4a_7c15
        for index in 0..<count / 8 {
            word ^= word << 13
            word ^= word >> 7
            word ^= word << 17
            unsafe memory[index] = word
        }
        return UnsafeRawPointer(memory)
    }()

    static func bytes(_ range: Range<Int>) -> UnsafeRawBufferPointer {
        unsafe UnsafeRawBufferPointer(start: memory + range.lowerBound, count: range.count)
    }

    /// Whether `received` is what a sender of the pattern from `offset` on has sent.
    static func continues(at offset: Int, with received: [UInt8]) -> Bool {
        unsafe received.isEmpty || memcmp(memory + offset, received, received.count) == 0
    }
}

/// A thread of a test's own.
func startThread(_ body: @escaping @Sendable () -> Void) -> pthread_t {
    final class Body {
        let run: @Sendable () -> Void
        init(_ run: @escaping @Sendable () -> Void) { self.run = run }
    }
    var thread = pthread_t()
    let answer = unsafe pthread_create(
        &thread, nil,
        { argument in
            unsafe Unmanaged<Body>.fromOpaque(argument!).takeRetainedValue().run()
            return nil
        }, unsafe Unmanaged.passRetained(Body(body)).toOpaque())
    precondition(answer == 0, "no thread")
    return thread
}
