// All downloads of one call: so many at once, what is shown meanwhile, Ctrl-C, and the result.

import Glibc
import Rondo
import RondoHTTPClient
import SystemPackage

/// One call of `rondo fetch`.
@MainActor
final class FetchRun {
    /// How many came to which end.
    struct Counts: Equatable {
        var done = 0
        var alreadyThere = 0
        var failed = 0
        var interrupted = 0
        var parts = 0

        var ended: Int { done + alreadyThere + failed + interrupted }
    }

    private let options: FetchOptions
    private let client: HTTPClient
    private let items: [(request: FetchRequest, name: String)]
    /// What was in the folder at the start.
    private let present: Set<String>
    private var next = 0
    /// What runs now, in the order of the list.
    private(set) var running: [Download] = []
    private(set) var counts = Counts()
    /// Bytes that came over the network, of downloads that have ended.
    private var endedBytes: Int64 = 0
    private var isInterrupted = false
    let start = ContinuousClock.now
    private lazy var display = FetchDisplay(self, isJSON: options.isJSON)

    /// Makes the folder, and gives each file its name.
    init(_ requests: [FetchRequest], _ options: FetchOptions, _ client: HTTPClient) async throws {
        self.options = options
        self.client = client
        var names = FetchNames()
        items = requests.map { ($0, names.take(for: $0.url)) }
        try await Files.makeDirectory(options.folder, withParents: true)
        present = Set(try await Directory.entries(of: options.folder).map(\.name))
    }

    var total: Int { items.count }
    var received: Int64 { endedBytes + running.reduce(0) { $0 + $1.received } }

    /// Downloads everything.
    ///
    /// - Returns: the exit status.
    func run() async -> Int32 {
        display.begin()
        let signals = try? Signals.of(.interrupt, .terminate)
        let work = Task { await self.work() }
        let listening = Task {
            guard let signals else { return }
            var isFirst = true
            for await signal in signals {
                // Who asks twice is in a hurry.
                if !isFirst {
                    display.end()
                    Interrupt.cleanUp()
                    exit(128 + signal.rawValue)
                }
                isFirst = false
                isInterrupted = true
                work.cancel()
            }
        }
        let drawing = Task { await display.draw() }
        await work.value
        drawing.cancel()
        listening.cancel()
        await synchronizeFolder()
        display.end()
        display.report(counts, isInterrupted: isInterrupted)
        return isInterrupted ? 130 : Int32(min(125, counts.failed))
    }

    private func work() async {
        await withDiscardingTaskGroup { group in
            for _ in 0..<min(options.jobs, items.count) { group.addTask { await self.workThroughList() } }
        }
    }

    private func workThroughList() async {
        while next < items.count, !Task.isCancelled {
            let item = items[next]
            next += 1
            if await isThere(item) {
                counts.alreadyThere += 1
                display.note(item.request, item.name, nil, .alreadyThere)
                continue
            }
            let download = Download(
                item.request, name: item.name, options, client,
                hasOldPart: present.contains(item.name + FetchNames.partSuffix))
            running.append(download)
            let outcome = await download.run()
            running.removeAll { $0 === download }
            endedBytes += download.received
            count(outcome)
            display.note(item.request, item.name, download, outcome)
        }
    }

    private func count(_ outcome: FetchOutcome) {
        switch outcome {
        case .done: counts.done += 1
        case .alreadyThere: counts.alreadyThere += 1
        case .failed: counts.failed += 1
        case .interrupted(let leavesPart):
            counts.interrupted += 1
            if leavesPart { counts.parts += 1 }
        }
    }

    /// Whether the file needs no download: it is there, and nothing says that it should be another one.
    private func isThere(_ item: (request: FetchRequest, name: String)) async -> Bool {
        if options.replaces || !present.contains(item.name) { return false }
        guard let wanted = item.request.sha256 else { return true }
        return (try? await PartFile.checksum(of: options.folder.appending(item.name))) == wanted
    }

    /// The names of the files are on the disk too when this ends.
    private func synchronizeFolder() async {
        guard counts.done > 0, let folder = try? await File.open(options.folder) else { return }
        try? await folder.synchronize()
        await folder.close()
    }
}
