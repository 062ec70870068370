// Copies a file, chunk by chunk, and counts its lines on the way back.
//
//     swift run -c release --package-path Examples copy /etc/services /tmp/services
//
// You see how many bytes were copied, and how many lines the copy has.

import Rondo

@main
struct Copy: RondoProgram {
    func run() async throws {
        let arguments = CommandLine.arguments
        guard arguments.count == 3 else { throw Failure(description: "usage: copy FROM TO") }
        let source = try await File.open(.init(arguments[1]))
        // Opening the target empties it: not before it is clear that there is something to copy.
        let (status, old) = (try await source.status(), try? await FileStatus.of(.init(arguments[2])))
        if status.kind == .directory { throw Failure(description: "\(arguments[1]) is a folder") }
        if let old, (old.device, old.inode) == (status.device, status.inode) {
            throw Failure(description: "\(arguments[1]) and \(arguments[2]) are the same file")
        }
        let target = try await File.open(.init(arguments[2]), .replace())
        let count = try await copy(from: source.source(), to: target.sink())
        try await target.synchronize()
        var lines = 0
        for try await _ in BufferedReader(target.source()).lines(limit: .max, lastLineMayBeOpen: true) { lines += 1 }
        print("\(count) bytes, \(lines) lines")
        await source.close()
        await target.close()
    }
}

struct Failure: Error, CustomStringConvertible { let description: String }
