// Unpacks a body as its reader asks for it, so that a few bytes that stand for gigabytes take no more memory than any
// others. (libcurl would unpack all that it has received before the reader could say stop.)

import CZlib

/// One compressed body.
@safe
final class Inflater {
    // SAFETY: the stream is made in init and freed in deinit; zlib sees input and output within one call only.

    private let stream: UnsafeMutablePointer<z_stream>
    private var input: [UInt8] = []
    private var position = 0
    private var hasBegun = false
    private var isComplete = false
    /// Whether zlib has filled all the room that it was given.
    private var mayHaveMore = false
    private let isDeflate: Bool

    /// - Parameter coding: what `Content-Encoding` says; nil for what this does not know.
    init?(coding: String) {
        let coding = coding.lowercased()
        guard ["gzip", "x-gzip", "deflate"].contains(coding) else { return nil }
        isDeflate = coding == "deflate"
        unsafe stream = .allocate(capacity: 1)
        unsafe stream.initialize(to: z_stream())
        guard unsafe rondo_inflate_start(stream) == Z_OK else {
            unsafe stream.deallocate()
            return nil
        }
    }

    deinit {
        unsafe inflateEnd(stream)
        unsafe stream.deallocate()
    }

    /// Compressed bytes, when `next` has used up those before.
    func take(_ bytes: [UInt8]) {
        input = bytes
        position = 0
    }

    /// The next bytes, unpacked; nil when more compressed ones are needed.
    ///
    /// - Parameter limit: the most bytes to unpack at once.
    func next(limit: Int) throws(HTTPClientError.Refusal) -> [UInt8]? {
        while position < input.count || mayHaveMore {
            if isComplete { try beginNextMember() }
            var result = Z_OK
            let output = unsafe [UInt8](unsafeUninitializedCapacity: limit) { buffer, count in
                result = unsafe inflate(into: buffer)
                count = unsafe limit - Int(stream.pointee.avail_out)
            }
            mayHaveMore = output.count == limit && result == Z_OK
            switch result {
            case Z_STREAM_END: isComplete = true
            case Z_OK, Z_BUF_ERROR: break
            case Z_DATA_ERROR where isDeflate && !hasBegun:
                // Some servers send deflate without the wrapper that the standard wants.
                unsafe inflateEnd(stream)
                guard unsafe rondo_inflate_start_raw(stream) == Z_OK else { throw refusal("there is no memory") }
                position = 0
                hasBegun = true
                continue
            default: throw refusal("it can't be unpacked")
            }
            hasBegun = true
            if !output.isEmpty { return output }
        }
        return nil
    }

    /// The body has ended.
    func finish() throws(HTTPClientError.Refusal) {
        if !isComplete, hasBegun { throw refusal("it ends in the middle") }
    }

    /// gzip files may be one behind the other.
    private func beginNextMember() throws(HTTPClientError.Refusal) {
        if isDeflate || input[position] != 0x1f { throw refusal("there are bytes behind its end") }
        guard unsafe inflateReset(stream) == Z_OK else { throw refusal("it can't be unpacked") }
        isComplete = false
    }

    private func inflate(into output: UnsafeMutableBufferPointer<UInt8>) -> Int32 {
        unsafe input.withUnsafeMutableBufferPointer { bytes in
            unsafe stream.pointee.next_in = bytes.baseAddress! + position
            unsafe stream.pointee.avail_in = UInt32(bytes.count - position)
            unsafe stream.pointee.next_out = output.baseAddress
            unsafe stream.pointee.avail_out = UInt32(output.count)
            let result = unsafe CZlib.inflate(stream, Z_NO_FLUSH)
            position = unsafe bytes.count - Int(stream.pointee.avail_in)
            return result
        }
    }

    private func refusal(_ words: String) -> HTTPClientError.Refusal {
        .init(.malformedResponse("the compressed body: \(words)"))
    }
}
