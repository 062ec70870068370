// `rondo ps` against a program whose every task is known.

import Foundation
import SystemPackage
import Testing

@testable import Rondo
@testable import RondoInsight

@Suite(.serialized) struct PsTests {
    struct Program: Decodable {
        struct Task: Decodable {
            struct Wait: Decodable {
                var kind: String
                var subject: String?
                var task: UInt64?
                var left: Double?
            }
            struct Place: Decodable {
                var function: String
                var file: String?
                var line: Int?
            }
            var id: UInt64
            var name: String?
            var parent: UInt64?
            var kind: String
            var state: String
            var waitingOn: Wait?
            var since: Double
            var stack: [Place]
        }
        struct Finding: Decodable {
            var kind: String
            var text: String
            var task: UInt64
            var duration: Double
            var goesOn: Bool
            var stack: [Task.Place]
        }
        struct Loop: Decodable { var running: [String: Double] }
        var version: Int
        var pid: Int32
        var loops: [Loop]
        var tasks: [Task]
        var findings: [Finding]
    }

    /// With several loops too: then many a task waits on another loop than the one that has seen it first.
    @Test(arguments: [1, 2, 4]) func everyTaskIsShownAsItIs(loops: Int) throws {
        try EventLoop.run {
            try await Probe.with(environment: ["RONDO_LOOPS": "\(loops)"]) { probe in
                let answer = try await probe.rondo("ps", "--json", "\(probe.process.processID)")
                #expect(answer.status == .exited(0), "\(String(decoding: answer.errors, as: UTF8.self))")
                let program = try JSONDecoder().decode(Program.self, from: Data(answer.output))
                #expect(program.version == 1)
                #expect(program.pid == probe.process.processID)
                compare(program.tasks, with: probe.truth)
            }
        }
    }

    /// Task by task, what the program says of itself.
    private func compare(_ tasks: [Program.Task], with truth: [Probe.Fact]) {
        let named = Dictionary(grouping: tasks.filter { $0.name != nil }) { $0.name! }
        let byID = Dictionary(tasks.map { ($0.id, $0) }) { first, _ in first }
        #expect(truth.count >= 1000)
        #expect(Set(named.keys) == Set(truth.map(\.name)))
        for fact in truth {
            guard let found = named[fact.name], found.count == 1, let task = found.first else {
                Issue.record("\(fact.name) is shown \(named[fact.name]?.count ?? 0) times")
                continue
            }
            #expect(task.state == "waiting", "\(fact.name)")
            let wait = [task.waitingOn?.kind, task.waitingOn?.subject].compactMap { $0 }.joined(separator: " ")
            #expect(wait == fact.wait, "\(fact.name)")
            if fact.wait == "sleep" { #expect((3_000_000...3_600_000).contains(task.waitingOn?.left ?? 0)) }
            let parent = task.parent.flatMap { byID[$0] }
            #expect(parent?.name ?? "" == fact.parent, "\(fact.name)")
            #expect(task.kind == (fact.parent.isEmpty ? "task" : "group child"), "\(fact.name)")
            #expect(
                task.stack.contains { $0.file?.hasSuffix("InspectProbe.swift") == true && $0.line ?? 0 > 0 },
                "\(fact.name) has no place in its program: \(task.stack)")
        }
        // What has no name.
        let lets = tasks.filter { $0.kind == "async let" }
        #expect(lets.count == 100)
        #expect(lets.allSatisfy { $0.parent.flatMap { byID[$0]?.name }?.hasPrefix("letter ") == true })
        #expect(lets.filter { $0.waitingOn?.kind == "sleep" }.count == 50)
        for waiter in tasks where waiter.name?.hasPrefix("waiter ") == true {
            #expect(waiter.waitingOn?.task.flatMap { byID[$0]?.name } == "slow")
        }
        for customer in tasks where customer.name?.hasPrefix("customer ") == true {
            #expect(customer.stack.contains { $0.function == "Bank.serve()" })
        }
        #expect(tasks.filter { $0.name == nil && $0.kind != "async let" }.count == 1, "the program's own task")
    }

    @Test func peopleGetATree() throws {
        try EventLoop.run {
            try await Probe.with { probe in
                let answer = try await probe.rondo("ps", "\(probe.process.processID)")
                let lines = answer.text.split(separator: "\n")
                #expect(lines.allSatisfy { $0.count <= 80 })
                #expect(
                    lines.contains { $0.contains("├ sleeper 7 ") && $0.contains("sleep, ") && $0.contains(" min left") }
                )
                #expect(lines.contains { $0.contains("│ ├ inner 3.4 ") && $0.contains("AsyncEvent.wait()") })
                let stacks = try await probe.rondo("ps", "--stacks", "\(probe.process.processID)").text
                #expect(stacks.contains("Bank.serve()  InspectProbe.swift:"))
                let list = try await probe.rondo("ps").text
                #expect(list.contains("\(probe.process.processID)  "))
            }
        }
    }

    @Test func whoCanNotBeAskedIsExplained() throws {
        try EventLoop.run {
            try await Probe.with(environment: ["RONDO_INSPECT": "off"]) { probe in
                let answer = try await probe.rondo("ps", "\(probe.process.processID)")
                #expect(answer.status == .exited(1))
                #expect(String(decoding: answer.errors, as: UTF8.self).contains("can't be looked at"))
            }
        }
    }

    // MARK: Hogs

    @Test func aHogIsFoundWithItsLine() throws {
        try EventLoop.run {
            try await Probe.with(arguments: ["hog"]) { probe in
                // On a machine that stalls, a watchdog that gets no time sees nothing, and a loop that gets none is a
                // hog wherever it stands: then it needs one more.
                var finding: Program.Finding?
                while finding == nil {
                    try await probe.process.input!.write("\n")
                    let answer = try await probe.rondo("ps", "--json", "\(probe.process.processID)")
                    let program = try JSONDecoder().decode(Program.self, from: Data(answer.output))
                    let ended = program.findings.filter { !$0.goesOn }
                    finding = ended.first { $0.stack.contains { $0.function == "Kitchen.peelPotatoes(for:)" } }
                    if finding == nil, ended.count >= 5 { finding = ended[0] }
                }
                let hog = try #require(finding)
                #expect(hog.kind == "hog")
                #expect(hog.duration >= 50)
                let place = try #require(hog.stack.first { $0.file?.hasSuffix("InspectProbe.swift") == true })
                #expect(place.function == "Kitchen.peelPotatoes(for:)")
                let lines = try await File.contents(
                    of: FilePath(#filePath).removingLastComponent().removingLastComponent().appending(
                        "InspectProbe/InspectProbe.swift"))
                let loop =
                    1
                    + (String(decoding: lines, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
                        .firstIndex { $0.contains("the line that the watchdog must find") } ?? 0)
                #expect((loop - 1...loop).contains(place.line ?? 0))
                // Who has called it, across the await.
                #expect(hog.stack.contains { $0.function == "Kitchen.cook()" })
                #expect(hog.text.contains("kept loop 0 for") && hog.text.contains("in Kitchen.peelPotatoes(for:)"))
                // Fifty looks a second saw it run, under its name.
                let answer = try await probe.rondo("ps", "--json", "\(probe.process.processID)")
                let program = try JSONDecoder().decode(Program.self, from: Data(answer.output))
                #expect(program.loops[0].running["the hog"] ?? 0 >= 40)
            }
        }
    }

    @Test func aLostContinuationIsFound() throws {
        try EventLoop.run {
            try await Probe.with { probe in
                let text = try await probe.rondo("ps", "--lost-after", "0", "\(probe.process.processID)").text
                // Findings are wrapped.
                let words = text.split(separator: "\n").drop { $0 != "Findings" }.dropFirst()
                    .flatMap { $0.split(separator: " ") }
                let findings = words.joined(separator: " ").split(separator: "• ")
                let lost = findings.filter { $0.contains("has waited for") }
                #expect(lost.count == 1, "\(findings)")
                #expect(lost.first?.contains("\"forgotten\" has waited for") == true)
                #expect(lost.first?.contains("InspectProbe.forgetToResume() InspectProbe.swift:") == true)
                // More calls than threads, unless this machine has many cores.
                let threads = LoopConfiguration().offloadThreads
                let calls = findings.filter {
                    $0.contains("has 10 calls for the \(threads) threads of its offload pool")
                }
                #expect(calls.count == (threads < 10 ? 1 : 0), "\(findings)")
            }
        }
    }

    // MARK: Hostile clients

    @Test func clientsThatMisbehaveHarmNobody() throws {
        try EventLoop.run {
            try await Probe.with { probe in
                let path = FilePath(InspectorPlace.socket(of: probe.process.processID))
                var idle: [UnixStream] = []
                for number in 0..<1000 {
                    guard let stream = try? await UnixStream.connect(to: .path(path)) else { continue }
                    switch number % 4 {
                    case 0: try? await stream.write([UInt8](repeating: UInt8(number % 256), count: 300))
                    case 1: try? await stream.write("RONDO/1 ta")
                    case 2: try? await stream.write("RONDO/1 tasks\n")  // and never reads
                    default: break
                    }
                    if number % 3 == 0 { await stream.close() } else { idle.append(stream) }
                }
                for stream in idle { await stream.close() }
                // It still answers, at once.
                let answer = try await probe.rondo("ps", "--json", "\(probe.process.processID)")
                #expect(answer.status == .exited(0), "\(String(decoding: answer.errors, as: UTF8.self))")
                let program = try JSONDecoder().decode(Program.self, from: Data(answer.output))
                #expect(program.tasks.count > 1000)
            }
        }
    }

    @Test func strangersAreToldWhatThisIs() throws {
        try EventLoop.run {
            try await Probe.with { probe in
                let path = FilePath(InspectorPlace.socket(of: probe.process.processID))
                for (question, start) in [
                    ("GET / HTTP/1.1\n", "RONDO/1 error this is the inspector of a Rondo program"),
                    ("RONDO/1 dance\n", "RONDO/1 error no such question"),
                    (String(repeating: "x", count: 300), "RONDO/1 error the question is too long"),
                ] {
                    let stream = try await UnixStream.connect(to: .path(path))
                    try await stream.write(question)
                    let answer = try await BufferedReader(stream).readLine(limit: 1000)
                    #expect(answer?.hasPrefix(start) == true, "\(answer ?? "nothing")")
                    await stream.close()
                }
            }
        }
    }

    @Test func onlyTheOwnerMayEnter() throws {
        try EventLoop.run {
            try await Probe.with { probe in
                let path = InspectorPlace.socket(of: probe.process.processID)
                #expect(try await Files.status(of: FilePath(path)).permissions == .ownerReadWrite)
                let folder = try await Files.status(of: FilePath(InspectorPlace.folder))
                #expect(folder.permissions == .ownerReadWriteExecute)
                try await probe.end()
                // A program that ends takes its socket along.
                #expect(try await !Files.exists(FilePath(path)))
            }
        }
    }
}
