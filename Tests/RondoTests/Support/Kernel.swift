// What tests look up in the real kernel: folders, links, memory, child processes.

import CTestSupport
import Glibc
import Testing

/// The names in a folder; empty if it can't be read.
func names(in folder: String) -> [String] {
    guard let directory = unsafe opendir(folder) else { return [] }
    defer { unsafe closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
        let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
            unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
        }
        if name != ".", name != ".." { names.append(name) }
    }
    return names
}

/// What a symbolic link points to.
func linkTarget(_ path: String) -> String? {
    var text = [UInt8](repeating: 0, count: 4096)
    let count = unsafe text.withUnsafeMutableBytes {
        unsafe readlink(path, $0.baseAddress!.assumingMemoryBound(to: CChar.self), $0.count)
    }
    return count < 0 ? nil : String(decoding: text[..<count], as: UTF8.self)
}

/// All bytes of a small file, by plain blocking calls.
func contents(ofFile path: String) -> [UInt8]? {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC)
    guard descriptor >= 0 else { return nil }
    defer { close(descriptor) }
    return bytes(from: descriptor)
}

private func bytes(from descriptor: Int32) -> [UInt8] {
    var all: [UInt8] = []
    var part = [UInt8](repeating: 0, count: 65_536)
    while true {
        let count = unsafe part.withUnsafeMutableBytes { unsafe read(descriptor, $0.baseAddress, $0.count) }
        if count < 0, errno == EINTR { continue }
        if count <= 0 { return all }
        all.append(contentsOf: part[..<count])
    }
}

/// A folder of this test's own, removed with all that is in it.
final class TemporaryFolder: Sendable {
    static let prefix = "rondo-test-"
    let path: String

    init(in parent: String = "/tmp") {
        var template = Array("\(parent)/\(Self.prefix)XXXXXX".utf8CString)
        let made = unsafe mkdtemp(&template) != nil
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
        #expect(made, "no temporary folder at \(path)")
    }

    deinit { Self.remove(path) }

    private static func remove(_ folder: String) {
        for name in names(in: folder) {
            let path = "\(folder)/\(name)"
            if unsafe unlink(path) != 0 { remove(path) }
        }
        unsafe rmdir(folder)
    }
}

/// How many files in a folder this process has open.
func openFiles(in folder: TemporaryFolder) -> Int {
    names(in: "/proc/self/fd").count { linkTarget("/proc/self/fd/\($0)")?.hasPrefix(folder.path + "/") == true }
}

/// Bytes that malloc has given out and not got back.
func allocatedBytes() -> Int { Int(test_allocated_bytes()) }

/// What a program printed, and how it ended.
struct ProgramResult {
    var output: String
    var lines: [String] { output.split(separator: "\n").map(String.init) }
    /// The exit status; nil if a signal ended it.
    var status: Int32?
}

/// The path of a program that stands beside the test executable.
func programPath(_ name: String) throws -> String {
    let folder = try #require(linkTarget("/proc/self/exe")).split(separator: "/").dropLast().joined(separator: "/")
    return "/\(folder)/\(name)"
}

/// Runs a program that stands beside the test executable, with more variables in its environment.
func runProgram(
    _ name: String, _ arguments: [String] = [], environment: [String: String] = [:]
) throws -> ProgramResult {
    var ends: [Int32] = [0, 0]
    try #require(unsafe test_pipe(&ends) == 0)
    var actions = unsafe posix_spawn_file_actions_t()
    unsafe posix_spawn_file_actions_init(&actions)
    defer { unsafe posix_spawn_file_actions_destroy(&actions) }
    unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], 1)
    unsafe posix_spawn_file_actions_adddup2(&actions, ends[1], 2)
    var variables = environment.map { "\($0)=\($1)" }
    var next = unsafe environ
    while let variable = unsafe next.pointee {
        unsafe variables.append(String(cString: variable))
        unsafe next += 1
    }
    var pid = pid_t()
    let path = try programPath(name)
    let answer = unsafe withCStrings([path] + arguments) { arguments in
        unsafe withCStrings(variables) { unsafe posix_spawn(&pid, path, &actions, nil, arguments, $0) }
    }
    close(ends[1])
    defer { close(ends[0]) }
    try #require(answer == 0, "\(path) does not start: errno \(answer)")
    let output = String(decoding: bytes(from: ends[0]), as: UTF8.self)
    var status: Int32 = 0
    while unsafe waitpid(pid, &status, 0) < 0, errno == EINTR {}
    return ProgramResult(output: output, status: status & 0x7f == 0 ? status >> 8 & 0xff : nil)
}

/// A null-terminated array of C strings for the time of a call.
private func withCStrings<T>(
    _ strings: [String], _ body: (UnsafeMutablePointer<UnsafeMutablePointer<CChar>?>) -> T
) -> T {
    var pointers = unsafe strings.map { unsafe strdup($0) } + [nil]
    defer { unsafe pointers.forEach { unsafe free($0) } }
    return unsafe body(&pointers)
}
