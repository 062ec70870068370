// What the two ends of a pipe have in common: a descriptor, one user at a time, and an end. Reads and writes are made
// at once; if there is nothing to read or no room, a poll tells when there is. So no thread ever waits in a call, with
// either driver. Files alone are read and written by operations: they are always "ready".

import CRondo
import Glibc
import SystemPackage

/// One end of a pipe. It belongs to the loop's thread.
@safe
final class StreamEnd: @unchecked Sendable {
    // SAFETY: other threads only pass the reference on, back to the loop's thread. The closer is taken out of its
    // property before it is resumed.

    let loop: EventLoop
    let descriptor: Descriptor
    let kind: StreamKind
    /// What it is, for errors: `standard output of ls`.
    let name: String
    let readiness: Readiness
    private let verb: String
    private(set) var isClosed = false
    private var isBusy = false
    private var closer: UnsafeContinuation<Void, Never>?

    init(_ descriptor: Descriptor, kind: StreamKind, name: String, forWriting: Bool, loop: EventLoop) {
        self.descriptor = descriptor
        self.kind = kind
        self.name = name
        self.loop = loop
        verb = forWriting ? "write to the pipe" : "read from the pipe"
        readiness = Readiness(descriptor, events: forWriting ? POLLOUT : POLLIN, loop: loop)
    }

    /// Runs `body` as the only user of this end, on the loop's thread.
    func use<Value: Sendable>(
        _ body: @Sendable () async throws(IOError) -> Value
    ) async throws(IOError) -> Value {
        try await loop.onLoop { () async throws(IOError) in
            if loop.spendOperation() { await loop.yieldInTurn() }
            if isClosed { throw error(.closed) }
            if isBusy { throw error(.busy) }
            isBusy = true
            defer { endUse() }
            return try await body()
        }
    }

    private func endUse() {
        isBusy = false
        guard let continuation = unsafe closer else { return }
        unsafe closer = nil
        unsafe continuation.resume()
    }

    /// Waits until there is something to read, or room.
    func wait() async throws(IOError) {
        let answer = await readiness.wait()
        if answer < 0 { throw failure(answer) }
    }

    func failure(_ answer: Int32) -> IOError { error(isClosed ? .closed : IOError.cause(ofAnswer: answer)) }

    private func error(_ cause: IOError.Cause) -> IOError { IOError(verb, name, cause) }

    /// Closes it; who waits gets an error. On the loop's thread.
    func close() async {
        if isClosed { return }
        isClosed = true
        await readiness.close()
        await unsafe park(unless: !isBusy) { unsafe closer = $0 }
        _ = await unsafe loop.performToTheEnd(.close(descriptor))
    }

    /// The object that has it is being dropped.
    func abandon() {
        loop.detach { await self.loop.onLoop { await self.close() } }
    }

    // MARK: Descriptors of others

    /// Makes an end of a descriptor that belongs to somebody else, and stays open when this is closed.
    ///
    /// The descriptor's file description may be shared with other programs (a shell's terminal), so it must not become
    /// non-blocking. Pipes, terminals and the like are opened once more through `/proc`, which gives a description of
    /// our own; where that is refused, the shared one is asked before each call.
    static func sharing(
        _ descriptor: Int32, name: String, forWriting: Bool, loop: EventLoop
    ) throws(IOError) -> StreamEnd {
        guard loop.driver is any KernelDriver else {
            throw IOError("open", name, .invalid("a simulation has no streams of the process"))
        }
        let form = rondo_descriptor_form(descriptor)
        var kind = StreamKind.nonBlocking
        var own: Int32 = -1
        switch form {
        case Int32(RONDO_FORM_STREAM.rawValue): own = rondo_reopen(descriptor, forWriting ? 1 : 0)
        case Int32(RONDO_FORM_SOCKET.rawValue): kind = .socket
        default: kind = .file
        }
        if own < 0 {
            if kind == .nonBlocking { kind = .shared }
            own = rondo_duplicate(descriptor)
        }
        if own < 0 { throw IOError("open", name, IOError.cause(ofAnswer: own)) }
        return StreamEnd(Descriptor(rawValue: own), kind: kind, name: name, forWriting: forWriting, loop: loop)
    }
}
