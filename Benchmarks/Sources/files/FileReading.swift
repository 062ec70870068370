// 100,000 small files, read by one loop and by eight threads in C, in turns: from a disk, and from memory.
//
//     swift run -c release --package-path Benchmarks --static-swift-stdlib files [folder on a disk] [tasks]
//
// Each round reads all files each way. From a disk the kernel forgets what it has of it before each (which only root
// may ask for); then it matters how many reads wait at once. In memory nothing waits: there one loop has one core, and
// the threads have all. CPU time, of all threads together, is what a busy machine disturbs less than the wall time.

import FileThreads
import Glibc
import Rondo
import SystemPackage

let fileCount = 100_000
let fileSize = 4096

func nanoseconds(_ clock: clockid_t) -> Double {
    var time = timespec()
    clock_gettime(clock, &time)
    return Double(time.tv_sec) * 1e9 + Double(time.tv_nsec)
}

/// Lets the kernel forget the files, folders and names that it has in memory (man 5 proc, drop_caches).
func forgetFiles() -> Bool {
    sync()
    let file = open("/proc/sys/vm/drop_caches", O_WRONLY)
    defer { close(file) }
    return file >= 0 && write(file, "3", 1) == 1
}

/// What the rounds of one way took, in microseconds a file.
struct Figures {
    var wall: [Double] = []
    var cpu: [Double] = []

    mutating func measure(_ body: () async throws -> Void) async rethrows {
        let (wallStart, cpuStart) = (nanoseconds(CLOCK_MONOTONIC), nanoseconds(CLOCK_PROCESS_CPUTIME_ID))
        try await body()
        wall.append((nanoseconds(CLOCK_MONOTONIC) - wallStart) / 1000 / Double(fileCount))
        cpu.append((nanoseconds(CLOCK_PROCESS_CPUTIME_ID) - cpuStart) / 1000 / Double(fileCount))
    }

    static func text(_ values: [Double]) -> String {
        let sorted = values.sorted()
        func digits(_ value: Double) -> String { String(Double(Int(value * 100 + 0.5)) / 100) }
        return "\(digits(sorted[sorted.count / 2])) (\(digits(sorted[0]))–\(digits(sorted[sorted.count - 1])))"
    }

    func print(_ name: String) {
        Swift.print("\(name): wall \(Self.text(wall)) µs a file, CPU \(Self.text(cpu)) µs")
    }
}

/// Hands out paths to tasks of one loop.
final class Paths: @unchecked Sendable {
    // SAFETY: all tasks run on the loop's thread.
    private let paths: [FilePath]
    private var next = 0
    init(_ paths: [FilePath]) { self.paths = paths }

    func take() -> FilePath? {
        guard next < paths.count else { return nil }
        next += 1
        return paths[next - 1]
    }
}

@main
struct FileReading: RondoProgram {
    func run() async throws {
        let arguments = CommandLine.arguments.dropFirst()
        let disk = FilePath(arguments.first ?? "/var/tmp")
        let taskCount = arguments.dropFirst().first.flatMap { Int($0) } ?? 64
        let rounds = getenv("ROUNDS").flatMap { Int(String(cString: $0)) } ?? 15
        print("\(fileCount) files of \(fileSize) bytes, \(rounds) rounds, median (least–most)")
        if try await offload({ forgetFiles() }) {
            try await Self.compare("\nfrom the disk below \(disk)", in: disk, taskCount, rounds) {
                let hasForgotten = try await offload { forgetFiles() }
                precondition(hasForgotten)
            }
        } else {
            print("not measured from a disk: only root may let the kernel forget files")
        }
        try await Self.compare("\nof that disk, but in memory", in: disk, taskCount, rounds) {}
        try await Self.compare("\nof /dev/shm, which is memory", in: "/dev/shm", taskCount, rounds) {}
    }

    static func compare(
        _ title: String, in parent: FilePath, _ taskCount: Int, _ rounds: Int,
        before: () async throws -> Void
    ) async throws {
        try await TemporaryDirectory.with(in: parent, prefix: "rondo-files-") { folder in
            let paths = try await Self.makeFiles(in: folder)
            var (loop, threads) = (Figures(), Figures())
            for round in 0...rounds {
                var (loopRound, threadsRound) = (Figures(), Figures())
                try await before()
                try await loopRound.measure { try await Self.readOnLoop(paths, tasks: taskCount) }
                try await before()
                // Elsewhere than on the loop, whose watchdog would have much to say.
                try await threadsRound.measure { try await offload { try Self.readWithThreads(paths) } }
                if round == 0 { continue }  // fills the caches that stay
                loop.wall += loopRound.wall
                loop.cpu += loopRound.cpu
                threads.wall += threadsRound.wall
                threads.cpu += threadsRound.cpu
            }
            print(title)
            loop.print("  Rondo, one loop (\(EventLoop.current!.driverName)), \(taskCount) tasks")
            threads.print("  C, 8 threads")
            let ratio = zip(threads.wall, loop.wall).map { $0 / $1 }
            print("  speed of the loop, threads = 1: \(Figures.text(ratio))")
        }
    }

    static func makeFiles(in folder: FilePath) async throws -> [FilePath] {
        var paths: [FilePath] = []
        for number in 0..<fileCount {
            let part = folder.appending("\(number / 1000)")
            if number % 1000 == 0 { try await Files.makeDirectory(part) }
            paths.append(part.appending("\(number)"))
            let bytes = [UInt8](repeating: UInt8(truncatingIfNeeded: number), count: fileSize)
            try await File.write(bytes, to: paths[number])
        }
        return paths
    }

    static func readOnLoop(_ all: [FilePath], tasks: Int) async throws {
        let paths = Paths(all)
        let total = try await withThrowingTaskGroup(of: Int.self) { group in
            for _ in 0..<tasks {
                group.addTask {
                    var bytes = 0
                    while let path = paths.take() { bytes += try await File.contents(of: path).count }
                    return bytes
                }
            }
            return try await group.reduce(0, +)
        }
        precondition(total == fileCount * fileSize)
    }

    static func readWithThreads(_ paths: [FilePath]) throws {
        let texts = paths.map { $0.withPlatformString { UnsafePointer(strdup($0)) } }
        defer { for text in texts { free(UnsafeMutablePointer(mutating: text)) } }
        precondition(read_with_threads(texts, Int32(texts.count), 8) == fileCount * fileSize)
    }
}
