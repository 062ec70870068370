// Pipes, and descriptors that others use as well: the calls that make them, and move bytes through pipes, shared by the
// two real drivers.

import CRondo
import Glibc
import SystemPackage

extension KernelDriver {
    package func openPipe() throws(Errno) -> (reader: Descriptor, writer: Descriptor) {
        var (reader, writer): (Int32, Int32) = (-1, -1)
        // SAFETY: fills in the two numbers.
        let answer = unsafe rondo_pipe(&reader, &writer)
        if answer < 0 { throw Errno(rawValue: -answer) }
        for end in [reader, writer] { _ = rondo_set_nonblocking(end) }
        return (Descriptor(rawValue: reader), Descriptor(rawValue: writer))
    }

    /// The descriptor's file description may be shared with other programs (a shell's terminal), so it must not become
    /// non-blocking. Pipes, terminals and the like are opened once more through `/proc`, which gives a description of
    /// our own; where that is refused, the shared one is asked before each call.
    package func share(
        _ descriptor: Descriptor, forWriting: Bool
    ) throws(Errno) -> (descriptor: Descriptor, kind: StreamKind) {
        var kind = StreamKind.nonBlocking
        var own: Int32 = -1
        switch rondo_descriptor_form(descriptor.rawValue) {
        case Int32(RONDO_FORM_STREAM.rawValue): own = rondo_reopen(descriptor.rawValue, forWriting ? 1 : 0)
        case Int32(RONDO_FORM_SOCKET.rawValue): kind = .socket
        default: kind = .file
        }
        if own < 0 {
            if kind == .nonBlocking { kind = .shared }
            own = rondo_duplicate(descriptor.rawValue)
        }
        if own < 0 { throw Errno(rawValue: -own) }
        return (Descriptor(rawValue: own), kind)
    }
}

// Moving bytes between sockets, through a pipe (docs/decisions/0019).

extension KernelDriver {
    package func openTransferPipe(capacity: Int) throws(Errno) -> (reader: Descriptor, writer: Descriptor) {
        let pipe = try openPipe()
        let answer = rondo_widen_pipe(pipe.writer.rawValue, Int32(clamping: capacity))
        if answer >= 0 { return pipe }
        for end in [pipe.reader, pipe.writer] { closeNow(end) }
        throw Errno(rawValue: -answer)
    }

    /// `SPLICE_F_NONBLOCK` speaks for the pipe. What TCP does, and every socket that is sent to, the descriptor's own
    /// `O_NONBLOCK` decides. The ring's receives and sends on connected sockets don't look at that.
    package func prepareToMove(_ socket: Descriptor) throws(Errno) {
        if socketFlags & Int32(SOCK_NONBLOCK.rawValue) != 0 { return }
        _ = try checked(rondo_set_nonblocking(socket.rawValue))
    }

    package func moveNow(from socket: Descriptor, into pipe: Descriptor, count: Int) -> Int32 {
        // SAFETY: a limit, no pointer; so below.
        unsafe rondo_move_from_socket(socket.rawValue, pipe.rawValue, min(count, Operation.transferLimit))
    }

    package func moveNow(outOf pipe: Descriptor, to socket: Descriptor, count: Int) -> Int32 {
        unsafe rondo_move_to_socket(pipe.rawValue, socket.rawValue, min(count, Operation.transferLimit))
    }
}
