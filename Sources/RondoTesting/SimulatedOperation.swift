import CRondo
import Glibc
import Rondo

/// An operation that a loop waits for, on its way through a simulated world.
@safe
final class SimulatedOperation {
    // SAFETY: the pointers in `request` are valid until the last completion (see `Operation`), and are used only
    // while `isOver` is false.

    let id: OperationID
    let request: Operation
    let kind: Operation.Kind
    /// What it works on.
    let object: SimulatedObject?
    /// The descriptor that counts it as under way.
    let descriptor: Descriptor?
    /// When it was submitted, for a stable order in reports.
    let number: UInt64
    /// The next thing that happens to it, if that is a matter of time.
    var step: SimulatedEvent?
    /// Takes it out of the queue in which it waits.
    var leaveQueue: (() -> Void)?
    /// Bytes sent so far.
    var progress = 0
    /// Whether it has found no room, and waits or has waited for some.
    var hasWaited = false
    /// Whether the loop has asked for an early end.
    var isCancelled = false
    /// Whether its last completion is out.
    var isOver = false

    init(_ request: Operation, id: OperationID, object: SimulatedObject?, number: UInt64) {
        self.id = id
        unsafe self.request = unsafe request
        kind = unsafe request.kind
        self.object = object
        descriptor = unsafe object == nil ? nil : request.descriptor
        self.number = number
    }

    /// What it answers when it is ended early.
    var resultWhenCancelled: Int32 { progress > 0 ? Int32(progress) : -ECANCELED }

    /// `receive on 127.0.0.1:40000 → 127.0.0.1:80`
    var description: String { object.map { "\(kind) on \($0.description)" } ?? "\(kind)" }
}
