import Crypto
import Rondo

/// SHA-256.
enum Checksum {
    /// How much is computed before the loop may go to others.
    private static let piece = 64 * 1024

    /// The checksum of `bytes`. A long one is computed in pieces, and other tasks run in between.
    static func of(_ bytes: [UInt8]) async -> [UInt8] {
        var hash = SHA256()
        var start = 0
        while start < bytes.count {
            let end = min(start + piece, bytes.count)
            // SAFETY: reads the bytes within the call.
            unsafe bytes.withUnsafeBytes {
                unsafe hash.update(bufferPointer: UnsafeRawBufferPointer(rebasing: $0[start..<end]))
            }
            start = end
            await EventLoop.yieldIfNeeded()
        }
        return Array(hash.finalize())
    }

    /// Compares content with what the index says of it.
    static func verify(_ content: [UInt8], against file: IndexedFile) async throws {
        let actual = await of(content)
        guard content.count == file.size, actual == file.sha256 else {
            throw WireError(
                description: "its SHA-256 is \(hexadecimal(actual))…, and the index says "
                    + "\(hexadecimal(file.sha256))…: it was changed after the index was made")
        }
    }

    private static func hexadecimal(_ bytes: [UInt8]) -> String {
        bytes.prefix(4).map { ($0 < 16 ? "0" : "") + String($0, radix: 16) }.joined()
    }
}
