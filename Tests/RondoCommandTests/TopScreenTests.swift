// The picture of `rondo top`, without a terminal.

import Testing

@testable import RondoCommand

@Suite struct TopScreenTests {
    /// An answer with `count` tasks; every third is a sleeper.
    private func program(_ count: Int, turns: Int = 0, isBusy: Bool = false, findings: String = "") throws
        -> InspectedProgram
    {
        let loop =
            isBusy
            ? #"{"number":0,"driver":"epoll","driverReason":"r","answers":false}"#
            : #"{"number":0,"driver":"epoll","driverReason":"r","answers":true,"turns":\#(turns),"jobs":\#(2 * turns),"#
                + #""operations":7,"systemCalls":1,"readyJobs":3,"timers":1,"pendingOperations":1,"offloaded":0,"#
                + #""tasksNotShown":0,"cpu":\#(turns),"busy":1,"lagMedian":0.024,"lagP99":8.4,"lagMax":104.2}"#
        let tasks = (0..<count).map { number in
            let wait = number % 3 == 0 ? #"{"kind":"sleep","left":1500}"# : #"{"kind":"group"}"#
            return #"{"id":\#(number + 1),"name":"worker \#(number)","parent":null,"kind":"task","state":"waiting","#
                + #""waitingOn":\#(wait),"since":\#(number * 10),"priority":21,"cancelled":false,"loop":0,"#
                + #""stack":[{"function":"work(\#(number))","file":"/a/Work.swift","line":\#(number + 1)}]}"#
        }
        let text =
            #"{"version":1,"pid":42,"program":"probe","loops":[\#(loop)],"#
            + #""tasks":[\#(tasks.joined(separator: ","))],"findings":[\#(findings)],"droppedFindings":0}"#
        return try InspectedProgram(Array(text.utf8))
    }

    private func press(_ keys: TopScreen.Key..., on screen: inout TopScreen) {
        for key in keys {
            let goesOn = screen.handle(key)
            #expect(goesOn)
        }
    }

    private func picture(_ screen: inout TopScreen) -> [String] {
        screen.lines(width: 80, height: 24, for: .output)
    }

    @Test(arguments: [(80, 24), (40, 10), (200, 60), (80, 3)]) func thePictureFits(width: Int, height: Int) throws {
        var screen = TopScreen()
        let asking = screen.lines(width: width, height: height, for: .output)
        #expect(asking.count == height)
        for count in [0, 1, 1000] {
            screen.update(try program(count), at: 1)
            let lines = screen.lines(width: width, height: height, for: .output)
            #expect(lines.count == height)
            #expect(lines.allSatisfy { $0.count <= width }, "\(lines)")
        }
    }

    @Test func ratesAreThoseBetweenTwoLooks() throws {
        var screen = TopScreen()
        screen.update(try program(3, turns: 1000), at: 1)
        screen.update(try program(3, turns: 1500), at: 3)
        let row = screen.lines(width: 80, height: 24, for: .output)[4]
        // 500 turns in 2 s, at work for 500 ms of them.
        #expect(row.split(separator: " ").prefix(6) == ["0", "250", "500", "0", "25", "%"])
    }

    @Test func theLongestWaitStandsFirst() throws {
        var screen = TopScreen()
        screen.update(try program(50), at: 1)
        func first() -> String { screen.lines(width: 80, height: 24, for: .output)[7] }
        #expect(first().contains("worker 49"))
        press(.character("s"), on: &screen)
        #expect(first().contains("worker 0"))
    }

    @Test func theFilterShowsWhatHasItsText() throws {
        var screen = TopScreen()
        screen.update(try program(30), at: 1)
        press(.character("/"), .character("s"), .character("l"), .character("e"), .character("x"), on: &screen)
        press(.backspace, .enter, on: &screen)
        var lines = screen.lines(width: 80, height: 24, for: .output)
        #expect(lines.filter { $0.contains("worker") }.count == 10)
        #expect(lines.last?.contains("/ filter: sle") == true)
        press(.escape, on: &screen)
        lines = screen.lines(width: 80, height: 40, for: .output)
        #expect(lines.filter { $0.contains("worker") }.count == 30)
    }

    @Test func aTaskIsOpenedAndClosed() throws {
        var screen = TopScreen()
        screen.update(try program(30), at: 1)
        press(.down, .down, .enter, on: &screen)
        let lines = screen.lines(width: 80, height: 24, for: .output)
        #expect(lines.contains { $0.contains(#"task 28 "worker 27", task"#) })
        #expect(lines.contains { $0.contains("work(27)  Work.swift:28") })
        press(.escape, on: &screen)
        #expect(picture(&screen).contains { $0.contains("worker 29") })
    }

    @Test func theChosenTaskStaysInSight() throws {
        var screen = TopScreen()
        screen.update(try program(1000), at: 1)
        for _ in 0..<30 { press(.pageDown, on: &screen) }
        let title = "worker \(999 - 300)"
        #expect(picture(&screen).contains { $0.contains(title) })
        // Fewer tasks than that.
        screen.update(try program(5), at: 2)
        #expect(picture(&screen).contains { $0.contains("worker 0") })
        press(.enter, on: &screen)
    }

    @Test func aFrozenPictureStays() throws {
        var screen = TopScreen()
        screen.update(try program(3), at: 1)
        press(.character("f"), on: &screen)
        screen.update(try program(9), at: 2)
        let lines = screen.lines(width: 80, height: 24, for: .output)
        #expect(lines.filter { $0.contains("worker") }.count == 3)
        #expect(lines[0].contains("FROZEN"))
    }

    @Test func whatIsWrongIsSaid() throws {
        var screen = TopScreen()
        let hog =
            #"{"kind":"hog","text":"task 2 kept loop 0 for 66 ms","loop":0,"task":2,"duration":66,"#
            + #""goesOn":false,"stack":[]}"#
        screen.update(try program(3, isBusy: true, findings: hog), at: 1)
        var lines = screen.lines(width: 80, height: 24, for: .output)
        #expect(lines.contains { $0.contains("does not answer") })
        #expect(lines.contains { $0.contains("task 2 kept loop 0 for 66 ms") })
        screen.fail("it has ended")
        lines = screen.lines(width: 80, height: 24, for: .output)
        #expect(lines[0].contains("it has ended"))
        #expect(lines.contains { $0.contains("worker 2") })
    }

    @Test func qLeaves() throws {
        var screen = TopScreen()
        var goesOn = screen.handle(.character("q"))
        #expect(!goesOn)
        screen.update(try program(3), at: 1)
        press(.enter, on: &screen)
        goesOn = screen.handle(.character("q"))
        #expect(!goesOn)
    }
}
