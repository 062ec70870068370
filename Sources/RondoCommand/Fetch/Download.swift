// One file's way: ask, write, ask again where it broke off, check, give it its name.

import HTTPTypes
import Rondo
import RondoHTTPClient
import SystemPackage

/// What became of a download.
enum FetchOutcome: Sendable {
    /// The file is there.
    case done
    /// It was there before.
    case alreadyThere
    /// It is not there, and why.
    case failed(String)
    /// Ctrl-C; whether something was left to go on from.
    case interrupted(leavesPart: Bool)
}

/// One file on its way.
@MainActor
final class Download {
    /// What it does now.
    enum State: Equatable {
        case connecting
        case receiving
        case checking
        /// Until then, because of that.
        case waiting(until: ContinuousClock.Instant, String)
    }

    let request: FetchRequest
    let name: String
    private(set) var state = State.connecting
    /// Bytes that are there.
    private(set) var count: Int64 = 0
    /// How many there will be; nil if the server does not say.
    private(set) var total: Int64?
    /// Bytes that came over the network.
    private(set) var received: Int64 = 0
    /// How often it was asked for.
    private(set) var attempts = 0
    /// Where the last answer that was used began.
    private(set) var resumedFrom: Int64 = 0
    private(set) var sha256: [UInt8]?
    /// For the screen.
    var speed = Speed()

    private let options: FetchOptions
    private let client: HTTPClient
    private let part: PartFile
    private let hasOldPart: Bool
    private var mayStartOver = true
    /// Tries without progress.
    private var failures = 0
    private var mostBytes: Int64 = 0

    init(_ request: FetchRequest, name: String, _ options: FetchOptions, _ client: HTTPClient, hasOldPart: Bool) {
        self.request = request
        self.name = name
        self.options = options
        self.client = client
        self.hasOldPart = hasOldPart
        part = PartFile(name, in: options.folder, url: request.url, mayExist: hasOldPart)
    }

    var path: FilePath { options.folder.appending(name) }

    /// Downloads the file, however often it takes.
    func run() async -> FetchOutcome {
        do {
            if hasOldPart {
                try await part.openOld()
                count = part.resumePoint
                mostBytes = count
            }
            while true {
                do {
                    try await attempt()
                    return .done
                } catch let refusal as FetchRefusal {
                    try await waitBeforeNext(refusal)
                }
            }
        } catch {
            if Task.isCancelled { return .interrupted(leavesPart: await part.leave()) }
            if (error as? FetchRefusal)?.leavesNothing == true { await part.remove() } else { _ = await part.leave() }
            return .failed("\(error)")
        }
    }

    // MARK: One try

    private func attempt() async throws {
        attempts += 1
        state = .connecting
        var fields: HTTPFields = [.acceptEncoding: "identity"]
        let start = part.resumePoint
        if start > 0, let validator = part.validator {
            fields[.range] = "bytes=\(start)-"
            fields[.ifRange] = validator
        }
        do {
            let response = try await client.get(request.url, fields)
            try await begin(response, from: start)
            state = .receiving
            try await part.write(response.body) { bytes in
                count += Int64(bytes)
                received += Int64(bytes)
            }
        } catch let error as HTTPClientError {
            throw FetchRefusal(words: "\(error)", isTransient: error.isTransient)
        }
        state = .checking
        let sum = part.sha256
        sha256 = sum
        if let wanted = request.sha256, wanted != sum {
            // What an earlier run left may have been the start of another file.
            let mayTryAgain = start > 0 && mayStartOver
            mayStartOver = false
            if mayTryAgain { try await part.startOver(validator: nil, expected: nil) }
            throw FetchRefusal(
                words: "GET \(request.url): its SHA-256 is \(FetchList.hexadecimal(sum)), not "
                    + "\(FetchList.hexadecimal(wanted))",
                isTransient: mayTryAgain, retryAfter: .zero, leavesNothing: true)
        }
        try await part.finish(as: path, replacing: options.replaces || request.sha256 != nil)
    }

    /// Reads the head of an answer: whether a body follows that can be used, and from where.
    private func begin(_ response: HTTPClientResponse, from start: Int64) async throws {
        let status = response.status.code
        switch status {
        case 200:
            let length = response.contentLength
            try checkSize(length)
            try await part.startOver(validator: Self.validator(of: response), expected: length)
            (count, total, resumedFrom) = (0, length, 0)
        case 206 where start > 0:
            guard let range = ContentRange(response.fields[.contentRange] ?? ""), range.start == start else {
                throw FetchRefusal(
                    words: "GET \(request.url): the server sent another part than asked", isTransient: false)
            }
            try checkSize(range.total)
            (count, total, resumedFrom) = (start, range.total ?? range.end + 1, start)
        case 416 where start > 0 && mayStartOver:
            mayStartOver = false
            try await part.startOver(validator: nil, expected: nil)
            throw FetchRefusal(words: "\(status)", isTransient: true, retryAfter: .zero)
        default:
            let reason = response.status.reasonPhrase.filter { !$0.isNewline }
            throw FetchRefusal(
                words: "GET \(request.url): the server answered \(status) \(reason)",
                isTransient: status >= 500 && status != 501 || [408, 425, 429].contains(status),
                retryAfter: RetryAfter.delay(response.fields[.retryAfter] ?? ""))
        }
    }

    private func checkSize(_ size: Int64?) throws {
        if let size, let limit = options.largestFile, size > limit {
            throw FetchRefusal(
                words: "GET \(request.url): it has \(size) bytes, and --largest-file is \(limit)", isTransient: false)
        }
    }

    /// What names this state of the file: a strong `ETag`, else the date.
    private static func validator(of response: HTTPClientResponse) -> String? {
        if let tag = response.fields[.eTag], tag.hasPrefix("\"") { return tag }
        return response.fields[.lastModified]
    }

    // MARK: Between two tries

    /// Waits a while, longer each time without progress; throws if that was enough.
    private func waitBeforeNext(_ refusal: FetchRefusal) async throws {
        if Task.isCancelled || !refusal.isTransient { throw refusal }
        if count > mostBytes {
            mostBytes = count
            failures = 0
        }
        failures += 1
        if failures > options.retries { throw refusal.after(attempts) }
        let delay = refusal.retryAfter ?? Self.backOff(failures)
        if delay == .zero { return }
        state = .waiting(until: .now + delay, refusal.words)
        try await Task.sleep(for: delay)
    }

    /// A quarter of a second, doubled each time up to 20; the second half of it by chance, so that many who failed
    /// together do not come back together.
    private static func backOff(_ failures: Int) -> Duration {
        let longest = min(20, 0.25 * Double(1 << min(failures - 1, 10)))
        return .seconds(Double.random(in: longest / 2...longest))
    }
}

/// Why a try failed.
struct FetchRefusal: Error, CustomStringConvertible {
    var words: String
    /// Whether another try makes sense.
    var isTransient: Bool
    /// When the server wants it; nil if it does not say.
    var retryAfter: Duration?
    /// Whether what has come is of no use.
    var leavesNothing = false

    var description: String { words }

    /// The same, for the last of so many tries.
    func after(_ attempts: Int) -> FetchRefusal {
        var refusal = self
        refusal.words += "; tried \(attempts) times"
        return refusal
    }
}

/// `bytes 100-199/200`.
struct ContentRange: Equatable {
    var start: Int64
    var end: Int64
    var total: Int64?

    init?(_ text: String) {
        guard text.lowercased().hasPrefix("bytes ") else { return nil }
        let parts = text.dropFirst(6).split(separator: "/")
        guard parts.count == 2 else { return nil }
        let ends = parts[0].split(separator: "-", omittingEmptySubsequences: false)
        guard ends.count == 2, let start = Int64(ends[0]), let end = Int64(ends[1]), start >= 0, end >= start else {
            return nil
        }
        (self.start, self.end, total) = (start, end, Int64(parts[1]))
    }
}
