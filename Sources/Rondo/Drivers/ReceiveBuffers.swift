// The memory that received bytes land in: a driver's, never a task's. A task borrows a slice and gives it back.
//
// The buffers are few and large, and many receives share one: each takes as much as it needs behind the one before
// (the kernel's incremental provided buffers, Linux 6.12; the other drivers do the same by hand). So a thousand
// 64-byte messages touch 64 KB and not a thousand pages. A buffer returns when it is full and all its slices are back.
// At first there is 1 MB of them: they are used in turn, and what does not fit the second-level cache is cold each time
// round (measured with 16 KiB messages: CPU per request 0.89 of C's with 1 MB, 1.01 with 32 MB).

import CRondo
import Glibc

/// A run of received bytes in a receive buffer.
package struct BufferSlice {
    package var buffer: UInt32
    package var offset: UInt32
    package var count: UInt32

    @inline(__always)
    package init(buffer: UInt32, offset: UInt32, count: UInt32) {
        self.buffer = buffer
        self.offset = offset
        self.count = count
    }

    /// No bytes.
    package static let none = BufferSlice(buffer: .max, offset: 0, count: 0)
}

/// Who waits for a receive buffer.
protocol BufferWaiter: AnyObject {
    /// Tries again. On the loop's thread.
    func bufferMayBeFree()
}

/// A driver's receive buffers. All calls come from the loop's thread.
@safe
package final class ReceiveBuffers {
    /// Bytes in one buffer.
    package let bufferSize: Int
    /// How many buffers there may ever be; a power of two, as the kernel's ring wants it.
    package let capacity: Int
    /// How many are in use so far. Grows when the writer runs out.
    package var count: Int { used }
    // Not open to other modules, so that the compiler can prove all accesses exclusive.
    private var used = 0
    /// Buffers that no byte has landed in yet.
    private var untouched = 0
    /// Slices that are lent out now, for leak checks.
    package var lentSlices: Int { lent }
    private var lent = 0

    /// One stretch of address space for all buffers; pages become real when bytes land in them.
    private let memory: UnsafeMutableRawPointer
    /// From one buffer to the next: a cache line more than the size, or equal offsets of all buffers would fall on
    /// the same cache sets.
    private let stride: Int
    /// Slices lent out, plus one for as long as the writer may still add to the buffer.
    private let holders: UnsafeMutablePointer<UInt32>
    /// Bytes used so far.
    private let filled: UnsafeMutablePointer<UInt32>
    /// The kernel's ring of buffers to write to, if the writer is io_uring.
    private var ring: UnsafeMutablePointer<rondo_uring_buffer>?
    private var ringTail: UInt16 = 0
    /// Empty buffers and the one being filled, if the writer is a driver of ours.
    private var free: [UInt32] = []
    private var current: UInt32?

    package init(bufferSize: Int = 64 * 1024, initialCount: Int = 16, capacity: Int = 1024) {
        self.bufferSize = bufferSize
        self.capacity = capacity
        stride = bufferSize + 64
        let length = stride * capacity
        let mapping = unsafe mmap(
            nil, length, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0)
        guard let mapping = unsafe mapping, unsafe mapping != MAP_FAILED else {
            crash("no address space for \(length) bytes of receive buffers (is ulimit -v set?)")
        }
        // SAFETY: a fresh mapping and two fresh allocations of the stated sizes; freed in deinit only.
        unsafe memory = mapping
        unsafe holders = .allocate(capacity: capacity)
        unsafe filled = .allocate(capacity: capacity)
        unsafe holders.initialize(repeating: 0, count: capacity)
        unsafe filled.initialize(repeating: 0, count: capacity)
        grow(to: initialCount)
    }

    deinit {
        // SAFETY: the mapping and allocations of init, with their sizes.
        unsafe munmap(memory, stride * capacity)
        unsafe holders.deallocate()
        unsafe filled.deallocate()
    }

    /// Hands the buffers to the kernel through `ring`, which has `capacity` entries.
    func attach(ring: UnsafeMutablePointer<rondo_uring_buffer>) {
        unsafe self.ring = ring
        free.removeAll()
        untouched = 0
        for buffer in 0..<UInt32(used) { publish(buffer) }
    }

    /// The kernel's ring is gone: nothing is published any more.
    func detachRing() { unsafe ring = nil }

    /// Makes sure that the writer has a buffer, doubling their number if it has none.
    ///
    /// - Returns: false if there are as many as there may be, and all are in use.
    package func grow() -> Bool {
        if untouched > 0 { return true }
        guard used < capacity else { return false }
        grow(to: min(used * 2, capacity))
        return true
    }

    private func grow(to newCount: Int) {
        let added = UInt32(used)..<UInt32(newCount)
        used = newCount
        for buffer in added { publish(buffer) }
    }

    /// Makes an empty buffer available to the writer.
    @inline(__always)
    private func publish(_ buffer: UInt32) {
        // SAFETY: `buffer` is below `count` ≤ `capacity`; a ring has `capacity` entries and the mask keeps within.
        unsafe holders[Int(buffer)] = 1
        unsafe filled[Int(buffer)] = 0
        untouched &+= 1
        guard let ring = unsafe ring else {
            free.append(buffer)
            return
        }
        let entry = unsafe ring + Int(ringTail & UInt16(truncatingIfNeeded: capacity - 1))
        unsafe entry.pointee.addr = UInt64(UInt(bitPattern: memory + Int(buffer) * stride))
        unsafe entry.pointee.len = UInt32(bufferSize)
        unsafe entry.pointee.bid = UInt16(truncatingIfNeeded: buffer)
        ringTail &+= 1
        unsafe rondo_store_buffer_tail(ring, ringTail)
    }

    /// Books `count` bytes that the kernel has put into `buffer`.
    ///
    /// - Parameter more: whether the kernel goes on with this buffer.
    @inline(__always)
    func book(buffer: UInt32, count: UInt32, more: Bool) -> BufferSlice {
        // SAFETY: the kernel names only buffers that were published.
        let offset = unsafe filled[Int(buffer)]
        if offset == 0 { untouched &-= 1 }
        unsafe filled[Int(buffer)] = offset &+ count
        lent &+= 1
        if more { unsafe holders[Int(buffer)] &+= 1 }  // else the writer's own share passes to the slice
        return BufferSlice(buffer: buffer, offset: offset, count: count)
    }

    /// Gives a slice back.
    @inline(__always)
    package func release(_ slice: BufferSlice) {
        lent &-= 1
        dropHolder(of: slice.buffer)
    }

    /// Makes two slices of one, each to be released by itself.
    func split(_ slice: BufferSlice, at count: UInt32) -> (first: BufferSlice, rest: BufferSlice) {
        // SAFETY: a slice names a published buffer.
        unsafe holders[Int(slice.buffer)] &+= 1
        lent &+= 1
        return (
            BufferSlice(buffer: slice.buffer, offset: slice.offset, count: count),
            BufferSlice(buffer: slice.buffer, offset: slice.offset + count, count: slice.count - count)
        )
    }

    @inline(__always)
    private func dropHolder(of buffer: UInt32) {
        // SAFETY: a slice names a published buffer, and is released once.
        let left = unsafe holders[Int(buffer)] &- 1
        unsafe holders[Int(buffer)] = left
        if left == 0 { publish(buffer) }
    }

    /// Where a slice's bytes are. Valid until the slice is released.
    @inline(__always)
    package func bytes(of slice: BufferSlice) -> UnsafeRawBufferPointer {
        // SAFETY: a slice lies within its buffer.
        unsafe UnsafeRawBufferPointer(
            start: memory + (Int(slice.buffer) * stride + Int(slice.offset)), count: Int(slice.count))
    }

    // For drivers that write by themselves.

    /// Room for the next received bytes: at least an eighth of a buffer; nil if all buffers are full and lent out.
    package func writableSpace() -> UnsafeMutableRawBufferPointer? {
        if let buffer = current {
            // SAFETY: `current` is a published buffer.
            if unsafe holders[Int(buffer)] == 1, unsafe filled[Int(buffer)] > 0 {
                unsafe filled[Int(buffer)] = 0  // all slices are back: start over
                untouched &+= 1
            }
            let used = unsafe Int(filled[Int(buffer)])
            if bufferSize - used >= bufferSize / 8 { return unsafe space(of: buffer, from: used) }
            current = nil
            dropHolder(of: buffer)
        }
        if free.isEmpty, !grow() { return nil }
        let buffer = free.removeLast()
        current = buffer
        return unsafe space(of: buffer, from: 0)
    }

    private func space(of buffer: UInt32, from offset: Int) -> UnsafeMutableRawBufferPointer {
        // SAFETY: within the buffer, as the caller has checked.
        unsafe UnsafeMutableRawBufferPointer(
            start: memory + (Int(buffer) * stride + offset), count: bufferSize - offset)
    }

    /// Books the first `count` bytes of the last `writableSpace()`.
    package func commit(_ count: Int) -> BufferSlice {
        guard let current else { crash("commit of \(count) bytes without writable space") }
        return book(buffer: current, count: UInt32(count), more: true)
    }
}
