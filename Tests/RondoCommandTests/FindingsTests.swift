// What `rondo ps` and `rondo top` say of loops that are not as they should be.

import Testing

@testable import RondoCommand

@Suite struct FindingsTests {
    private func program(_ figures: String) throws -> InspectedProgram {
        let text =
            #"{"version":1,"pid":42,"program":"probe","loops":[{"number":3,"driver":"epoll","driverReason":"r","#
            + #""answers":true,"turns":1,"offloadThreads":4,\#(figures)}],"tasks":[],"findings":[],"#
            + #""droppedFindings":0}"#
        return try InspectedProgram(Array(text.utf8))
    }

    @Test func aLoopThatDoesWellIsNotFound() throws {
        let findings = try program(
            #""offloaded":4,"lagP99":50,"lagMax":900,"timerLatenessP99":50,"timerLatenessMax":900"#
        ).loopFindings
        #expect(findings == [])
    }

    @Test(arguments: [
        (#""offloaded":5"#, "loop 3 has 5 calls for the 4 threads of its offload pool", "offloadThreads"),
        (#""lagP99":51"#, "loop 3 took over 51 ms for one turn in a hundred", "look for hogs"),
        (
            #""timerLatenessP99":80,"timerLatenessMax":210.4"#,
            "loop 3 has ended one sleep or time limit in a hundred over 80 ms late, and the latest by 210 ms",
            "look for hogs"
        ),
    ])
    func whatIsWrongIsSaidWithWhatToDo(figures: String, finding: String, advice: String) throws {
        let program = try program(figures)
        let findings = program.loopFindings
        #expect(findings.count == 1)
        #expect(findings.first?.hasPrefix(finding) == true, "\(findings)")
        #expect(findings.first?.contains(advice) == true, "\(findings)")
        var screen = TopScreen()
        screen.update(program, at: 1)
        let lines = screen.lines(width: 80, height: 24, for: .output)
        #expect(lines.contains { $0.contains(finding.prefix(40)) }, "\(lines)")
    }
}
