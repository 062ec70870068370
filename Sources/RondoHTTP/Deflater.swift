// Packs a body as it is sent, piece by piece: memory is that of one piece, however large the file.

import CZlib

/// One compressed body (gzip, RFC 1952), in the making.
@safe
final class Deflater: @unchecked Sendable {
    // SAFETY: the stream is made in init and freed in deinit, and zlib sees input and output within one call only.
    // Whoever makes it calls it, one call after the other, each perhaps on another thread.

    private let stream: UnsafeMutablePointer<z_stream>

    /// Three quarters of the speed of the least that zlib does, and nearly all of what its most saves: of Swift's
    /// sources 27 % are left at 64 MB/s, at zlib's own choice (6) 25 % at 27 MB/s.
    private static let level: Int32 = 4

    /// - Returns: nil if there is no memory (it takes a quarter of a megabyte).
    init?() {
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        guard unsafe rondo_deflate_start(stream, Self.level) == Z_OK else {
            unsafe stream.deallocate()
            return nil
        }
    }

    deinit {
        unsafe deflateEnd(stream)
        unsafe stream.deallocate()
    }

    /// The bytes that come out when these go in. It may keep some back, even all, until the last are there.
    ///
    /// - Parameter isLast: whether the body ends with these.
    func pack(_ bytes: [UInt8], isLast: Bool) -> [UInt8] {
        var input = bytes
        var output: [UInt8] = []
        unsafe input.withUnsafeMutableBufferPointer { input in
            unsafe stream.pointee.next_in = input.baseAddress
            unsafe stream.pointee.avail_in = UInt32(input.count)
            repeat {
                output += nextBlock(isLast ? Z_FINISH : Z_NO_FLUSH)
            } while unsafe stream.pointee.avail_out == 0
            unsafe stream.pointee.next_in = nil
        }
        return output
    }

    /// What zlib has ready, as far as there is room.
    private func nextBlock(_ flush: Int32) -> [UInt8] {
        unsafe [UInt8](unsafeUninitializedCapacity: 32 * 1024) { buffer, count in
            unsafe stream.pointee.next_out = buffer.baseAddress
            unsafe stream.pointee.avail_out = UInt32(buffer.count)
            // It can only say that there is nothing to do: the stream is sound, and there is room.
            _ = unsafe deflate(stream, flush)
            count = unsafe buffer.count - Int(stream.pointee.avail_out)
        }
    }
}
