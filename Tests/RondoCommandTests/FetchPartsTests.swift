// Names, lists, dates and pictures of `rondo fetch`, without a network.

import Testing

@testable import RondoCommand

@Suite struct FetchNamesTests {
    @Test(arguments: [
        ("http://h/a/b.txt", "b.txt"), ("http://h/a/b.txt?x=/y", "b.txt"), ("http://h", "index"),
        ("http://h/", "index"),
        ("http://h/a/", "index"), ("http://h/..", "_."), ("http://h/%2e%2e%2fetc", "_._etc"),
        ("http://h/.bashrc", "_bashrc"),
        ("http://h/-rf", "_rf"), ("http://h/a%00b", "a_b"), ("http://h/%1b%5b31m", "_[31m"), ("http://h/a%20b", "a b"),
        ("http://h/%e2%80%ae.txt", "_.txt"), ("http://h/%ff", "%ff"), ("http://h/%C3%A4", "ä"),
        ("http://h/a%5cb", "a_b"),
        ("http://h/%20", "index"),
    ])
    func aNameIsHarmless(_ url: String, _ name: String) { #expect(FetchNames.name(of: url) == name) }

    @Test func noNameIsGivenOutTwice() {
        var names = FetchNames()
        let urls = [
            "http://h/a.txt", "http://i/a.txt", "http://j/a.txt.part", "http://k/a.txt", "http://l/a.txt.part.note",
        ]
        let given = urls.map { names.take(for: $0) }
        #expect(given == ["a.txt", "a-2.txt", "a.txt-2.part", "a-3.txt", "a.txt.part-2.note"])
        #expect(FetchNames.name(of: "http://h/" + String(repeating: "ä", count: 500)).utf8.count == 200)
    }
}

@Suite struct FetchListTests {
    @Test func aLineIsAURLAndPerhapsASum() throws {
        let sum = String(repeating: "aB", count: 32)
        let list = try FetchList.parse(Array("# x\n\nhttp://a\r\n http://b \(sum)\n".utf8), name: "l")
        #expect(
            list == [
                FetchRequest(url: "http://a", sha256: nil),
                FetchRequest(url: "http://b", sha256: [UInt8](repeating: 0xab, count: 32)),
            ])
        #expect(throws: CommandFailure.self) { try FetchList.parse(Array("a b c".utf8), name: "l") }
    }

    @Test func serversSayWhenToComeBack() {
        #expect(RetryAfter.delay("7") == .seconds(7))
        #expect(RetryAfter.delay("99999999") == .seconds(300))
        #expect(RetryAfter.delay("-1") == nil)
        #expect(RetryAfter.date("Sun, 06 Nov 1994 08:49:37 GMT") == 784_111_777)
        #expect(RetryAfter.delay("Sun, 06 Nov 1994 08:49:37 GMT", now: 784_111_770) == .seconds(7))
        #expect(RetryAfter.delay("Sun, 06 Nov 1994 08:49:37 GMT") == .zero)
        #expect(RetryAfter.delay("soon") == nil)
    }

    @Test func rangesAreReadExactly() {
        #expect(ContentRange("bytes 5-9/10")?.start == 5)
        #expect(ContentRange("bytes 5-9/*")?.total == nil)
        for text in ["", "bytes */10", "bytes 9-5/10", "bytes -5-9/10", "lines 1-2/3"] {
            #expect(ContentRange(text) == nil, "\(text)")
        }
    }
}

@Suite struct FetchScreenTests {
    private func picture(rows: Int, _ size: (columns: Int, rows: Int)) -> [String] {
        var screen = FetchScreen()
        let rows = (0..<rows).map {
            FetchScreen.Row(
                name: "a-file-with-a-long-name-\($0).tar.gz", count: 1_234_567, total: $0 == 1 ? nil : 5_000_000,
                speed: 654_321, words: $0 == 2 ? "again in 1.5 s: GET http://h: Connection refused" : nil)
        }
        let sum = FetchScreen.Sum(total: 5000, received: 123_456_789, seconds: 75)
        let text = screen.picture(rows: rows, sum: sum, above: [], size: size, on: .output)
        return text.split(separator: "\n").map { line in
            // Without commands to the terminal.
            String(line.replacing(/\u{1B}\[[?0-9]*[A-Za-z]/, with: "").drop { $0 == "\r" })
        }
    }

    @Test(arguments: [(80, 24), (40, 10), (20, 4), (200, 60)])
    func aPictureFitsItsTerminal(_ columns: Int, _ rows: Int) {
        for count in [0, 1, 5, 64] {
            let lines = picture(rows: count, (columns, rows))
            #expect(lines.count <= rows - 1)
            for line in lines { #expect(line.count < columns, "\(line)") }
        }
    }

    @Test func linesShowNameBarAndNumbers() {
        let lines = picture(rows: 3, (80, 24))
        #expect(lines[0] == "a-file-with-a-lon…0.tar.gz  ━━━━─────────────  24 %   1.2 MB 654.3 kB/s    0:06")
        #expect(lines[2].hasSuffix("again in 1.5 s: GET http://h: Connection refused"))
        #expect(lines[3].contains("0 of 5,000"))
    }

    @Test func whatWasDrawnIsTakenAway() {
        var screen = FetchScreen()
        #expect(screen.erase(columns: 80) == "")
        let row = FetchScreen.Row(name: "a", count: 1, total: 2, speed: 0, words: nil)
        let sum = FetchScreen.Sum(total: 2, received: 1, seconds: 1)
        _ = screen.picture(rows: [row], sum: sum, above: [], size: (80, 24), on: .output)
        // Two lines; four since the terminal has become half as wide.
        var narrow = screen
        #expect(screen.erase(columns: 80) == "\r\u{1B}[1A\u{1B}[J")
        #expect(narrow.erase(columns: 40) == "\r\u{1B}[3A\u{1B}[J")
        #expect(screen.erase(columns: 80) == "")
    }

    @Test func bytesAndTimes() {
        #expect(Bytes.text(999) == "999 B")
        #expect(Bytes.text(1500) == "1.5 kB")
        #expect(Bytes.text(999_950) == "1.0 MB")
        #expect(Bytes.time(3723) == "1:02:03")
        #expect(Bytes.time(7.4) == "0:07")
    }
}
