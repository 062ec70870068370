// Starts the built command as a user does: a process of its own, with files for its two outputs.

import Glibc
import Testing

/// What a command has done.
struct CommandOutcome: Sendable {
    var status: Int32
    var output: String
    var errors: String

    /// The output's one JSON object, by key; values as they are written. Only for flat objects.
    var fields: [String: String] {
        var fields: [String: String] = [:]
        guard output.hasPrefix("{"), output.hasSuffix("}\n") else { return fields }
        var rest = Substring(output.dropFirst().dropLast(2))
        while let (key, afterKey) = Self.string(rest) {
            let value = afterKey.drop { $0 == ":" || $0 == " " }
            if let (text, after) = Self.string(value) {
                fields[key] = text
                rest = after
            } else {
                fields[key] = String(value.prefix { $0 != "," })
                rest = value.drop { $0 != "," }
            }
            rest = rest.drop { $0 == "," || $0 == " " }
        }
        return fields
    }

    func number(_ key: String) -> Double? { fields[key].flatMap { Double($0) } }

    func integer(_ key: String) -> Int? { fields[key].flatMap { Int($0) } }

    private static func string(_ text: Substring) -> (String, Substring)? {
        guard text.first == "\"", let end = text.dropFirst().firstIndex(of: "\"") else { return nil }
        return (String(text[text.index(after: text.startIndex)..<end]), text[text.index(after: end)...])
    }
}

/// The built `rondo`.
enum CommandUnderTest {
    /// It stands beside the test runner.
    static let path: String = {
        var buffer = [UInt8](repeating: 0, count: 4096)
        // SAFETY: readlink writes at most as many bytes as there are.
        let count = unsafe buffer.withUnsafeMutableBytes { bytes in
            unsafe readlink("/proc/self/exe", bytes.baseAddress!.assumingMemoryBound(to: CChar.self), bytes.count)
        }
        let runner = String(decoding: buffer.prefix(max(0, count)), as: UTF8.self)
        return runner.prefix(upTo: runner.lastIndex(of: "/") ?? runner.startIndex) + "/rondo"
    }()

    /// Runs it to its end.
    ///
    /// - Parameters:
    ///   - folder: its working directory.
    ///   - environment: `NAME=value`, beside the few variables that it inherits.
    static func run(_ arguments: [String], in folder: String = "/", environment: [String] = []) throws -> CommandOutcome
    {
        let scratch = try ScratchFolder()
        let (outputPath, errorPath) = (scratch.path + "/output", scratch.path + "/errors")
        var actions = unsafe posix_spawn_file_actions_t()
        unsafe posix_spawn_file_actions_init(&actions)
        defer { unsafe posix_spawn_file_actions_destroy(&actions) }
        unsafe posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0)
        unsafe posix_spawn_file_actions_addopen(&actions, STDOUT_FILENO, outputPath, O_WRONLY | O_CREAT, 0o600)
        unsafe posix_spawn_file_actions_addopen(&actions, STDERR_FILENO, errorPath, O_WRONLY | O_CREAT, 0o600)
        var process: pid_t = 0
        // The shell is there for its `cd`: posix_spawn's own is an extension that Swift does not see.
        let command = ["sh", "-c", "cd \"$0\" && exec \"$@\"", folder, path] + arguments
        var words: [UnsafeMutablePointer<CChar>?] = unsafe command.map { unsafe strdup($0) }
        unsafe words.append(nil)
        var variables: [UnsafeMutablePointer<CChar>?] = unsafe environment.map { unsafe strdup($0) }
        for name in ["PATH", "HOME", "TMPDIR", "RONDO_DRIVER", "LD_LIBRARY_PATH"] {
            if environment.contains(where: { $0.hasPrefix("\(name)=") }) { continue }
            guard let value = unsafe getenv(name) else { continue }
            let variable = unsafe "\(name)=\(String(cString: value))"
            unsafe variables.append(strdup(variable))
        }
        unsafe variables.append(nil)
        defer { unsafe (words + variables).forEach { unsafe free($0) } }
        // SAFETY: both lists end with nil, and their strings live until the call has returned.
        let answer = unsafe posix_spawn(&process, "/bin/sh", &actions, nil, words, variables)
        try #require(answer == 0, "start \(path): errno \(answer) (has the product rondo been built?)")
        var status: Int32 = 0
        while unsafe waitpid(process, &status, 0) < 0, errno == EINTR {}
        let isExit = status & 0x7f == 0
        return CommandOutcome(
            status: isExit ? status >> 8 & 0xff : 128 + status & 0x7f, output: read(outputPath), errors: read(errorPath)
        )
    }

    /// All of a small file.
    static func read(_ path: String) -> String {
        guard let file = unsafe fopen(path, "r") else { return "" }
        defer { unsafe fclose(file) }
        var text: [UInt8] = []
        while case let byte = unsafe getc(file), byte != EOF { text.append(UInt8(truncatingIfNeeded: byte)) }
        return String(decoding: text, as: UTF8.self)
    }
}

/// A folder that is removed, with the files in it, when nobody holds it any more.
final class ScratchFolder {
    let path: String

    init() throws {
        var template = Array("/tmp/rondo-test.XXXXXX".utf8CString)
        // SAFETY: mkdtemp changes the six letters within the array.
        unsafe try #require(mkdtemp(&template) != nil)
        path = String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
    }

    deinit { remove(path) }

    /// Writes a file; its name is relative to the folder.
    func write(_ text: String, to name: String) throws {
        let file = unsafe try #require(fopen("\(path)/\(name)", "w"))
        unsafe fputs(text, file)
        unsafe fclose(file)
    }

    func makeFolder(_ name: String) { unsafe mkdir("\(path)/\(name)", 0o700) }

    func removeFile(_ name: String) { unsafe unlink("\(path)/\(name)") }

    /// What is in a folder.
    var names: [String] { Self.names(in: path) }

    static func names(in folder: String) -> [String] {
        guard let directory = unsafe opendir(folder) else { return [] }
        defer { unsafe closedir(directory) }
        var names: [String] = []
        while let entry = unsafe readdir(directory) {
            // SAFETY: an entry is valid until the next readdir, and its name ends with a zero.
            let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) {
                unsafe String(cString: UnsafeRawPointer($0).assumingMemoryBound(to: CChar.self))
            }
            if name != ".", name != ".." { names.append(name) }
        }
        return names.sorted()
    }

    private func remove(_ folder: String) {
        for name in Self.names(in: folder) where unsafe unlink("\(folder)/\(name)") != 0 { remove("\(folder)/\(name)") }
        unsafe rmdir(folder)
    }
}
