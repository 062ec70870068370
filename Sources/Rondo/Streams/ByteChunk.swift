/// Received bytes, borrowed from the loop's receive buffers.
///
/// Nothing was copied: the bytes stand where the kernel put them. The chunk gives them back by itself at the end of
/// its life, on any thread. Hold chunks briefly: what they hold can't be received into.
@safe
public struct ByteChunk: ~Copyable {
    private let loop: EventLoop
    private var slice: BufferSlice
    private let start: UnsafeRawPointer

    @inline(__always)
    init(_ slice: BufferSlice, loop: EventLoop) {
        self.loop = loop
        self.slice = slice
        // SAFETY: the slice stays lent out until deinit; a slice is never empty.
        unsafe start = loop.receiveBuffers.bytes(of: slice).baseAddress!
    }

    @inline(__always)
    deinit {
        if slice.count == 0 { return }
        if loop.isOnOwnThread { loop.release(slice) } else { loop.tell(.release(slice)) }
    }

    /// How many bytes there are; never 0.
    public var count: Int { Int(slice.count) }

    /// The bytes.
    public var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            // SAFETY: the bytes are valid for as long as the chunk, on which the span depends.
            let span = unsafe RawSpan(_unsafeStart: start, byteCount: count)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// Takes the bytes out, to be given back by the caller.
    @inline(__always)
    consuming func take() -> BufferSlice {
        defer { slice = .none }
        return slice
    }
}

extension Array<UInt8> {
    /// A copy of the bytes.
    public init(_ chunk: borrowing ByteChunk) {
        self.init(copying: chunk.bytes)
    }

    /// A copy of the bytes.
    public init(copying bytes: RawSpan) {
        // SAFETY: reads the span's bytes within the call.
        self = unsafe bytes.withUnsafeBytes { unsafe Array($0) }
    }

    /// Appends a copy of the bytes.
    public mutating func append(copying bytes: RawSpan) {
        // SAFETY: reads the span's bytes within the call.
        unsafe bytes.withUnsafeBytes { unsafe append(contentsOf: $0) }
    }
}
