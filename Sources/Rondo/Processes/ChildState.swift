import CRondo
import Glibc
import SystemPackage

/// A child as the kernel knows it: by a descriptor that stands for this very process, never for a later one with the
/// same number.
@safe
final class ChildState: @unchecked Sendable {
    // SAFETY: `end` belongs to the loop's thread; the rest never changes. The descriptor is open as long as this lives.

    private enum End {
        case ended(ChildProcess.ExitStatus)
        /// The kernel does not tell, with this errno.
        case unknown(Errno)
    }

    let loop: EventLoop
    let processID: Int32
    let name: String
    private let descriptor: Descriptor
    private var end: End?

    init(_ descriptor: Descriptor, processID: Int32, name: String, loop: EventLoop) {
        self.descriptor = descriptor
        self.processID = processID
        self.name = name
        self.loop = loop
        // Whoever waits or not: the child's end is taken, so that it leaves no zombie.
        loop.detach { await self.loop.onLoop { await self.waitForLoop() } }
    }

    deinit {
        let (descriptor, loop) = (descriptor, loop)
        loop.detach { _ = await unsafe loop.performToTheEnd(.close(descriptor)) }
    }

    /// Waits as long as the loop is there. Then a thread does.
    private func waitForLoop() async {
        do throws(IOError) {
            _ = try await wait()
        } catch {
            if end == nil { _ = rondo_reap_in_background(descriptor.rawValue) }
        }
    }

    /// Waits for the end. On the loop's thread.
    func wait() async throws(IOError) -> ChildProcess.ExitStatus {
        while true {
            switch end {
            case .ended(let status): return status
            case .unknown(let errno): throw IOError("wait for", name, .system(errno))
            case nil: break
            }
            let answer = await unsafe loop.perform(.poll(descriptor, events: Int16(POLLIN)))
            takeEnd()
            if answer < 0, end == nil { throw IOError("wait for", name, IOError.cause(ofAnswer: answer)) }
        }
    }

    /// The end, if it has come. On the loop's thread.
    var status: ChildProcess.ExitStatus? {
        takeEnd()
        if case .ended(let status) = end { return status }
        return nil
    }

    private func takeEnd() {
        if end != nil { return }
        var answer = rondo_exit()
        // SAFETY: fills in the answer.
        let result = unsafe rondo_pidfd_reap(descriptor.rawValue, 0, &answer)
        if result < 0 {
            end = .unknown(Errno(rawValue: -result))
        } else if answer.has_ended != 0 {
            end = .ended(
                answer.is_signal != 0
                    ? .signalled(Signal(rawValue: answer.value), dumpedCore: answer.dumped_core != 0)
                    : .exited(answer.value))
        }
    }

    /// Sends a signal; false if the process has ended. From any thread.
    func send(_ signal: Signal) throws(IOError) -> Bool {
        let answer = rondo_pidfd_send_signal(descriptor.rawValue, signal.rawValue)
        if answer == -ESRCH { return false }
        if answer < 0 { throw IOError("send \(signal) to", name, IOError.cause(ofAnswer: answer)) }
        return true
    }

    /// Asks the process to end, and ends it when it has not done so in time. On the loop's thread.
    func terminate(within gracePeriod: Duration) async throws(IOError) -> ChildProcess.ExitStatus {
        _ = try send(.terminate)
        do {
            return try await withTimeout(gracePeriod) { try await self.loop.onLoop { try await self.wait() } }
        } catch let error as IOError {
            throw error
        } catch {
            // The time is up.
            _ = try send(.kill)
            return try await wait()
        }
    }
}
