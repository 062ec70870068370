// The Trace Event Format, as its document has it: every event has a phase, a process and a time; complete events have a
// duration, asynchronous ones come in pairs, metadata names processes and threads.

import Foundation
import Testing

@testable import Rondo
@testable import RondoInsight

extension InsightSuites {
    @Suite struct TraceJSONTests {
        private typealias Event = [String: Any]

        private func trace() throws -> TraceModel {
            TraceModel(
                try TestWorld.machine.record {
                    let loop = EventLoop.current!
                    await Task(name: "a \"name\" </script> \u{7}", executorPreference: loop.executor) {
                        try? await Task.sleep(for: .milliseconds(1))
                        await withTraceSpan("a \"span\"") { try? await offload { () } }
                        _ = TraceSpan.begin("open")
                    }.value
                })
        }

        private func events(_ model: TraceModel) throws -> [Event] {
            let data = Data(TraceJSON.string(model).utf8)
            let object = try #require(try JSONSerialization.jsonObject(with: data) as? [String: Any])
            #expect(object["displayTimeUnit"] as? String == "ns")
            return try #require(object["traceEvents"] as? [Event])
        }

        @Test func everyEventFollowsTheFormat() throws {
            let events = try events(trace())
            #expect(events.count > 10)
            for event in events {
                let phase = try #require(event["ph"] as? String)
                #expect(["X", "M", "C", "b", "e"].contains(phase))
                #expect(event["name"] is String)
                #expect(event["pid"] is Int)
                #expect(try #require(event["ts"] as? Double) >= 0)
                #expect(event["args"] is [String: Any])
                switch phase {
                case "X":
                    #expect(try #require(event["dur"] as? Double) >= 0)
                    #expect(event["tid"] is Int)
                    #expect(event["cat"] is String)
                case "M":
                    let name = event["name"] as? String
                    #expect(name == "process_name" || name == "thread_name")
                    #expect((event["args"] as? Event)?["name"] is String)
                case "C": #expect((event["args"] as? [String: Int])?.isEmpty == false)
                default:
                    #expect(event["id"] is String)
                    #expect(event["cat"] is String)
                }
            }
            let begun = events.filter { $0["ph"] as? String == "b" }.compactMap { $0["id"] as? String }
            let ended = events.filter { $0["ph"] as? String == "e" }.compactMap { $0["id"] as? String }
            #expect(begun.sorted() == (ended + ["span 1"]).sorted(), "a call of the pool, a span, and one without end")
            #expect(begun.count == 3)
        }

        /// A thread of the format does one thing at a time, or things within things.
        @Test func barsOfAThreadDoNotCross() throws {
            var ends: [String: Double] = [:]
            let bars = try events(trace()).filter { $0["ph"] as? String == "X" }
                .sorted { ($0["ts"] as! Double, $0["dur"] as! Double) < ($1["ts"] as! Double, $1["dur"] as! Double) }
            for bar in bars {
                let thread = "\(bar["pid"]!) \(bar["tid"]!)"
                let (start, duration) = (bar["ts"] as! Double, bar["dur"] as! Double)
                #expect(start >= ends[thread, default: 0] - 0.0005)
                ends[thread] = start + duration
            }
        }

        @Test func namesArriveAsTheyAre() throws {
            let names = try events(trace()).filter { $0["ph"] as? String == "M" }
                .compactMap { ($0["args"] as? Event)?["name"] as? String }
            #expect(names.contains("a \"name\" </script> \u{7}"))
        }
    }
}
