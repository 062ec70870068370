// A whole program on a loop, for the tests to start. It prints a line for each way to run code, `ok` if that ran on
// the loop's thread, `LEAK` if it did not. With an argument it shows how a program ends, or what it leaves in memory.

import CTestSupport
import Glibc
import Rondo

@main
enum Main {
    static func main() {
        switch CommandLine.arguments.dropFirst().first {
        case "throws": EventLoop.runProgram { throw Failure() }
        case "returns": EventLoop.runProgram { try await Task.sleep(for: .microseconds(1)) }
        case "memory": EventLoop.runProgram { try await checkMemory() }
        case "memory-in-scope":
            do { try EventLoop.run { try await checkMemory() } } catch { print("LEAK \(error)") }
        default: TakeoverProbe.main()
        }
    }
}

struct Failure: Error, CustomStringConvertible { var description: String { "it was not to be" } }

/// The thread that the program began on.
let home = test_thread_id()
func isHome() -> Bool { test_thread_id() == home }

struct TakeoverProbe: RondoProgram {
    func run() async throws {
        _ = home
        var leaks = 0
        for check in checks {
            let isHomeAfter: Bool
            do { isHomeAfter = try await check.body() && isHome() } catch { isHomeAfter = false }
            print(isHomeAfter ? "ok" : "LEAK", check.name)
            if !isHomeAfter { leaks += 1 }
        }
        if leaks > 0 { throw Failure() }
    }
}

struct Check: Sendable {
    let name: String
    let body: @Sendable () async throws -> Bool
    init(_ name: String, _ body: @escaping @Sendable () async throws -> Bool) {
        self.name = name
        self.body = body
    }
}

private let checks: [Check] = taskChecks + actorChecks + sleepChecks + algorithmChecks + lastChecks

private let taskChecks = [
    Check("run") { isHome() },
    Check("Task") { await Task { isHome() }.value },
    Check("Task of every priority") {
        for priority in [TaskPriority.background, .utility, .low, .medium, .high, .userInitiated] {
            if await !Task(priority: priority, operation: { isHome() }).value { return false }
        }
        return true
    },
    Check("Task.detached") { await Task.detached { isHome() }.value },
    Check("Task.immediate") {
        await Task.immediate {
            await Task.yield()
            return isHome()
        }.value
    },
    Check("task group") {
        await withTaskGroup { group in
            for _ in 0..<20 { group.addTask { isHome() } }
            return await group.reduce(true) { $0 && $1 }
        }
    },
    Check("throwing task group") {
        try await withThrowingTaskGroup { group in
            for _ in 0..<20 {
                group.addTask {
                    await Task.yield()
                    return isHome()
                }
            }
            var all = true
            for try await isRight in group { all = all && isRight && isHome() }
            return all
        }
    },
    Check("discarding task group") {
        let count = Count()
        await withDiscardingTaskGroup { group in for _ in 0..<20 { group.addTask { await count.add(isHome()) } } }
        return await count.value == 20
    },
    Check("throwing discarding task group") {
        let count = Count()
        try await withThrowingDiscardingTaskGroup { group in
            for _ in 0..<20 { group.addTask { await count.add(isHome()) } }
        }
        return await count.value == 20
    },
    Check("async let") {
        async let first = isHome()
        async let second = isHome()
        let both = await (first, second)
        return both.0 && both.1
    },
    Check("Task.yield") {
        await Task.yield()
        return isHome()
    },
    Check("EventLoop.yield") {
        await EventLoop.yield()
        return isHome() && EventLoop.current != nil
    },
    Check("concurrent function") { await concurrent() },
    Check("withTaskExecutorPreference") {
        let executor = EventLoop.current!.executor
        return await withTaskExecutorPreference(executor) {
            await Task.yield()
            return isHome()
        }
    },
    Check("withTaskExecutorPreference nil") { await withTaskExecutorPreference(nil) { await concurrent() } },
    Check("cancellation handler") {
        let task = Task {
            await withTaskCancellationHandler {
                try? await Task.sleep(for: .seconds(3600))
                return isHome()
            } onCancel: {
                if !isHome() { print("LEAK onCancel") }
            }
        }
        await Task.yield()
        task.cancel()
        return await task.value
    },
]

private let actorChecks = [
    Check("actor") { await Count().isHomeInside() },
    Check("contended actor") {
        let count = Count()
        await withDiscardingTaskGroup { group in
            for _ in 0..<50 { group.addTask { await count.addSlowly() } }
        }
        return await count.value == 50
    },
    Check("global actor") { await onOwnGlobalActor() },
    Check("MainActor function") { await onMainActor() },
    Check("MainActor.run") { await MainActor.run { isHome() } },
    Check("Task on MainActor") { await Task { @MainActor in isHome() }.value },
    Check("detached to MainActor") { await Task.detached { await onMainActor() }.value },
    Check("MainActor.assumeIsolated") {
        await MainActor.run { MainActor.assumeIsolated { isHome() } }
    },
    Check("AsyncStream") {
        let (stream, feed) = AsyncStream<Bool>.makeStream()
        Task.detached {
            for _ in 0..<20 {
                feed.yield(isHome())
                await Task.yield()
            }
            feed.finish()
        }
        var all = true
        for await isRight in stream { all = all && isRight && isHome() }
        return all
    },
]

private let sleepChecks = [
    Check("Task.sleep continuous") {
        try await Task.sleep(for: .microseconds(10))
        return isHome()
    },
    Check("Task.sleep suspending") {
        try await Task.sleep(for: .microseconds(10), clock: .suspending)
        return isHome()
    },
    Check("Task.sleep until") {
        try await Task.sleep(until: .now + .microseconds(10), clock: .continuous)
        return isHome()
    },
    Check("Task.sleep nanoseconds") {
        try await Task.sleep(nanoseconds: 10_000)
        return isHome()
    },
    Check("ContinuousClock.sleep") {
        try await ContinuousClock().sleep(for: .microseconds(10))
        return isHome()
    },
    Check("SuspendingClock.sleep") {
        try await SuspendingClock().sleep(for: .microseconds(10))
        return isHome()
    },
    Check("withTimeout") {
        try await withTimeout(.seconds(3600)) {
            try await Task.sleep(for: .microseconds(10))
            return isHome()
        }
    },
]

private let lastChecks = [
    // Nothing so far has needed another thread.
    Check("one thread") { threadCount() == 1 },
    Check("continuation from a thread") {
        await withCheckedContinuation { continuation in resumeOnAThread(continuation) }
        return isHome()
    },
    Check("offload") {
        let isElsewhere = try await offload { !isHome() }
        return isElsewhere && isHome()
    },
    Check("a loop of its own") {
        let isElsewhere = try await withEventLoop { _ in
            try await Task.sleep(for: .microseconds(10))
            return !isHome()
        }
        return isElsewhere && isHome()
    },
]

@concurrent
private func concurrent() async -> Bool { isHome() }

@MainActor
private func onMainActor() async -> Bool {
    await Task.yield()
    return isHome()
}

@globalActor
actor OwnGlobalActor { static let shared = OwnGlobalActor() }

@OwnGlobalActor
private func onOwnGlobalActor() async -> Bool {
    await Task.yield()
    return isHome()
}

actor Count {
    var value = 0
    func add(_ isRight: Bool) { if isRight, isHome() { value += 1 } }
    func addSlowly() async {
        await Task.yield()
        add(isHome())
    }
    func isHomeInside() -> Bool { isHome() }
}

private func resumeOnAThread(_ continuation: CheckedContinuation<Void, Never>) {
    final class Box {
        let continuation: CheckedContinuation<Void, Never>
        init(_ continuation: CheckedContinuation<Void, Never>) { self.continuation = continuation }
    }
    var thread = pthread_t()
    let argument = unsafe Unmanaged.passRetained(Box(continuation)).toOpaque()
    unsafe pthread_create(
        &thread, nil,
        { argument in
            if isHome() { print("LEAK the new thread is the loop's") }
            unsafe Unmanaged<Box>.fromOpaque(argument!).takeRetainedValue().continuation.resume()
            return nil
        }, argument)
    pthread_detach(thread)
}

private func threadCount() -> Int {
    guard let folder = unsafe opendir("/proc/self/task") else { return 0 }
    defer { unsafe closedir(folder) }
    var count = -2
    while unsafe readdir(folder) != nil { count += 1 }
    return count
}

/// 20,000 cancelled sleeps of an hour must leave nothing behind. (The test library keeps a note of each error that is
/// thrown, so this can't be seen in a test's own process.)
private func checkMemory() async throws {
    let executor = EventLoop.current!.executor
    func sleepAndCancel() async {
        let tasks = (0..<2000).map { _ in
            Task(executorPreference: executor) { try await Task.sleep(for: .seconds(3600)) }
        }
        for _ in 0..<4 { await EventLoop.yield() }
        for task in tasks { task.cancel() }
        for task in tasks { _ = await task.result }
        for _ in 0..<4 { await EventLoop.yield() }
    }
    for _ in 0..<3 { await sleepAndCancel() }
    let before = test_allocated_bytes()
    for _ in 0..<10 { await sleepAndCancel() }
    let growth = Int(test_allocated_bytes()) - Int(before)
    print(growth < 1_000_000 ? "ok" : "LEAK", "memory of cancelled sleeps: \(growth) bytes")
}
