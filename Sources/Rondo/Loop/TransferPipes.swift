// The pipes that bytes are moved through from socket to socket (docs/decisions/0019). A pipe takes two descriptors, and
// counts towards what the user may have in pipes, full or not: so a loop has a few, and keeps fewer that nobody uses.

import Glibc
import SystemPackage

/// A pipe for a transfer.
struct TransferPipe {
    let reader: Descriptor
    let writer: Descriptor
    /// What it has room for, in bytes, if they come in full pages.
    let capacity: Int
}

/// A loop's transfer pipes. They belong to its thread.
final class TransferPipes {
    /// Empty ones. The next user takes the one that was used last.
    private(set) var idle: [TransferPipe] = []
    /// Those that are lent.
    private(set) var lent = 0
    /// Whether the driver can't move bytes.
    private(set) var isUnsupported = false
    private var isClosed = false

    /// Sizes to try, the best first: with less than the last one moving bytes costs what copying them does.
    private static let capacities = [1 << 20, 256 << 10]
    private static let idleLimit = 4

    /// An empty pipe, to be given back; nil if none can be had now.
    func take(_ driver: any Driver, limit: Int) -> TransferPipe? {
        if lent >= limit || isUnsupported || isClosed { return nil }
        guard let pipe = idle.popLast() ?? open(driver) else { return nil }
        lent += 1
        return pipe
    }

    private func open(_ driver: any Driver) -> TransferPipe? {
        for capacity in Self.capacities {
            do throws(Errno) {
                let (reader, writer) = try driver.openTransferPipe(capacity: capacity)
                return TransferPipe(reader: reader, writer: writer, capacity: capacity)
            } catch {
                // No descriptors, or the user has too much in pipes already (man 7 pipe).
                if error == .notSupported { isUnsupported = true }
            }
        }
        return nil
    }

    /// Takes a pipe back.
    ///
    /// - Parameter isEmpty: whether nothing is left in it.
    func giveBack(_ pipe: TransferPipe, isEmpty: Bool, _ driver: any Driver) {
        lent -= 1
        if isEmpty, !isClosed, idle.count < Self.idleLimit { return idle.append(pipe) }
        close(pipe, driver)
    }

    private func close(_ pipe: TransferPipe, _ driver: any Driver) {
        driver.closeNow(pipe.reader)
        driver.closeNow(pipe.writer)
    }

    /// Lends no more, and closes those that are not lent.
    func close(_ driver: any Driver) {
        isClosed = true
        for pipe in idle { close(pipe, driver) }
        idle = []
    }
}
