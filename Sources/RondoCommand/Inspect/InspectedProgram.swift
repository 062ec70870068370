// A program as its inspector describes it (see RondoInsight/Inspector.swift), for the commands that show it.

import Foundation
import Rondo
import RondoInsight
import SystemPackage

/// The answer to `tasks`.
struct InspectedProgram: Decodable {
    struct Loop: Decodable {
        var number: Int
        var driver: String
        var driverReason: String
        var answers: Bool
        var turns, jobs, operations, systemCalls, readyJobs, timers, pendingOperations, offloaded, offloadThreads,
            tasksNotShown: Int?
        /// Milliseconds.
        var cpu, busy, lagMedian, lagP99, lagMax, timerLatenessP99, timerLatenessMax: Double?
    }

    struct Task: Decodable {
        var id: UInt64
        var name: String?
        var parent: UInt64?
        var kind: String
        var state: String
        var waitingOn: Wait?
        /// Milliseconds.
        var since: Double
        var priority: Int
        var cancelled: Bool
        var loop: Int
        var stack: [Place]?
    }

    struct Wait: Decodable {
        var kind: String
        var descriptor: Int?
        var subject: String?
        var left: Double?
        var task: UInt64?
    }

    struct Finding: Decodable {
        var kind: String
        var text: String
        var loop: Int
        var task: UInt64
        var duration: Double
        var goesOn: Bool
        var stack: [Place]
    }

    struct Place: Decodable {
        var function: String
        var file: String?
        var line: Int?
    }

    var version: Int
    var pid: Int32
    var program: String?
    var loops: [Loop]
    var tasks: [Task]
    var findings: [Finding]
    var droppedFindings: Int

    /// Asks a program for its tasks.
    ///
    /// - Returns: the answer as it came.
    static func ask(_ processID: Int32) async throws -> [UInt8] {
        let stream = try await connect(to: processID)
        try await stream.write("RONDO/1 tasks\n")
        let reader = BufferedReader(stream)
        let head = try await reader.readLine(limit: 1000) ?? ""
        guard head.hasPrefix("RONDO/1 ok ") else {
            throw CommandFailure("process \(processID) answered: \(head.isEmpty ? "nothing" : head)")
        }
        guard let count = Int(head.dropFirst(11)) else {
            throw CommandFailure("process \(processID) answered: \(head)")
        }
        let answer = try await reader.readExactly(count)
        await stream.close()
        return answer
    }

    private static func connect(to processID: Int32) async throws -> UnixStream {
        let path = FilePath(InspectorPlace.socket(of: processID))
        do throws(IOError) {
            if InspectorPlace.isOwn { return try await UnixStream.connect(to: .path(path)) }
        } catch {
            if error.errno != .noSuchFileOrDirectory && error.errno != .connectionRefused { throw error }
        }
        throw CommandFailure(
            "process \(processID) can't be looked at: it is no Rondo program of yours, has ended, or runs with "
                + "RONDO_INSPECT=off (`rondo ps` without a number lists those that can)")
    }

    init(_ answer: [UInt8]) throws {
        self = try JSONDecoder().decode(InspectedProgram.self, from: Data(answer))
    }
}

extension InspectedProgram {
    /// What is to be said of loops: of work that stands in line, in the offload pool or before the loop itself.
    var loopFindings: [String] {
        var findings: [String] = []
        for loop in loops {
            if let calls = loop.offloaded, let threads = loop.offloadThreads, calls > threads {
                findings.append(
                    "loop \(loop.number) has \(calls) calls for the \(threads) threads of its offload pool: the others "
                        + "wait. Let fewer begin at once, or raise LoopConfiguration.offloadThreads")
            }
            if let lag = loop.lagP99, lag > 50 {
                findings.append(
                    "loop \(loop.number) took over \(lag.fixed(0)) ms for one turn in a hundred: look for hogs, or "
                        + "lower LoopConfiguration.batchTime")
            }
            if let late = loop.timerLatenessP99, late > 50 {
                findings.append(
                    "loop \(loop.number) has ended one sleep or time limit in a hundred over \(late.fixed(0)) ms late, "
                        + "and the latest by \((loop.timerLatenessMax ?? late).fixed(0)) ms: look for hogs and long "
                        + "turns, or spread what so many wait for at one time")
            }
        }
        return findings
    }

    /// What is to be said of tasks that wait for longer than `seconds` at a continuation that nothing known resumes.
    func lostTasks(after seconds: Double) -> [String] {
        tasks.filter { $0.isWakerUnknown && $0.since >= seconds * 1000 }.map { task in
            let name = task.name.map { " \"\($0)\"" } ?? ""
            let place = task.stack?.first(where: \.isUsers)?.text(200) ?? ""
            return "task \(task.id)\(name) has waited for \(task.age) at a continuation that no operation, timer or "
                + "task is known to resume, in \(place): see that every way out of there resumes it"
        }
    }
}
