// A program with a thousand named tasks in known states, for the tests of `rondo ps`; with the argument `hog`, one with
// a task that keeps the loop for 200 ms, for each line of its input. It prints what is true of each of
// them, a line each (name, what it waits for, its parent's name), then `ready`, and stays until its input ends.

import Glibc
import Rondo
import Synchronization
import SystemPackage

@main
struct InspectProbe: RondoProgram {
    func run() async throws {
        if CommandLine.arguments.contains("hog") {
            print("ready")
            for try await _ in BufferedReader(try StandardStreams.input()).lines() {
                await Task(name: "the hog") { await Kitchen().cook() }.value
            }
            exit(0)
        }
        let truth = Truth()
        let gate = AsyncEvent()
        var tasks: [Task<Void, any Error>] = []
        func start(_ name: String, _ wait: String, _ body: sending @escaping () async throws -> Void) {
            truth.note(name, wait)
            tasks.append(Task(name: name) { try await body() })
        }
        for number in 0..<300 { start("sleeper \(number)", "sleep") { try await Task.sleep(for: .seconds(3600)) } }
        for number in 0..<100 { start("visitor \(number)", "continuation") { try await gate.wait() } }
        for number in 0..<20 {
            start("outer \(number)", "group") {
                try await withThrowingTaskGroup { group in
                    for child in 0..<10 {
                        let name = "inner \(number).\(child)"
                        truth.note(name, "continuation", parent: "outer \(number)")
                        group.addTask(name: name) { try await gate.wait() }
                    }
                    try await group.waitForAll()
                }
            }
        }
        for number in 0..<50 {
            start("letter \(number)", "task") {
                async let first: Void = gate.wait()
                async let second: Void = Task.sleep(for: .seconds(3600))
                _ = try await (first, second)
            }
        }
        start("forgotten", "continuation") { await forgetToResume() }
        let bank = Bank(gate)
        for number in 0..<100 { start("customer \(number)", "continuation") { try await bank.serve() } }
        try await startOnSockets(start)
        // Four have a thread of the pool, the others stand in its queue.
        let door = Door()
        for number in 0..<10 { start("cook \(number)", "offload") { try await offload { door.waitUntilOpen() } } }
        let slow = Task(name: "slow") { try await Task.sleep(for: .seconds(3600)) }
        truth.note("slow", "sleep")
        for number in 0..<100 { start("waiter \(number)", "task") { try await slow.value } }
        // All of them have come to where they wait.
        for _ in 0..<10 { await EventLoop.yield() }
        try await Task.sleep(for: .milliseconds(20))
        for line in truth.lines { print(line) }
        print("ready")
        fflush(nil)
        _ = try await StandardStreams.input().readToEnd(limit: 1 << 20)
        door.open()
        for task in tasks { task.cancel() }
        exit(0)
    }

    @inline(never)
    func forgetToResume() async {
        // SAFETY: it is never resumed; that is the point. The program ends with it.
        await unsafe withUnsafeContinuation { (_: UnsafeContinuation<Void, Never>) in }
    }

    /// A listener that nobody calls, and readers that nobody writes to.
    func startOnSockets(
        _ start: (String, String, sending @escaping () async throws -> Void) -> Void
    ) async throws {
        let listener = try await TCPListener.listen(on: .loopback(port: 0))
        for number in 0..<120 {
            let client = try await TCPStream.connect(to: listener.localAddress)
            let server = try await listener.accept()
            start("reader \(number)", "receive \(try server.localAddress)") {
                _ = try await client.read()
                await server.close()
            }
        }
        start("acceptor", "accept \(listener.localAddress)") { _ = try await listener.accept() }
    }
}

actor Bank {
    private let gate: AsyncEvent
    init(_ gate: AsyncEvent) { self.gate = gate }
    @inline(never) func serve() async throws { try await gate.wait() }
}

struct Kitchen {
    @inline(never)
    func cook() async {
        await EventLoop.yield()
        peelPotatoes(for: .milliseconds(200))
        await EventLoop.yield()
    }

    @inline(never)
    func peelPotatoes(for time: Duration) {
        let end = ContinuousClock.now + time
        while ContinuousClock.now < end {}  // the line that the watchdog must find is this one, or the one above
    }
}

/// What is true of the tasks.
final class Truth: Sendable {
    private let noted = Mutex<[String]>([])
    var lines: [String] { noted.withLock { $0 } }
    func note(_ name: String, _ wait: String, parent: String = "") {
        noted.withLock { $0.append("\(name)|\(wait)|\(parent)") }
    }
}

/// Threads stand before it until it is opened.
final class Door: @unchecked Sendable {
    // SAFETY: a pipe's ends may be used by any thread.
    private var ends: [Int32] = [0, 0]
    init() { unsafe pipe(&ends) }
    func waitUntilOpen() {
        var byte: UInt8 = 0
        // SAFETY: reads at most one byte into one byte.
        _ = unsafe read(ends[0], &byte, 1)
    }
    func open() { close(ends[1]) }
}
