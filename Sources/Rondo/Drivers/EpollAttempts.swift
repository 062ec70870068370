// The calls that the epoll driver makes for a socket when they may succeed. What it knows of the kernel's ways is said
// at the head of EpollDriver.swift.

import CRondo
import Glibc
import SystemPackage

extension EpollDriver {
    func receive(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        for _ in 0..<Self.receivesPerAttempt {
            guard let space = unsafe receiveBuffers.writableSpace() else {
                return unsafe endReading(socket, -ENOBUFS)  // still readable: the next receive tries at once
            }
            let count: Int
            do throws(Errno) {
                systemCalls &+= 1
                // SAFETY: the space is ours until the next call to the buffers.
                count = try systemCall {
                    unsafe recv(descriptor, space.baseAddress, space.count, Int32(MSG_DONTWAIT))
                }
            } catch {
                if error != .wouldBlock { return unsafe endReading(socket, -error.rawValue) }
                // SAFETY: an entry of the table.
                return unsafe socket.pointee.mayRead = false
            }
            if count == 0 { return unsafe endReading(socket, 0) }
            let slice = receiveBuffers.commit(count)
            completions.append(
                Completion(operation: unsafe socket.pointee.reader, result: Int32(count), more: true, slice: slice))
            if unsafe count < space.count && !socket.pointee.mustReadUntilEmpty && !socket.pointee.isUnix(descriptor) {
                return unsafe socket.pointee.mayRead = false
            }
        }
    }

    func accept(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        for _ in 0..<Self.acceptsPerAttempt {
            systemCalls &+= 1
            let answer = rondo_accept(descriptor)
            if answer >= 0 {
                completions.append(Completion(operation: unsafe socket.pointee.reader, result: answer, more: true))
                if let accepted = unsafe sockets.existingEntry(of: answer) {
                    unsafe accepted.pointee.domain = socket.pointee.isUnix(descriptor) ? .unix : .internet
                }
                continue
            }
            switch -answer {
            case EAGAIN:
                // SAFETY: an entry of the table.
                return unsafe socket.pointee.mayRead = false
            case EINTR, ECONNABORTED, EPROTO, ENETDOWN, ENOPROTOOPT, EHOSTDOWN, ENONET, EHOSTUNREACH, ENETUNREACH:
                continue  // this connection failed before it was ours; the next one may not
            default:
                return unsafe endReading(socket, answer)
            }
        }
    }

    func send(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        for _ in 0..<Self.sendsPerAttempt {
            let count: Int
            do throws(Errno) {
                systemCalls &+= 1
                // SAFETY: an entry of the table; its bytes live until the operation's completion.
                count = try systemCall {
                    unsafe Glibc.send(
                        descriptor, socket.pointee.bytes, socket.pointee.bytesLeft,
                        Int32(MSG_NOSIGNAL) | Int32(MSG_DONTWAIT))
                }
            } catch {
                if error != .wouldBlock { return unsafe endWriting(socket, -error.rawValue) }
                return unsafe socket.pointee.mayWrite = false
            }
            unsafe socket.pointee.bytesSent += count
            unsafe socket.pointee.bytesLeft -= count
            if unsafe socket.pointee.bytesLeft == 0 { return unsafe endWriting(socket, 0) }
            unsafe socket.pointee.bytes? += count
        }
    }

    func receiveMessage(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        systemCalls &+= 1
        // SAFETY: an entry of the table; the message lives until the operation's completion, here and below.
        if let result = unsafe socket.pointee.receiveMessage(descriptor) { unsafe endReading(socket, result) }
    }

    func sendMessage(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        systemCalls &+= 1
        if let result = unsafe socket.pointee.sendMessage(descriptor) { unsafe endWriting(socket, result) }
    }

    func connect(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        do throws(Errno) {
            systemCalls &+= 1
            // SAFETY: an entry of the table; its bytes are the address, which lives until the completion.
            try systemCall {
                unsafe Glibc.connect(
                    descriptor, socket.pointee.bytes!.assumingMemoryBound(to: sockaddr.self),
                    socklen_t(socket.pointee.bytesLeft))
            }
        } catch {
            // A signal in the first call makes the second answer EALREADY.
            guard error == .nowInProgress || error == .alreadyInProcess else {
                return unsafe endWriting(socket, -error.rawValue)
            }
            unsafe socket.pointee.writing = .connecting
            unsafe socket.pointee.mayWrite = false
            return
        }
        unsafe endWriting(socket, 0)
    }

    func finishConnect(_ socket: UnsafeMutablePointer<EpollSocket>, _ descriptor: Int32) {
        var outcome: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        systemCalls &+= 1
        // SAFETY: the outcome has the stated length.
        let answer = unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &outcome, &length)
        unsafe endWriting(socket, answer < 0 ? -errno : -outcome)
    }
}
