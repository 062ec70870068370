// The timeline page, in a browser without a screen. Where Chromium is missing these tests are skipped.

import Glibc
import Testing

@testable import Rondo
@testable import RondoInsight

extension InsightSuites {
    @Suite(.enabled(if: Browser.path != nil, "chromium is not installed")) struct TracePageTests {
        /// Turn by turn: two tasks that take turns, and one that sleeps.
        private func smallTrace(_ world: TestWorld = .simulated) throws -> TraceModel {
            TraceModel(
                try world.record {
                    let loop = EventLoop.current!
                    let sleeper = Task(name: "sleeper", executorPreference: loop.executor) {
                        try? await Task.sleep(for: .seconds(1))
                    }
                    let pair = ["ping", "pong"].map { name in
                        Task(name: name, executorPreference: loop.executor) {
                            for _ in 0..<3 { await EventLoop.yield() }
                        }
                    }
                    for task in pair { await task.value }
                    await sleeper.value
                })
        }

        @Test func thePageNeedsNothingElse() throws {
            let page = TracePage.html(try smallTrace())
            for word in ["http:", "https:", "src=", "@import", "fetch(", "import("] {
                #expect(!page.contains(word), "the page asks for \(word)")
            }
        }

        /// The manager's walk: what is ready, who runs, who waits, one step after another.
        @Test func stepModeWalksThroughATurn() throws {
            // A simulation's seed would decide who goes first.
            let model = try smallTrace(.machine)
            let steps = try (0..<8).map { count in
                let keys = ["s"] + Array(repeating: "ArrowRight", count: count)
                return try Browser.open(model, "#keys=\(keys.joined(separator: ","))")
            }
            for (count, page) in steps.enumerated() {
                #expect(page.attribute("step") == "on")
                #expect(page.attribute("moment") == "\(count)")
                let rooms = page.list("ready") + page.list("waiting") + page.running
                #expect(Set(rooms).count == rooms.count, "a task stands in two rooms: \(rooms)")
            }
            let first = try #require(steps.firstIndex { $0.running == ["ping"] })
            #expect(steps[first].list("ready").contains("pong"))
            #expect(steps[first].list("waiting").contains("sleeper"))
            #expect(steps[first + 1].running == ["pong"])
            #expect(steps[first + 1].list("ready").contains("ping"))
            // Back again.
            let keys = "s,ArrowRight,ArrowRight,ArrowLeft"
            #expect(try Browser.open(model, "#keys=\(keys)").attribute("moment") == "1")
        }

        @Test func aTaskIsFoundAndItsCriticalPathShown() throws {
            let page = try Browser.open(try smallTrace(), "#find=sleeper&keys=c")
            #expect(page.attribute("selected") == "sleeper")
            #expect(Int(page.attribute("path") ?? "") ?? 0 >= 1)
            #expect(page.text.contains("waiting for sleep"))
            #expect(page.text.contains("1.00 s"))
        }

        @Test func spansHaveRowsBelowTheirTask() throws {
            let trace = try TestWorld.simulated.record {
                await Task(name: "cook", executorPreference: EventLoop.current!.executor) {
                    await withTraceSpan("dinner") {
                        await withTraceSpan("soup & <bread>") { try? await Task.sleep(for: .seconds(1)) }
                        await withTraceSpan("roast") { try? await Task.sleep(for: .seconds(2)) }
                    }
                }.value
            }
            let page = try Browser.open(TraceModel(trace), "#spans=cook")
            #expect(page.attribute("spans") == "dinner|soup &amp; &lt;bread&gt;, roast")
        }

        @Test func hundredThousandEventsAreThereAtOnce() throws {
            let trace = try TestWorld.machine.record(capacity: 110_000) {
                let loop = EventLoop.current!
                let tasks = (0..<200).map { number in
                    Task(name: "task of many \(number)", executorPreference: loop.executor) {
                        for _ in 0..<270 { await EventLoop.yield() }
                    }
                }
                for task in tasks { await task.value }
            }
            let model = TraceModel(trace)
            #expect(model.eventCount > 100_000)
            let page = try Browser.open(model, "#measure")
            #expect(page.attribute("painted") != nil)
            #expect(page.attribute("frame") != nil)
            print("first paint after \(page.attribute("painted")!) ms, a frame takes \(page.attribute("frame")!) ms")
        }

        @Test func namesAreTextAndNothingElse() throws {
            let name = "<img src=x onerror=alert(1)></script>"
            let trace = try TestWorld.simulated.record {
                await Task(name: name, executorPreference: EventLoop.current!.executor) {}.value
            }
            let page = try Browser.open(TraceModel(trace), "#keys=s,ArrowRight,ArrowRight,ArrowRight")
            #expect(!page.text.contains("<img"))
        }
    }
}

/// Headless Chromium.
private struct Browser {
    /// The page as it is after its script has run.
    let text: String

    static let path: String? = {
        let places: [String] = ["/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome"]
        return places.first { (place: String) in unsafe access(place, X_OK) == 0 }
    }()

    /// Opens the page of a trace; its console must stay empty.
    static func open(_ model: TraceModel, _ fragment: String) throws -> Browser {
        let folder = try ScratchFolder()
        try folder.write(Array(TracePage.html(model).utf8), to: "trace.html")
        let command = ChildProcess.Command(
            try #require(path),
            [
                "--headless=new", "--no-sandbox", "--disable-gpu", "--user-data-dir=\(folder.path)/profile",
                "--virtual-time-budget=5000", "--enable-logging=stderr", "--dump-dom",
                "file://\(folder.path)/trace.html\(fragment)",
            ])
        let output = try EventLoop.run { try await ChildProcess.run(command) }
        let complaints = String(decoding: output.errors, as: UTF8.self).split(separator: "\n")
            .filter { $0.contains("CONSOLE") }
        #expect(complaints.isEmpty, "\(complaints)")
        let page = Browser(text: output.text)
        #expect(page.attribute("done") == "yes", "the script has not come to its end")
        return page
    }

    /// A word that the script has left at the body.
    func attribute(_ name: String) -> String? {
        guard let body = text.split(separator: "<body").last?.prefix(while: { $0 != ">" }) else { return nil }
        let parts = body.split(separator: "data-\(name)=\"", maxSplits: 1, omittingEmptySubsequences: false)
        return parts.count < 2 ? nil : String(parts[1].prefix { $0 != "\"" })
    }

    /// The names in a room of step mode.
    func list(_ id: String) -> [String] {
        guard let list = part(after: "id=\"\(id)\">", until: "</ol>", "</ul>") else { return [] }
        return list.split(separator: "class=\"name\">").dropFirst().map { String($0.prefix { $0 != "<" }) }
    }

    /// Who runs.
    var running: [String] {
        guard let room = part(after: "id=\"running\">", until: "</div>") else { return [] }
        return room.split(separator: "<b>").dropFirst().map { String($0.prefix { $0 != "<" }) }
    }

    private func part(after start: String, until ends: String...) -> Substring? {
        let rest = text.split(separator: start, maxSplits: 1, omittingEmptySubsequences: false)
        if rest.count < 2 { return nil }
        return ends.compactMap { rest[1].split(separator: $0, maxSplits: 1).first }.min { $0.count < $1.count }
    }
}
