// The polls that wait at an epoll driver. A registration is edge-triggered and serves all operations of a descriptor; a
// poll asks for the state, not for a change. So each one asks poll(2) first, and again after every event: nothing that
// happens between can be missed, as it is an event, and what happens between the first look and the registration counts
// as one too. What epoll can't watch (files) is always ready, so that the first look answers.

import Glibc
import SystemPackage

/// Polls by descriptor. (A class, so that changing its dictionary checks no access to the driver.)
final class EpollPolls {
    struct Poll {
        let id: OperationID
        let events: Int16

        /// What there is now; nil for nothing that it waits for.
        func look(at descriptor: Int32) -> Int32? {
            // SAFETY: poll(2) fills in the one entry that it is lent.
            var entry = pollfd(fd: descriptor, events: events, revents: 0)
            do throws(Errno) {
                if try systemCall({ unsafe Glibc.poll(&entry, 1, 0) }) == 0 { return nil }
            } catch {
                return -error.rawValue
            }
            return entry.revents & Int16(POLLNVAL) == 0 ? Int32(entry.revents) : -EBADF
        }
    }

    private var polls: [Int32: [Poll]] = [:]

    func add(_ poll: Poll, to descriptor: Int32) { polls[descriptor, default: []].append(poll) }

    /// In the order in which they came.
    func waiting(on descriptor: Int32) -> [Poll] { polls[descriptor] ?? [] }

    func contains(_ id: OperationID, on descriptor: Int32) -> Bool {
        polls[descriptor]?.contains { $0.id == id } ?? false
    }

    func remove(_ id: OperationID, from descriptor: Int32) {
        polls[descriptor]?.removeAll { $0.id == id }
        if polls[descriptor]?.isEmpty == true { polls[descriptor] = nil }
    }
}
