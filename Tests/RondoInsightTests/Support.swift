// How tests record: a loop of any kind whose events go into memory, and what is read from that.

import Glibc
import RondoTesting
import Testing

@testable import Rondo
@testable import RondoInsight

/// Suites that must not disturb each other's descriptors and files.
@Suite(.serialized) enum InsightSuites {}

/// Where a recorded test runs.
enum TestWorld: String, CaseIterable, Codable, Sendable {
    case machine, epoll, simulated

    /// Runs `body` on a loop that records, and answers what it recorded.
    func record(capacity: Int = 10_000, _ body: @escaping @Sendable () async throws -> Void) throws -> TraceFile {
        let memory = try EventMemory(eventCapacity: capacity)
        let recorded: @Sendable () async throws -> Void = {
            await EventLoop.current!.record(into: memory)
            try await body()
            EventLoop.current!.recording = nil
        }
        switch self {
        case .simulated: try Simulation.run(seed: 1) { _ in try await recorded() }
        case .machine, .epoll:
            var configuration = LoopConfiguration()
            if self == .epoll { configuration.driver = .epoll }
            try EventLoop.run(configuration: configuration) { try await recorded() }
        }
        return try TraceFile(memory.bytes)
    }
}

extension TraceModel {
    func task(_ name: String, sourceLocation: SourceLocation = #_sourceLocation) throws -> Int {
        try #require(tasks.firstIndex { $0.name == name }, "no task \(name)", sourceLocation: sourceLocation)
    }

    func stretches(of task: Int) -> [TraceStretch] { stretches.filter { $0.task == task } }
}

/// A folder of this test's own, removed with all that is in it.
final class ScratchFolder: Sendable {
    let path: String

    init() throws {
        var template = Array("/tmp/rondo-test-XXXXXX".utf8CString)
        unsafe try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { Self.remove(path) }

    private static func remove(_ folder: String) {
        for name in names(in: folder) where unsafe unlink("\(folder)/\(name)") != 0 { remove("\(folder)/\(name)") }
        unsafe rmdir(folder)
    }

    /// Writes a file; its name is relative to the folder.
    func write(_ bytes: [UInt8], to name: String) throws {
        let file = unsafe try #require(fopen("\(path)/\(name)", "w"))
        _ = unsafe fwrite(bytes, 1, bytes.count, file)
        unsafe fclose(file)
    }

    static func names(in folder: String) -> [String] {
        guard let directory = unsafe opendir(folder) else { return [] }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }
}

/// The folder of the test executable, where the programs stand that tests start.
let productFolder: String = {
    var buffer = [UInt8](repeating: 0, count: 4096)
    let count = unsafe buffer.withUnsafeMutableBytes { bytes in
        unsafe readlink("/proc/self/exe", bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
    }
    return String(decoding: buffer.prefix(max(0, count)), as: UTF8.self).split(separator: "/").dropLast()
        .map { "/\($0)" }.joined()
}()
