// How other threads reach a loop: an intrusive, lock-free stack that the loop takes as a whole and turns round, and
// one wake-up for a burst. Pushing a job allocates nothing.

import Synchronization

/// What another thread asks of a loop, other than to run a job.
final class InboxMessage {
    enum Content {
        /// A call of the offload pool has returned.
        case offloaded(OffloadWork)
        /// The task that waits for this operation was cancelled.
        case cancel(OperationID)
        /// A chunk was dropped on another thread.
        case release(BufferSlice)
        /// Anything else, to be run on the loop's thread.
        case perform(() -> Void)
    }

    let content: Content
    /// The entry below in the stack.
    fileprivate var next: UInt = 0

    init(_ content: Content) { self.content = content }
}

/// The inbox of a loop.
final class Inbox: Sendable {
    /// The newest entry: the address of a job, or of a message with bit 0 set. Each entry links to the one before.
    private let newest = Atomic<UInt>(0)
    /// Whether the loop's thread waits, or is about to.
    private let sleeping = Atomic<Bool>(false)
    /// `newest` after the loop has closed. No address has this value.
    private static let closed = UInt.max
    private static let messageBit: UInt = 1

    /// What the loop finds in its inbox.
    enum Entry {
        case job(UnownedJob)
        case message(InboxMessage)
    }

    enum PushOutcome { case pushed, pushedAndMustWake, closed }

    /// From any thread.
    func push(_ job: UnownedJob) -> PushOutcome {
        let reference = JobReference(job)
        return push(reference.bits) { reference.next = $0 }
    }

    /// From any thread.
    func push(_ content: sending InboxMessage.Content) -> PushOutcome {
        let message = InboxMessage(content)
        // SAFETY: the stack holds the reference from here on; drain() takes it over.
        let retained = unsafe Unmanaged.passRetained(message)
        let bits = unsafe UInt(bitPattern: retained.toOpaque()) | Self.messageBit
        let outcome = push(bits) { message.next = $0 }
        if outcome == .closed { unsafe retained.release() }
        return outcome
    }

    @inline(__always)
    private func push(_ bits: UInt, link: (UInt) -> Void) -> PushOutcome {
        var below = newest.load(ordering: .acquiring)
        while true {
            if below == Self.closed { return .closed }
            link(below)
            let (exchanged, now) = newest.weakCompareExchange(
                expected: below, desired: bits,
                successOrdering: .sequentiallyConsistent, failureOrdering: .acquiring)
            if exchanged { break }
            below = now
        }
        // Who pushes onto others relies on the first of the burst to wake the loop.
        guard below == 0, sleeping.load(ordering: .sequentiallyConsistent) else { return .pushed }
        return .pushedAndMustWake
    }

    /// Announces that the loop is about to wait. On the loop's thread.
    ///
    /// - Returns: false if there is something in the inbox: then it must not wait.
    func prepareToSleep() -> Bool {
        sleeping.store(true, ordering: .sequentiallyConsistent)
        if newest.load(ordering: .sequentiallyConsistent) == 0 { return true }
        sleeping.store(false, ordering: .relaxed)
        return false
    }

    /// The loop no longer waits. On the loop's thread.
    func wakeUp() { sleeping.store(false, ordering: .relaxed) }

    @inline(__always)
    var isEmpty: Bool { newest.load(ordering: .relaxed) == 0 }

    /// Takes everything, oldest first. On the loop's thread.
    @inline(__always)
    func drain(_ body: (Entry) -> Void) {
        if isEmpty { return }
        visit(newest.exchange(0, ordering: .acquiring), body)
    }

    /// Refuses whatever comes from now on, and takes what came before.
    func close(_ body: (Entry) -> Void) {
        let last = newest.exchange(Self.closed, ordering: .acquiringAndReleasing)
        if last != Self.closed { visit(last, body) }
    }

    private func visit(_ newest: UInt, _ body: (Entry) -> Void) {
        var rest = newest
        var oldest: UInt = 0
        while rest != 0 {
            let below = link(of: rest)
            setLink(of: rest, to: oldest)
            oldest = rest
            rest = below
        }
        while oldest != 0 {
            let entry = oldest
            oldest = link(of: entry)
            if entry & Self.messageBit == 0 {
                body(.job(JobReference(bits: entry)!.job))
            } else {
                // SAFETY: the reference that push() made passes to the visitor.
                body(.message(unsafe message(entry).takeRetainedValue()))
            }
        }
    }

    private func message(_ bits: UInt) -> Unmanaged<InboxMessage> {
        // SAFETY: bits with the message bit are the address of a message that push() retained.
        unsafe .fromOpaque(UnsafeRawPointer(bitPattern: bits & ~Self.messageBit)!)
    }

    private func link(of bits: UInt) -> UInt {
        bits & Self.messageBit == 0
            ? JobReference(bits: bits)!.next : unsafe message(bits)._withUnsafeGuaranteedRef { $0.next }
    }

    private func setLink(of bits: UInt, to below: UInt) {
        if bits & Self.messageBit == 0 {
            JobReference(bits: bits)!.next = below
        } else {
            unsafe message(bits)._withUnsafeGuaranteedRef { $0.next = below }
        }
    }
}
