// Spans of swift-distributed-tracing, as the flight recorder has them.

import InMemoryTracing
import Rondo
import RondoTracing
import Testing
import Tracing

@testable import RondoInsight

@Suite(.serialized) struct RondoTracerTests {
    private struct Failure: Error {}

    private func record(_ body: @escaping @Sendable () async throws -> Void) throws -> TraceModel {
        let memory = try EventMemory(eventCapacity: 10_000)
        try EventLoop.run {
            let loop = EventLoop.current!
            await loop.record(into: memory)
            try await Task(name: "order", executorPreference: loop.executor) { try await body() }.value
            loop.recording = nil
        }
        return TraceModel(try TraceFile(memory.bytes))
    }

    @Test func spansStandOnTheLaneOfTheirTask() throws {
        let tracer = RondoTracer()
        let model = try record {
            await tracer.withSpan("order") { _ in
                try? await tracer.withSpan("look up") { _ in
                    try await Task.sleep(for: .milliseconds(1))
                    throw Failure()
                }
                await tracer.withSpan("send") { span in
                    #expect(!span.isRecording, "nobody collects it")
                    await EventLoop.yield()
                }
            }
        }
        #expect(model.spans.map(\.name) == ["order", "look up", "send"])
        #expect(Set(model.spans.map { model.tasks[$0.task].name }) == ["order"])
        #expect(model.spans.allSatisfy { !$0.isOpen })
        let (order, lookUp, send) = (model.spans[0], model.spans[1], model.spans[2])
        #expect(order.start <= lookUp.start && lookUp.end <= send.start && send.end <= order.end)
        #expect(lookUp.duration >= 1_000_000)
    }

    @Test func whoCollectsSpansHearsOfThemToo() throws {
        let collector = InMemoryTracer()
        let tracer = RondoTracer(forwardingTo: collector)
        let model = try record {
            try? tracer.withSpan("download", ofKind: .client) { span in
                span.attributes["url"] = "http://localhost"
                #expect(span.isRecording)
                span.operationName = "download again"
                tracer.withSpan("part") { _ in }
                var headers: [String: String] = [:]
                tracer.inject(span.context, into: &headers, using: DictionaryInjector())
                #expect(!headers.isEmpty)
                throw Failure()
            }
        }
        #expect(model.spans.map(\.name) == ["download", "part"])
        let spans = collector.finishedSpans
        #expect(spans.map(\.operationName) == ["part", "download again"])
        #expect(spans[0].parentSpanID == spans[1].spanID)
        #expect(spans[1].kind == .client)
        #expect(spans[1].attributes["url"]?.toSpanAttribute() == .string("http://localhost"))
        #expect(spans[1].errors.count == 1)
    }

    @Test func whereNoLoopIsNothingIsNoted() {
        let span = RondoTracer().startSpan("nowhere", context: .topLevel, ofKind: .internal)
        #expect(span.operationName == "nowhere")
        span.end()
        span.end()
    }
}

private struct DictionaryInjector: Injector {
    func inject(_ value: String, forKey key: String, into carrier: inout [String: String]) { carrier[key] = value }
}
