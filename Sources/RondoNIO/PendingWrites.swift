// What a channel has been asked to write and has not written: a queue with a mark (everything before it was flushed),
// and the batch that is on its way. It knows no socket.

import NIOCore

/// A channel's outgoing side, without the socket. It belongs to the loop's thread.
struct PendingWrites {
    /// What goes out together.
    struct Batch {
        var content: IOData
        var promises: [EventLoopPromise<Void>]
        /// Bytes of the queue that it stands for.
        var bytes: Int
        /// Whether its buffer is the loop's, to be given back.
        var isMerged: Bool
    }

    private struct Entry {
        var data: IOData
        var promise: EventLoopPromise<Void>?
    }

    private var entries = CircularBuffer<Entry>()
    /// How many of the entries, from the first, have been flushed.
    private var flushed = 0
    /// Bytes that were written and are not sent, those of a batch under way among them.
    private(set) var bytes = 0

    /// Writes of more bytes than this go out from where they stand; smaller ones are put together.
    private static let mergeLimit = 16 * 1024

    var isEmpty: Bool { entries.isEmpty }
    var hasFlushed: Bool { flushed > 0 }

    mutating func add(_ data: IOData, _ promise: EventLoopPromise<Void>?) {
        bytes += data.readableBytes
        entries.append(Entry(data: data, promise: promise))
    }

    /// Everything so far is to be sent.
    mutating func markFlushed() { flushed = entries.count }

    /// Takes out what goes out next: one write, or several small ones in a buffer of the loop's.
    mutating func nextBatch(_ loop: NIOLoop) -> Batch? {
        guard flushed > 0 else { return nil }
        let first = entries.removeFirst()
        flushed -= 1
        let batch = Batch(
            content: first.data, promises: first.promise.map { [$0] } ?? [], bytes: first.data.readableBytes,
            isMerged: false)
        guard flushed > 0, batch.bytes <= Self.mergeLimit, case .byteBuffer(let head) = first.data,
            fits(batch.bytes)
        else { return batch }
        return merge(head, into: batch, loop)
    }

    /// Whether the next entry can join a batch of `count` bytes.
    private func fits(_ count: Int) -> Bool {
        guard flushed > 0, let next = entries.first, case .byteBuffer(let buffer) = next.data else { return false }
        return buffer.readableBytes <= Self.mergeLimit && count + buffer.readableBytes <= NIOLoop.mergeCapacity
    }

    private mutating func merge(_ head: ByteBuffer, into batch: Batch, _ loop: NIOLoop) -> Batch {
        var batch = batch
        var buffer = loop.takeMergeBuffer()
        buffer.writeImmutableBuffer(head)
        while fits(batch.bytes) {
            let next = entries.removeFirst()
            flushed -= 1
            if case .byteBuffer(let part) = next.data { buffer.writeImmutableBuffer(part) }
            batch.bytes += next.data.readableBytes
            if let promise = next.promise { batch.promises.append(promise) }
        }
        batch.content = .byteBuffer(buffer)
        batch.isMerged = true
        return batch
    }

    /// A batch has been sent, or never will be.
    mutating func finish(_ batch: Batch) { bytes -= batch.bytes }

    /// Takes out the promises of everything that was not flushed, or of everything.
    mutating func drop(flushedToo: Bool) -> [EventLoopPromise<Void>] {
        var promises: [EventLoopPromise<Void>] = []
        if flushedToo { flushed = 0 }
        while entries.count > flushed {
            let entry = entries.removeLast()
            bytes -= entry.data.readableBytes
            if let promise = entry.promise { promises.append(promise) }
        }
        return promises.reversed()
    }
}
