// The loops' figures, as Prometheus and as swift-metrics get them.

import CoreMetrics
import MetricsTestKit
import Rondo
import RondoMetrics
import Testing

@Suite(.serialized) struct MetricsTests {
    private func ask(_ address: SocketAddress, _ request: String) async throws -> String {
        let stream = try await TCPStream.connect(to: address)
        try await stream.write(request)
        let answer = String(decoding: try await stream.readToEnd(limit: 1 << 20), as: UTF8.self)
        await stream.close()
        return answer
    }

    @Test func prometheusCanReadIt() throws {
        try EventLoop.run {
            try await Task.sleep(for: .microseconds(1))
            let null = try await File.open("/dev/null", .update())
            try await null.write([1])
            await null.close()
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let client = try await TCPStream.connect(to: listener.localAddress)
            let server = try await listener.accept()
            await client.close()
            var dropped: TCPStream? = try await TCPStream.connect(to: listener.localAddress)
            dropped = nil
            #expect(dropped == nil)
            _ = try await server.read()  // a turn, in which what was dropped is closed, too
            let text = await LoopMetrics.prometheusText()
            var types: [Substring: Substring] = [:]
            var values: [Substring: Double] = [:]
            for line in text.split(separator: "\n") {
                let words = line.split(separator: " ")
                if words[0] == "#" {
                    if words[1] == "TYPE" { types[words[2]] = words[3] }
                    continue
                }
                let name = words[0].prefix { $0 != "{" }
                let family = ["_bucket", "_sum", "_count"].first { name.hasSuffix($0) }
                    .map { name.dropLast($0.count) }
                #expect(types[name] != nil || types[family ?? ""] == "histogram", "\(line) has no type before it")
                #expect(values[words[0]] == nil, "\(words[0]) comes twice")
                values[words[0]] = try #require(Double(String(words[1])) as Double?, "\(line)")
            }
            let driver = EventLoop.current!.driverName
            let labels = #"loop="0",driver="\#(driver)""#
            #expect(values["rondo_loop_turns_total{\(labels)}"] ?? 0 > 0)
            #expect(values[#"rondo_loop_operations_total{\#(labels),kind="write"}"#] == 1)
            #expect(values["rondo_loop_connections_accepted_total{\(labels)}"] ?? 0 >= 1)
            #expect(values["rondo_loop_connections_opened_total{\(labels)}"] == 3)
            #expect(values["rondo_loop_connections_closed_total{\(labels)}"] == 2)
            #expect(values["rondo_loop_events_dropped_total{\(labels)}"] == 0)
            await server.close()
            await listener.close()
            #expect(types["rondo_loop_turns_total"] == "counter")
            #expect(types["rondo_loop_ready_jobs"] == "gauge")
            #expect(types["rondo_loop_timer_lateness_seconds"] == "histogram")
            #expect(values["rondo_loop_timer_lateness_seconds_count{\(labels)}"] == 1)
            // Buckets add up, to the count.
            let buckets = text.split(separator: "\n").filter { $0.hasPrefix("rondo_loop_lag_seconds_bucket") }
                .map { Double($0.split(separator: " ")[1])! }
            #expect(buckets == buckets.sorted())
            #expect(buckets.last == values["rondo_loop_lag_seconds_count{\(labels)}"])
        }
    }

    @Test func theEndpointAnswers() throws {
        try EventLoop.run {
            let listener = try await TCPListener.listen(on: .loopback(port: 0))
            let address = listener.localAddress
            try await withThrowingTaskGroup { group in
                group.addTask { try await LoopMetrics.serve(listener, of: [EventLoop.current!]) }
                let good = try await ask(address, "GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n")
                #expect(good.hasPrefix("HTTP/1.1 200 OK\r\n"))
                let body = good.split(separator: "\r\n\r\n", maxSplits: 1).last ?? ""
                #expect(good.contains("Content-Length: \(body.utf8.count)\r\n"))
                #expect(body.contains("rondo_loop_turns_total{"))
                for (request, status) in [
                    ("GET / HTTP/1.1\r\n\r\n", "404"), ("POST /metrics HTTP/1.1\r\n\r\n", "405"),
                    ("hello\r\n\r\n", "400"), ("GET /metrics HTTP/1.0\n\n", "200"),
                    ("HEAD /metrics?x=1 HTTP/1.1\r\n\r\n", "200"),
                ] {
                    let answer = try await ask(address, request)
                    #expect(answer.hasPrefix("HTTP/1.1 \(status) "), "\(request): \(answer.prefix(40))")
                }
                let bomb = "GET /metrics HTTP/1.1\r\n" + String(repeating: "X: y\r\n", count: 3000) + "\r\n"
                #expect(try await ask(address, bomb).hasPrefix("HTTP/1.1 431 "))
                // Who says nothing, and leaves.
                let silent = try await TCPStream.connect(to: address)
                await silent.close()
                #expect(try await ask(address, "GET /metrics HTTP/1.1\r\n\r\n").hasPrefix("HTTP/1.1 200 "))
                group.cancelAll()
            }
        }
    }

    @Test func swiftMetricsIsToldWhatWasAdded() async throws {
        let backend = TestMetrics()
        MetricsSystem.bootstrap(backend)
        try EventLoop.run {
            await withThrowingTaskGroup { group in
                group.addTask { try await LoopMetrics.report(of: [EventLoop.current!], every: .milliseconds(1)) }
                var rounds = 0
                while rounds < 3 {
                    rounds = backend.recorders.first { $0.label == "rondo_loop_timers" }?.values.count ?? 0
                    await EventLoop.yield()
                }
                group.cancelAll()
            }
            let turns = try #require(backend.counters.first { $0.label == "rondo_loop_turns_total" })
            let total = turns.values.reduce(0, +)
            #expect(total > 0)
            #expect(total <= Int64(await EventLoop.current!.statistics.turns))
        }
    }
}
