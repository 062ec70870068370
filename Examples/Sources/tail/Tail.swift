// Shows the last lines of a file, and then whatever is appended, as `tail -F` does.
//
//     swift run -c release --package-path Examples tail -n 5 /var/log/syslog
//
// You see the file's end and then each addition as it comes; also when the file was emptied, and when another file has
// got its name. Ctrl-C ends it.

import Rondo

@main
struct Tail: RondoProgram {
    func run() async throws {
        let arguments = CommandLine.arguments
        let hasCount = arguments.count == 4 && arguments[1] == "-n"
        guard hasCount || arguments.count == 2, let lines = hasCount ? Int(arguments[2]) : 10, lines >= 0
        else { throw UsageError() }
        var file = try await File.open(.init(arguments.last!))
        let folder = file.path.removingLastComponent()
        // Watched before the first look, so nothing that comes in between is missed.
        let watch = try await DirectoryWatch.start(folder.isEmpty ? "." : folder)
        let output = try StandardStreams.output()
        var position = try await start(ofLast: lines, in: file)
        position += Int64(try await copy(from: file.source(from: position), to: output))
        for try await event in watch {
            if event.kind == .gone { return }
            guard event.path.lastComponent == file.path.lastComponent || event.kind == .overflow else { continue }
            // The file of that name: perhaps another one by now, perhaps none. It is looked for first, so that what
            // came to the old one before there was a new one is read below.
            let named = try? await File.open(file.path)
            if try await file.status().size < position { position = 0 }
            position += Int64(try await copy(from: file.source(from: position), to: output))
            guard let named, try await named.status().inode != file.status().inode else { continue }
            position = Int64(try await copy(from: named.source(), to: output))
            file = named
        }
    }

    /// Where the last `count` lines of a file begin.
    func start(ofLast count: Int, in file: File) async throws -> Int64 {
        var (position, begun) = (try await file.status().size, 0)
        while position > 0, count > 0 {
            let from = max(0, position - 65_536)
            let part = try await file.read(Int(position - from), at: from)
            guard from + Int64(part.count) == position else { return 0 }  // somebody empties it
            for (index, byte) in part.enumerated().reversed() {
                if byte == UInt8(ascii: "\n") || begun == 0 { begun += 1 }
                if begun > count { return from + Int64(index) + 1 }
            }
            position = from
        }
        return position
    }
}

struct UsageError: Error, CustomStringConvertible {
    var description: String { "usage: tail [-n LINES] FILE" }
}
