// The readiness of a descriptor that belongs to a library: how code that does its own reads and writes (libpq, libcurl)
// lives on a loop. Rondo's own sockets never need it; the loop does their input and output.

import CRondo
import Glibc
public import SystemPackage

/// Waits until somebody else's descriptor can be read or written.
///
/// ```
/// let watch = try DescriptorWatch(duplicating: FileDescriptor(rawValue: PQsocket(connection)))
/// try await watch.waitUntilReadable()
/// PQconsumeInput(connection)
/// await watch.close()
/// ```
///
/// A wait ends when the descriptor *is* ready, also if it was before (level-triggered), and when it has hung up or has
/// failed: whoever then reads or writes learns which. A file of a disk is always ready.
///
/// The watch has a duplicate of the descriptor, so a library may close its own at any time and no wait can meet another
/// file under a number that was used again. What both stand for (a connection, say) stays open until both are closed:
/// close the watch when the library is through with it. It works with the kernel's drivers; a simulation has no
/// descriptors. It may be used from any task; it belongs to the loop that it was made on.
public final class DescriptorWatch: Sendable {
    private let loop: EventLoop
    private let state: WatchedDescriptor

    /// Duplicates a descriptor, to wait for it on the calling loop.
    ///
    /// - Throws: `IOError` if there is no such descriptor, none is left for the duplicate, or the loop is simulated.
    public init(duplicating descriptor: FileDescriptor) throws(IOError) {
        let loop = EventLoop.required(for: "DescriptorWatch(duplicating:)")
        let name = "descriptor \(descriptor.rawValue)"
        guard loop.driver is any KernelDriver else {
            throw IOError("watch", name, .invalid("a simulation has no descriptors"))
        }
        let own = rondo_duplicate(descriptor.rawValue)
        if own < 0 { throw IOError("watch", name, IOError.cause(ofAnswer: own)) }
        self.loop = loop
        state = WatchedDescriptor(Descriptor(rawValue: own), name: name, loop: loop)
    }

    deinit {
        let state = state
        loop.detach { await state.loop.onLoop { await state.close() } }
    }

    /// Waits until a read would not wait. One task at a time may wait for this; another may wait for room meanwhile.
    ///
    /// - Throws: `IOError`: cancelled if the task is, closed if the watch is or becomes so, busy if another task waits.
    public func waitUntilReadable() async throws(IOError) { try await wait { $0.readable } }

    /// Waits until a write would not wait. As ``waitUntilReadable()``.
    public func waitUntilWritable() async throws(IOError) { try await wait { $0.writable } }

    @inline(__always)
    private func wait(_ direction: @Sendable (WatchedDescriptor) -> Readiness) async throws(IOError) {
        if loop.isHome { return try await state.wait(for: direction(state)) }
        try await loop.onLoop { () async throws(IOError) in try await state.wait(for: direction(state)) }
    }

    /// Ends the waits of others, which throw, and closes the duplicate. May be called again.
    public func close() async {
        await loop.onLoop { await state.close() }
    }
}

/// What a watch has. It belongs to the loop's thread.
@safe
private final class WatchedDescriptor: @unchecked Sendable {
    // SAFETY: other threads only pass the reference on, back to the loop's thread.

    let loop: EventLoop
    let readable: Readiness
    let writable: Readiness
    private let descriptor: Descriptor
    private let name: String
    private var isClosed = false

    init(_ descriptor: Descriptor, name: String, loop: EventLoop) {
        self.descriptor = descriptor
        self.name = name
        self.loop = loop
        readable = Readiness(descriptor, events: POLLIN, loop: loop)
        writable = Readiness(descriptor, events: POLLOUT, loop: loop)
    }

    @inline(__always)
    func wait(for direction: Readiness) async throws(IOError) {
        if loop.spendOperation() { await loop.yieldInTurn() }
        if isClosed { throw error(.closed) }
        if direction.hasWaiter { throw error(.busy) }
        let answer = await direction.wait()
        if answer < 0 { throw error(isClosed ? .closed : IOError.cause(ofAnswer: answer)) }
    }

    func close() async {
        if isClosed { return }
        isClosed = true
        await readable.close()
        await writable.close()
        _ = await unsafe loop.performToTheEnd(.close(descriptor))
    }

    private func error(_ cause: IOError.Cause) -> IOError { IOError("wait for", name, cause) }
}
