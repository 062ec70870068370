// fuzz TARGET CORPUS [OPTIONS]: feeds a parser with what libFuzzer makes of the inputs in the folder CORPUS, for which
// it writes the first ones. A property that does not hold ends the process, and libFuzzer keeps the input.

import CFuzzer
import Glibc

/// A parser, what is known to be interesting for it, and what must hold whatever it is fed.
protocol FuzzTarget: SendableMetatype {
    static var seeds: [[UInt8]] { get }
    static func run(_ input: [UInt8])
}

/// Ends the process: a property does not hold.
func fail(_ message: String, line: Int = #line) -> Never {
    print("property, line \(line): \(message)")
    fflush(nil)
    abort()
}

func expect(_ condition: Bool, _ message: @autoclosure () -> String, line: Int = #line) {
    if !condition { fail(message(), line: line) }
}

@main struct Fuzz {
    static let targets: [String: any FuzzTarget.Type] = [
        "head": HeadFuzzer.self, "body": BodyFuzzer.self, "websocket": WebSocketFuzzer.self,
        "range": RangeFuzzer.self, "coding": CodingFuzzer.self, "path": PathFuzzer.self,
    ]

    nonisolated(unsafe) static var target: any FuzzTarget.Type = HeadFuzzer.self

    static func main() {
        let words = CommandLine.arguments
        guard words.count >= 3, let chosen = targets[words[1]] else {
            print("usage: fuzz \(targets.keys.sorted().joined(separator: "|")) CORPUS [OPTIONS]")
            exit(64)
        }
        // SAFETY: one thread, before the fuzzer begins.
        unsafe target = chosen
        for (number, seed) in chosen.seeds.enumerated() { write(seed, to: "\(words[2])/seed-\(number)") }
        // libFuzzer takes the program's name and what stands behind the target.
        var arguments = unsafe ([words[0]] + words[2...]).map { unsafe strdup($0) }
        unsafe arguments.append(nil)
        var count = Int32(words.count - 1)
        unsafe arguments.withUnsafeMutableBufferPointer { buffer in
            var start = buffer.baseAddress
            // SAFETY: the list ends with nil and outlives the call.
            _ = unsafe LLVMFuzzerRunDriver(&count, &start) { data, size in unsafe runOnce(data, size) }
        }
    }

    private static func write(_ bytes: [UInt8], to path: String) {
        guard let file = unsafe fopen(path, "w") else { fail("write \(path): errno \(errno)") }
        // SAFETY: as many bytes as there are.
        _ = unsafe fwrite(bytes, 1, bytes.count, file)
        unsafe fclose(file)
    }
}

/// libFuzzer's library wants it by this name.
@_cdecl("LLVMFuzzerTestOneInput")
func runOnce(_ data: UnsafePointer<UInt8>?, _ size: Int) -> Int32 {
    // SAFETY: libFuzzer lends as many bytes as it says.
    unsafe Fuzz.target.run(Array(UnsafeBufferPointer(start: data, count: size)))
    return 0
}
