// Where the tests run, and small things that many of them need.

import Glibc
import Rondo
import Synchronization
import Testing

@testable import RondoDatabase

/// Suites that must not disturb each other's descriptors.
@Suite(.serialized) enum DatabaseSuites {}

/// The drivers that test bodies run on: what the machine offers, and epoll.
enum LoopKind: String, CaseIterable, Sendable {
    case machine, epoll

    /// Runs `body` on a new loop, and checks that it leaves no descriptor behind.
    func run<T: Sendable>(
        sourceLocation: SourceLocation = #_sourceLocation, _ body: sending @escaping () async throws -> T
    ) throws -> T {
        var configuration = LoopConfiguration()
        if self == .epoll { configuration.driver = .epoll }
        let before = openDescriptors()
        let result = try EventLoop.run(configuration: configuration, body)
        // Other suites of the process have descriptors of their own, unless tests run one at a time.
        if unsafe getenv("RONDO_COUNT_DESCRIPTORS") != nil {
            // A thread of a pool may hold the loop for a moment after its end, and with it the descriptor that wakes
            // the loop: it gets the processor, and a great many looks.
            var after = openDescriptors()
            for _ in 0..<20_000 where after.count > before.count {
                sched_yield()
                after = openDescriptors()
            }
            #expect(after.count <= before.count, "\(before) became \(after)", sourceLocation: sourceLocation)
        }
        return result
    }
}

/// What the process has open.
private func openDescriptors() -> [String] {
    guard let folder = unsafe opendir("/proc/self/fd") else { return [] }
    defer { unsafe closedir(folder) }
    var found: [String] = []
    while let entry = unsafe readdir(folder) {
        let name = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { bytes in
            unsafe String(decoding: bytes.prefix { $0 != 0 }, as: UTF8.self)
        }
        var target = [CChar](repeating: 0, count: 512)
        let length = unsafe readlink("/proc/self/fd/\(name)", &target, target.count)
        guard name != ".", name != "..", length > 0 else { continue }
        let path = String(decoding: target[..<length].map { UInt8(bitPattern: $0) }, as: UTF8.self)
        if !path.hasPrefix("/proc/") { found.append("\(name) \(path)") }
    }
    return found.sorted()
}

/// Starts a task on the loop that the caller runs on.
@discardableResult
func start<T: Sendable>(_ body: sending @escaping () async throws -> T) -> Task<T, any Error> {
    Task(executorPreference: EventLoop.current!.executor, operation: body)
}

/// Something that several tasks change.
final class Shared<State: Sendable>: Sendable {
    private let state: Mutex<State>
    init(_ state: State) { self.state = Mutex(state) }
    var value: State { state.withLock { $0 } }
    func change(_ body: (inout State) -> Void) { state.withLock { body(&$0) } }
}

/// The `SQLError` that `body` throws.
func failure(
    sourceLocation: SourceLocation = #_sourceLocation, _ body: () async throws -> Void
) async throws -> SQLError {
    do {
        try await body()
    } catch let error as SQLError {
        return error
    }
    Issue.record("nothing was thrown", sourceLocation: sourceLocation)
    return SQLError("throw", "nothing", .closed)
}

/// Waits for something that another process does, asking again and again.
func waitUntil(_ condition: () async throws -> Bool) async throws {
    while try await !condition() { await EventLoop.yield() }
}

/// Runs a shell command, blocking, and answers what it printed.
func shell(_ command: String) throws -> String {
    struct Failed: Error { var output: String }
    let pipe = unsafe popen("{ \(command)\n} 2>&1", "re")
    guard let pipe = unsafe pipe else { throw Failed(output: "popen failed") }
    var output: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
        let count = unsafe fread(&buffer, 1, buffer.count, pipe)
        if count == 0 { break }
        output.append(contentsOf: buffer[..<count])
    }
    let status = unsafe pclose(pipe)
    let text = String(decoding: output, as: UTF8.self)
    if status != 0 { throw Failed(output: "\(command): status \(status): \(text)") }
    return text
}

/// A folder of this test's own, removed with all that is in it.
final class ScratchFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/rondo-test-XXXXXX".utf8CString)
        unsafe try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { _ = try? shell("rm -rf '\(path)'") }
}
