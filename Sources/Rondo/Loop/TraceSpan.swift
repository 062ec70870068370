// Spans: what a program calls a stretch of a task's work, noted in the flight recorder beside what the loop knows.

import CRondo
import Synchronization

/// A named stretch of a task's work, which `rondo trace` shows below the task's lane.
///
/// ```
/// let order = try await withTraceSpan("look up the order") { try await database.order(number) }
/// ```
///
/// Spans of one task may lie within one another. Where nothing records, a span costs one look; where something does, it
/// reads the processor's clock at each end. A loop keeps up to 256 different names, of up to 62 bytes: so the name says
/// what is done, and not to whom. Spans of further names are shown without one.
///
/// Programs that use swift-distributed-tracing get the same from `RondoTracer`, in `RondoTracing`.
public struct TraceSpan: Sendable {
    /// The loop that has noted its begin; nil if nobody did.
    private let loop: EventLoop?
    private let number: UInt32
    private let task: UInt32

    /// Begins a span of the calling task, which is expected to run on a loop; elsewhere nothing is noted.
    public static func begin(_ name: String) -> TraceSpan {
        guard let loop = EventLoop.current, let ring = loop.eventRing, let task = currentTaskReference() else {
            return TraceSpan(loop: nil, number: 0, task: 0)
        }
        let number = numbers.add(1, ordering: .relaxed).newValue
        ring.spanBegins(number, label: loop.label(of: name), task: task.taskNumber)
        return TraceSpan(loop: loop, number: number, task: task.taskNumber)
    }

    /// Ends it. From any task and any thread, once.
    public func end() {
        guard let loop else { return }
        let here = EventLoop.current ?? loop
        if here.isOnOwnThread { return here.endSpan(number, task: task) }
        here.tell(.perform { here.endSpan(number, task: task) })
    }

    private static let numbers = Atomic<UInt32>(0)
}

/// Runs `body` as a span of the calling task: see ``TraceSpan``. It ends with `body`, also if that throws.
@inlinable
public func withTraceSpan<Value, Failure: Error>(
    _ name: String, _ body: () async throws(Failure) -> Value
) async throws(Failure) -> Value {
    let span = TraceSpan.begin(name)
    defer { span.end() }
    return try await body()
}

extension EventLoop {
    /// The place of a span's name in the ring.
    fileprivate func label(of name: String) -> UInt32 {
        if let place = spanLabels[name] { return place }
        guard let place = eventRing?.add(label: name) else { return RONDO_LABEL_COUNT }
        if place < RONDO_LABEL_COUNT { spanLabels[name] = place }
        return place
    }

    fileprivate func endSpan(_ number: UInt32, task: UInt32) { eventRing?.spanEnds(number, task: task) }
}
