/// A run of bytes that is handed from owner to owner without being copied.
///
/// A chunk that was read from a socket borrows the loop's receive buffers: the bytes stand where the kernel put them,
/// and the chunk gives them back by itself at the end of its life, on any thread.
///
/// **Hold such chunks briefly.** A loop has a limited number of receive buffers, and many receives share one, so that a
/// chunk of one byte may keep 64 KB from being used again. While all buffers are lent out, no socket of the loop
/// receives anything: its reads wait until somebody lets go of a chunk. What has to be kept is copied, `Array(chunk)`,
/// or moved out with ``keep()``.
@safe
public struct ByteChunk: ~Copyable {
    // SAFETY: `start` points to `slice.count` bytes that `owner` keeps: the loop, until the slice is released, or an
    // `OwnedBytes` for as long as it lives. The slice of an `OwnedBytes` names no buffer, and is released by nobody.

    private var owner: AnyObject
    private var slice: BufferSlice
    private var start: UnsafeRawPointer

    @inline(__always)
    init(_ slice: BufferSlice, loop: EventLoop) {
        owner = loop
        self.slice = slice
        unsafe start = loop.receiveBuffers.bytes(of: slice).baseAddress!
    }

    /// A chunk of a program's own bytes. They are moved, not copied.
    public init(_ bytes: consuming [UInt8]) { self.init(OwnedBytes(bytes)) }

    /// A chunk that is a copy of `bytes`.
    public init(copying bytes: RawSpan) { self.init(OwnedBytes([UInt8](copying: bytes))) }

    init(_ bytes: OwnedBytes) {
        owner = bytes
        slice = BufferSlice(buffer: BufferSlice.none.buffer, offset: 0, count: UInt32(bytes.count))
        unsafe start = bytes.start
    }

    /// A chunk of bytes in memory that an object keeps, for libraries with buffers of their own. Nothing is copied.
    ///
    /// Unsafe: `bytes` must stay where they are, unchanged, for as long as `owner` lives. Whoever has the chunk retains
    /// the owner, and may let go of it on any thread.
    ///
    /// - Parameter bytes: at most 4 GB.
    @unsafe
    public init(_ bytes: UnsafeRawBufferPointer, keptBy owner: AnyObject) {
        require(bytes.count <= UInt32.max, "a chunk of \(bytes.count) bytes is longer than a chunk can be")
        self.owner = owner
        slice = BufferSlice(buffer: BufferSlice.none.buffer, offset: 0, count: UInt32(bytes.count))
        unsafe start = bytes.baseAddress ?? OwnedBytes.none.start
    }

    /// No bytes.
    init() { self.init(OwnedBytes.none) }

    @inline(__always)
    deinit {
        if !isBorrowed { return }
        if loop.isOnOwnThread { loop.release(slice) } else { loop.tell(.release(slice)) }
    }

    /// Whether the bytes are the receive buffers'.
    @inline(__always)
    var isBorrowed: Bool { slice.buffer != BufferSlice.none.buffer }

    /// The loop whose receive buffers the bytes are in. Ask it of a borrowed chunk only.
    @inline(__always)
    private var loop: EventLoop { unsafe unsafeDowncast(owner, to: EventLoop.self) }

    /// How many bytes there are. What is read from a stream has at least one.
    public var count: Int { Int(slice.count) }

    /// Whether there are none: an empty frame, or all were removed.
    public var isEmpty: Bool { slice.count == 0 }

    /// The bytes.
    public var bytes: RawSpan {
        @_lifetime(borrow self)
        get {
            let span = unsafe RawSpan(_unsafeStart: start, byteCount: count)
            return unsafe _overrideLifetime(span, borrowing: self)
        }
    }

    /// Hands the first `count` bytes to a function. (As `bytes` does, but for chunks that are a property of a class.)
    func withFirst<Value>(_ count: Int, _ body: (RawSpan) -> Value) -> Value {
        require(count <= self.count, "\(count) bytes wanted of a chunk of \(self.count)")
        return unsafe body(RawSpan(_unsafeStart: start, byteCount: count))
    }

    /// Takes the bytes out, to be given back by the caller. Only for a chunk that `isLent(by:)` the caller's loop.
    @inline(__always)
    consuming func take() -> BufferSlice {
        defer { slice = .none }
        return slice
    }

    /// The bytes, and who keeps them. Only for a chunk that is not borrowed.
    @inline(__always)
    consuming func takeOwned() -> (owner: AnyObject, start: UnsafeRawPointer) {
        let parts = unsafe (owner, start)
        return unsafe parts
    }

    /// Whether there are bytes, and they are in the receive buffers of `loop`.
    @inline(__always)
    func isLent(by loop: EventLoop) -> Bool { isBorrowed && owner === loop && slice.count > 0 }

    // MARK: Parts

    /// Removes the first `count` bytes. They are gone.
    public mutating func removeFirst(_ count: Int) {
        require(count >= 0 && count <= self.count, "\(count) bytes removed from a chunk of \(self.count)")
        slice.offset += UInt32(count)
        slice.count -= UInt32(count)
        unsafe start += count
    }

    /// Takes the first `count` bytes out as a chunk of their own; this one keeps the rest.
    ///
    /// Nothing is copied, except where the bytes are the receive buffers' and another thread than their loop's asks:
    /// then the part is a copy.
    public mutating func splitFirst(_ count: Int) -> ByteChunk {
        require(count >= 0 && count <= self.count, "\(count) bytes split from a chunk of \(self.count)")
        if isBorrowed, loop.isOnOwnThread {
            let parts = loop.receiveBuffers.split(slice, at: UInt32(count))
            slice = parts.rest
            unsafe start += count
            return ByteChunk(parts.first, loop: loop)
        }
        var part: ByteChunk
        if isBorrowed {
            part = ByteChunk(copying: bytes.extracting(first: count))
        } else {
            part = ByteChunk()
            part.owner = owner
            unsafe part.start = start
            part.slice.count = UInt32(count)
        }
        removeFirst(count)
        return part
    }

    /// Moves the bytes out of the receive buffers into memory of their own, if they are in there: for what is held
    /// longer than it takes to look at it.
    public mutating func keep() {
        if isBorrowed { self = ByteChunk(copying: bytes) }
    }
}

/// Bytes that belong to chunks of a program's own, in an array that nobody changes.
@safe
final class OwnedBytes: Sendable {
    // SAFETY: the elements of an array of this platform stand in one piece of memory, which stays where it is while
    // the array is neither changed nor freed; this one is a constant.

    private let bytes: [UInt8]
    private let range: Range<Int>

    static let none = OwnedBytes([])

    /// - Parameter range: which of the bytes count; all of them, if nil.
    init(_ bytes: consuming [UInt8], _ range: Range<Int>? = nil) {
        self.range = range ?? 0..<bytes.count
        self.bytes = bytes
        require(bytes.count <= UInt32.max, "a chunk of \(bytes.count) bytes is longer than a chunk can be")
    }

    var count: Int { range.count }

    var start: UnsafeRawPointer {
        let first = unsafe bytes.withUnsafeBytes { $0.baseAddress }
        return unsafe (first ?? UnsafeRawPointer(bitPattern: 1)!) + range.lowerBound
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
