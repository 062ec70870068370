// Counts lines, words and bytes of many files, 32 at a time, on a loop for each processor.
//
//     swift run -c release --package-path Examples wc README.md Sources
//
// You see what `wc` shows; a folder stands for all files below it. What can't be read makes the exit status 1.

import Rondo

@main
struct WordCount: RondoProgram {
    static var runtime: RuntimeConfiguration { RuntimeConfiguration() }

    func run() async throws {
        guard CommandLine.arguments.count > 1 else { throw Failure(description: "usage: wc PATH...") }
        var files: [String] = []
        for path in CommandLine.arguments.dropFirst() { files += try await allFiles(at: path) }
        var counts = [[Int]?](repeating: nil, count: files.count)
        await withTaskGroup(of: (Int, [Int]?).self) { group in
            for (index, file) in files.enumerated() {
                if index >= 32, let (done, result) = await group.next() { counts[done] = result }
                group.addTask { (index, await count(file)) }
            }
            for await (done, result) in group { counts[done] = result }
        }
        let total = counts.reduce([0, 0, 0]) { sum, counts in zip(sum, counts ?? [0, 0, 0]).map(+) }
        let width = "\(total[2])".count
        for case (let name, let counts?) in zip(files + ["total"], counts + [files.count > 1 ? total : nil]) {
            print(counts.map { String(repeating: " ", count: width - "\($0)".count) + "\($0) " }.joined() + name)
        }
        if counts.contains(nil) { throw Failure(description: "not everything could be counted") }
    }

    /// All files below a folder, and the folders that can't be read, so that somebody finds out why; else the path.
    func allFiles(at path: String) async throws -> [String] {
        guard let status = try? await FileStatus.of(.init(path)), status.kind == .directory else { return [path] }
        let found = Directory.walk(.init(path)).filter { $0.kind == .regular || $0.error != nil }
        return try await found.reduce(into: []) { $0.append($1.path.string) }.sorted()
    }

    /// A file's lines, words and bytes; nil if it can't be read.
    func count(_ path: String) async -> [Int]? {
        var (lines, words, bytes, isInWord) = (0, 0, 0, false)
        do {
            for try await chunk in try await File.open(.init(path)).chunks() {
                bytes += chunk.count
                for byte in chunk {
                    let isSpace = byte == 0x20 || (0x09...0x0d).contains(byte)
                    if byte == 0x0a { lines += 1 }
                    if !isSpace, !isInWord { words += 1 }
                    isInWord = !isSpace
                }
            }
            return [lines, words, bytes]
        } catch { try? await StandardStreams.error().write("wc: \(error)\n") }
        return nil
    }
}

struct Failure: Error, CustomStringConvertible { let description: String }
