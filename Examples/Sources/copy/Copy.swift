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
        guard arguments.count == 3 else { throw UsageError() }
        let source = try await File.open(.init(arguments[1]))
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

struct UsageError: Error, CustomStringConvertible {
    var description: String { "usage: copy FROM TO" }
}
