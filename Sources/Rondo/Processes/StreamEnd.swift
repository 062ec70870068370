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
    static func sharing(
        _ descriptor: Int32, name: String, forWriting: Bool, loop: EventLoop
    ) throws(IOError) -> StreamEnd {
        do throws(Errno) {
            let own = try loop.driver.share(Descriptor(rawValue: descriptor), forWriting: forWriting)
            return StreamEnd(own.descriptor, kind: own.kind, name: name, forWriting: forWriting, loop: loop)
        } catch {
            if !(loop.driver is any KernelDriver), error == .badFileDescriptor {
                throw IOError("open", name, .invalid("a simulation has no streams of the process"))
            }
            throw IOError("open", name, .system(error))
        }
    }
}
