import Rondo
import Testing

extension ExampleTests {
    @Suite struct ChatTests {
        /// One in the room.
        private struct Visitor {
            let stream: TCPStream
            let lines: BufferedReader

            init(_ name: String, at address: SocketAddress) async throws {
                stream = try await TCPStream.connect(to: address)
                lines = BufferedReader(stream)
                try await stream.write("\(name)\n")
                #expect(try await lines.readLine() == "* \(name) is here")
            }
        }

        @Test(arguments: Driver.allCases) func whatOneSaysAllOthersHear(driver: Driver) throws {
            try onLoop {
                try await withProgram("chat", environment: driver.environment) { chat in
                    let address = try await chat.address()
                    let ann = try await Visitor("Ann", at: address)
                    let bob = try await Visitor("Bob", at: address)
                    let other = try await Visitor("Ann", at: address)
                    #expect(try await ann.lines.readLine() == "* Bob is here")
                    for visitor in [ann, bob] { #expect(try await visitor.lines.readLine() == "* Ann is here") }
                    try await ann.stream.write("hello\r\nis anybody")
                    try await ann.stream.write(" there?\n")
                    for visitor in [bob, other] {
                        #expect(try await visitor.lines.readLine() == "Ann: hello")
                        #expect(try await visitor.lines.readLine() == "Ann: is anybody there?")
                    }
                    // Three ways to leave: in order, broken off within a line, and by too long a line.
                    try await bob.stream.finishWriting()
                    #expect(try await bob.lines.readLine() == nil)
                    for visitor in [ann, other] { #expect(try await visitor.lines.readLine() == "* Bob has left") }
                    try await ann.stream.write("but wh")
                    await ann.stream.abort()
                    #expect(try await other.lines.readLine() == "* Ann has left")
                    let carl = try await Visitor("Carl", at: address)
                    #expect(try await other.lines.readLine() == "* Carl is here")
                    try await carl.stream.write(String(repeating: "x", count: 2000))
                    #expect(try await other.lines.readLine() == "* Carl has left")
                    #expect(try await chat.end(by: .interrupt) == .signalled(.interrupt, dumpedCore: false))
                    for stream in [bob, carl, other].map(\.stream) { await stream.close() }
                }
            }
        }

        @Test(arguments: Driver.allCases) func whoReadsTooSlowlyIsToldWhatHeHasMissed(driver: Driver) throws {
            try onLoop {
                try await withProgram("chat", environment: driver.environment) { chat in
                    let address = try await chat.address()
                    let slow = try await Visitor("Slow", at: address)
                    let loud = try await Visitor("Loud", at: address)
                    let before = try await chat.peakMemory()
                    let text = String(repeating: "bla", count: 300)
                    let count = 30_000
                    for _ in 0..<count / 100 { try await loud.stream.write(String(repeating: "\(text)\n", count: 100)) }
                    try await loud.stream.finishWriting()
                    #expect(try await loud.lines.readLine() == nil, "nobody waits for the slow one")
                    let growth = try await chat.peakMemory() - before
                    #expect(growth < 15_000, "nor are all 27 MB kept")
                    // All that was said and "Loud is here"; what was said last is heard.
                    var (heard, missed) = (0, 0)
                    while let line = try await slow.lines.readLine(), line != "* Loud has left" {
                        if line.hasPrefix("* you missed") {
                            missed += try #require(Int(words(line)[3]))
                        } else {
                            heard += 1
                        }
                    }
                    #expect(heard + missed == count + 1)
                    #expect(missed > 0)
                    for stream in [slow, loud].map(\.stream) { await stream.close() }
                }
            }
        }

        @Test(arguments: [["--port"], ["--port", "x"], ["--port", "65536"], ["--help"], ["--port", "1", "2"]])
        func wrongArguments(arguments: [String]) throws {
            try onLoop {
                let outcome = try await run("chat", arguments)
                #expect(outcome == .usage("chat [--port N], N from 0 to 65535"))
            }
        }
    }
}
