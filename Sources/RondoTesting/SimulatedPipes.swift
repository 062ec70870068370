// Pipes in memory, as Linux has them (fs/pipe.c): what is written can be read at once, a short write is never cut, and
// the end comes when nobody can write any more. The seed cuts longer reads and writes short, and says when who waits
// learns that a pipe is ready.

import CRondo
import Glibc
import Rondo
import SystemPackage

/// The pipes of a simulation.
final class SimulatedPipes {
    private unowned let world: SimulatedWorld
    /// Delays and parts.
    private var numbers: SeededGenerator

    init(world: SimulatedWorld) {
        self.world = world
        numbers = SimulatedWorld.numbers(world.seed, purpose: 9)
    }

    func open() throws(Errno) -> (reader: Descriptor, writer: Descriptor) {
        let content = SimulatedPipeContent()
        let ends = (
            SimulatedPipeEnd(content, isWriter: false, world: world, pipes: self),
            SimulatedPipeEnd(content, isWriter: true, world: world, pipes: self)
        )
        (content.reader, content.writer) = ends
        guard let reader = world.descriptors.open(ends.0) else { throw .tooManyOpenFiles }
        guard let writer = world.descriptors.open(ends.1) else {
            world.descriptors.close(reader)?.letGo()
            throw .tooManyOpenFiles
        }
        return (reader, writer)
    }

    /// The time until who waits learns of something.
    func latency() -> UInt64 { numbers.nanoseconds(in: world.options.localLatency) }

    /// How many of `count` bytes go at once.
    func part(of count: Int) -> Int {
        guard count > SimulatedPipeContent.wholeSize, numbers.chance(oneIn: world.options.partialFileOdds) else {
            return count
        }
        return numbers.number(in: 1...count)
    }
}

/// What is in a pipe, and its two ends.
final class SimulatedPipeContent {
    /// Linux's usual size.
    static let capacity = 65_536
    /// What is written in one part, or not at all (`PIPE_BUF`).
    static let wholeSize = 4096

    /// The ends, while they are open.
    weak var reader: SimulatedPipeEnd?
    weak var writer: SimulatedPipeEnd?
    var bytes: [UInt8] = []
    var room: Int { Self.capacity - bytes.count }
}

/// One end of a pipe.
@safe
final class SimulatedPipeEnd: SimulatedObject {
    // SAFETY: who reads or writes lends memory of the size that he says for the call.

    private unowned let world: SimulatedWorld
    private let pipes: SimulatedPipes
    private let content: SimulatedPipeContent
    let isWriter: Bool
    private var polls: [SimulatedOperation] = []

    init(_ content: SimulatedPipeContent, isWriter: Bool, world: SimulatedWorld, pipes: SimulatedPipes) {
        self.content = content
        self.isWriter = isWriter
        self.world = world
        self.pipes = pipes
    }

    override var description: String { "the \(isWriter ? "writing" : "reading") end of a pipe" }

    /// Answers as `Driver.readNow`.
    func read(_ memory: UnsafeMutableRawBufferPointer) -> Int32 {
        if isWriter { return -EBADF }
        if content.bytes.isEmpty { return content.writer == nil ? 0 : -EAGAIN }
        let count = pipes.part(of: min(memory.count, content.bytes.count))
        unsafe memory.copyBytes(from: content.bytes.prefix(count))
        content.bytes.removeFirst(count)
        content.writer?.mayBeReady()
        return Int32(count)
    }

    /// Answers as `Driver.writeNow`.
    func write(_ memory: UnsafeRawBufferPointer) -> Int32 {
        if !isWriter { return -EBADF }
        if content.reader == nil { return -EPIPE }
        let wanted = memory.count
        if wanted == 0 { return 0 }
        if content.room < min(wanted, SimulatedPipeContent.wholeSize) { return -EAGAIN }
        let count = pipes.part(of: min(wanted, content.room))
        unsafe content.bytes.append(contentsOf: memory.prefix(count))
        content.reader?.mayBeReady()
        return Int32(count)
    }

    override func close() {
        let other = isWriter ? content.reader : content.writer
        if isWriter { content.writer = nil } else { content.reader = nil }
        other?.mayBeReady()
    }

    // MARK: Polling

    func poll(_ operation: SimulatedOperation) {
        polls.append(operation)
        operation.leaveQueue = { [unowned self, unowned operation] in polls.removeAll { $0 === operation } }
        mayBeReady()
    }

    private func mayBeReady() {
        if polls.isEmpty { return }
        world.after(pipes.latency()) { [weak self] in self?.answerPolls() }
    }

    private func answerPolls() {
        for operation in polls {
            guard case .poll(_, let events) = unsafe operation.request else { continue }
            let ready = Int32(readiness & (events | Int16(POLLERR | POLLHUP)))
            if ready != 0 { world.complete(operation, ready) }
        }
    }

    /// What poll(2) says of it.
    private var readiness: Int16 {
        if isWriter {
            return Int16(
                (content.room >= SimulatedPipeContent.wholeSize ? POLLOUT : 0) | (content.reader == nil ? POLLERR : 0))
        }
        return Int16((content.bytes.isEmpty ? 0 : POLLIN) | (content.writer == nil ? POLLHUP : 0))
    }
}
