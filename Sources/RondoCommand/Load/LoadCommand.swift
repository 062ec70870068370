// `rondo load`: how much an HTTP server answers, and how long it takes.

import ArgumentParser
import Rondo

/// `rondo load`: what may be set, and whether it makes sense.
struct LoadCommand: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "load",
        abstract: "Put an HTTP/1.1 server under load, and see how long its answers take.",
        discussion: """
            By default each connection sends its next request when it has its answer (a closed loop): a server that \
            pauses is asked less while it does. With --rate requests are due at fixed times whether the server keeps \
            up or not (an open loop), and each one's time is counted from when it was due; so a pause shows in every \
            request that it delayed. One thread does it all.

            Whatever the server answers counts as an answer: the report lists their statuses. The exit status is 0, or \
            1 if a request failed or none was answered. Ctrl-C ends early, with the report.
            """)

    @Argument(help: "What to ask for: an http:// URL.")
    var url: String

    @Option(
        name: [.customShort("c"), .long], parsing: .unconditional,
        help: ArgumentHelp("Connections.", valueName: "count"))
    var connections = 64

    @Option(
        name: [.customShort("d"), .long], help: ArgumentHelp("How long: 10s, 500ms, 2m.", valueName: "time"))
    var duration = "10s"

    @Option(
        parsing: .unconditional,
        help: ArgumentHelp("Requests a second, all connections together (an open loop).", valueName: "count"))
    var rate: Double?

    @Option(help: ArgumentHelp("GET, HEAD, POST, …", valueName: "name"))
    var method = "GET"

    @Option(parsing: .unconditional, help: ArgumentHelp("What each request carries.", valueName: "text"))
    var body: String?

    @Option(
        name: [.customShort("H"), .long], parsing: .unconditionalSingleValue,
        help: ArgumentHelp("A header field more; may be repeated.", valueName: "name: value"))
    var header: [String] = []

    @Flag(
        name: [.customShort("k"), .long],
        help: "Do not ask whether the certificate of an https:// server is to be trusted.")
    var insecure = false

    @Flag(help: "Print one JSON object instead of the report.")
    var json = false

    func validate() throws {
        guard (1...10_000).contains(connections) else { throw ValidationError("-c \(connections): use 1 to 10000.") }
        guard let time = Self.time(duration), time > .zero, time <= .seconds(86_400) else {
            throw ValidationError("-d \(duration): write 10s, 500ms or 2m.")
        }
        if let rate, !(rate > 0 && rate <= 10_000_000) { throw ValidationError("--rate \(rate): use up to 10000000.") }
        let isName = { (byte: UInt8) in (0x21...0x7e).contains(byte) && !"\"(),/:;<=>?@[\\]{}".utf8.contains(byte) }
        guard !method.isEmpty, method.utf8.allSatisfy(isName) else {
            throw ValidationError("--method “\(method)”: this is no name of a method")
        }
        for line in header {
            let name = line.utf8.prefix { $0 != UInt8(ascii: ":") }
            guard !name.isEmpty, name.count < line.utf8.count, name.allSatisfy(isName),
                !line.utf8.contains(where: { $0 < 0x20 || $0 == 0x7f })
            else { throw ValidationError("-H “\(line)”: write “Name: value”.") }
        }
    }

    func run() throws {
        let request = LoadTarget.Request(method: method, headers: header, body: body)
        let url = url
        let options = LoadOptions(
            connections: connections, duration: Self.time(duration)!, rate: rate, isInsecure: insecure, isJSON: json)
        Command.runOnLoop {
            let target = try LoadTarget(url, request)
            let run = try await LoadRun(target, options)
            return await run.run()
        }
    }

    /// A duration in words.
    static func time(_ text: String) -> Duration? {
        let units: [(String, Double)] = [("ms", 0.001), ("s", 1), ("m", 60), ("h", 3600)]
        guard let unit = units.first(where: { text.hasSuffix($0.0) }),
            let number = Double(text.dropLast(unit.0.count)), number.isFinite, number >= 0, number < 1e9
        else { return nil }
        return .seconds(number * unit.1)
    }
}

/// What may be set.
struct LoadOptions: Sendable {
    var connections: Int
    var duration: Duration
    var rate: Double?
    var isInsecure: Bool
    var isJSON: Bool
}
