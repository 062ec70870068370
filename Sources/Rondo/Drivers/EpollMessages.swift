// What the epoll driver does for a socket's messages, and what it must know of Unix sockets.

import Glibc
import SystemPackage

extension EpollSocket {
    /// Receives a message, if one is there.
    ///
    /// - Returns: what the operation is to be completed with; nil if it must wait for an event.
    mutating func receiveMessage(_ descriptor: Int32) -> Int32? {
        // SAFETY: the message lives until the operation's completion, here and below.
        let (message, flags) = unsafe (incoming, incomingFlags)
        do throws(Errno) {
            return Int32(try systemCall { unsafe recvmsg(descriptor, message!, flags | Int32(MSG_DONTWAIT)) })
        } catch {
            if error != .wouldBlock || flags & Int32(MSG_DONTWAIT) != 0 { return -error.rawValue }
            unsafe mayRead = false
            return nil
        }
    }

    /// Sends a message, if there is room.
    ///
    /// - Returns: what the operation is to be completed with; nil if it must wait for an event.
    mutating func sendMessage(_ descriptor: Int32) -> Int32? {
        // SAFETY: as above; for a message, `bytes` is its head.
        let message = unsafe bytes!.assumingMemoryBound(to: msghdr.self)
        let flags = unsafe outgoingFlags
        let callFlags = flags | Int32(MSG_DONTWAIT) | Int32(MSG_NOSIGNAL)
        do throws(Errno) {
            return Int32(try systemCall { unsafe sendmsg(descriptor, message, callFlags) })
        } catch {
            if error != .wouldBlock || flags & Int32(MSG_DONTWAIT) != 0 { return -error.rawValue }
            unsafe mayWrite = false
            return nil
        }
    }

    /// Whether it is a Unix socket, where a short receive proves nothing. The kernel is asked once.
    mutating func isUnix(_ descriptor: Int32) -> Bool {
        // SAFETY: no pointer is looked at.
        if unsafe domain == .unknown {
            unsafe domain = Rondo.domain(of: descriptor) == AF_UNIX ? .unix : .internet
        }
        return unsafe domain == .unix
    }
}
