// The spans of swift-distributed-tracing in Rondo's flight recorder: a library that a program uses need not know of
// Rondo for its spans to stand on the lanes of its tasks.

internal import Rondo
internal import Synchronization
public import Tracing

/// A tracer that notes spans in the flight recorder, and passes them on.
///
/// ```
/// InstrumentationSystem.bootstrap(RondoTracer())                            // for `rondo trace` alone
/// InstrumentationSystem.bootstrap(RondoTracer(forwardingTo: otelTracer))    // and for whoever collects spans, too
/// ```
///
/// The recorder keeps of a span when it began and ended, its name and its task: see `TraceSpan` for how many names.
/// Spans that begin on threads without a loop are passed on, and not noted. A begin or an end at a time of the caller's
/// own is passed on with that time, and noted when it comes.
public struct RondoTracer: Tracer {
    private let next: (any Tracer)?

    /// - Parameter next: whom spans are passed on to, and who reads and writes the contexts of messages.
    public init(forwardingTo next: (any Tracer)? = nil) { self.next = next }

    /// Begins a span of the calling task.
    public func startSpan<Instant: TracerInstant>(
        _ operationName: String, context: @autoclosure () -> ServiceContext, ofKind kind: SpanKind,
        at instant: @autoclosure () -> Instant, function: String, file fileID: String, line: UInt
    ) -> RecordedSpan {
        let context = context()
        let forwarded: (any Tracing.Span)? = next?.startSpan(
            operationName, context: context, ofKind: kind, at: instant(), function: function, file: fileID, line: line)
        return RecordedSpan(operationName, context, forwarded)
    }

    /// Tells the next tracer to send what it has, as older versions of the protocol want it.
    @available(*, deprecated, message: "tell the next tracer itself")
    public func forceFlush() { next?.forceFlush() }

    /// Lets the next tracer read a message's context.
    public func extract<Carrier, Extract: Extractor>(
        _ carrier: Carrier, into context: inout ServiceContext, using extractor: Extract
    ) where Extract.Carrier == Carrier { next?.extract(carrier, into: &context, using: extractor) }

    /// Lets the next tracer write a message's context.
    public func inject<Carrier, Inject: Injector>(
        _ context: ServiceContext, into carrier: inout Carrier, using injector: Inject
    ) where Inject.Carrier == Carrier { next?.inject(context, into: &carrier, using: injector) }
}

/// A span that the flight recorder has noted. What is said of it goes to the next tracer, if there is one.
public final class RecordedSpan: Tracing.Span {
    private let recorded: TraceSpan
    private let forwarded: (any Tracing.Span)?
    private let name: Mutex<String>
    private let hasEnded = Atomic(false)
    /// What passes the span on to other tasks and services.
    public let context: ServiceContext

    init(_ name: String, _ context: ServiceContext, _ forwarded: (any Tracing.Span)?) {
        recorded = TraceSpan.begin(name)
        self.forwarded = forwarded
        self.name = Mutex(name)
        self.context = forwarded?.context ?? context
    }

    /// Its name. The recorder keeps the first.
    public var operationName: String {
        get { forwarded?.operationName ?? name.withLock { $0 } }
        set {
            name.withLock { $0 = newValue }
            forwarded?.operationName = newValue
        }
    }

    /// What was said of it; nothing is kept without a next tracer.
    public var attributes: SpanAttributes {
        get { forwarded?.attributes ?? [:] }
        set { forwarded?.attributes = newValue }
    }

    /// Whether a next tracer wants to hear more of it.
    public var isRecording: Bool { forwarded?.isRecording ?? false }

    /// Passes on how it went.
    public func setStatus(_ status: SpanStatus) { forwarded?.setStatus(status) }

    /// Passes on what happened in it.
    public func addEvent(_ event: SpanEvent) { forwarded?.addEvent(event) }

    /// Passes on what went wrong in it.
    public func recordError<Instant: TracerInstant>(
        _ error: any Error, attributes: SpanAttributes, at instant: @autoclosure () -> Instant
    ) { forwarded?.recordError(error, attributes: attributes, at: instant()) }

    /// Passes on what it has to do with.
    public func addLink(_ link: SpanLink) { forwarded?.addLink(link) }

    /// Ends it, once; from any thread.
    public func end<Instant: TracerInstant>(at instant: @autoclosure () -> Instant) {
        if hasEnded.exchange(true, ordering: .relaxed) { return }
        recorded.end()
        forwarded?.end(at: instant())
    }
}
