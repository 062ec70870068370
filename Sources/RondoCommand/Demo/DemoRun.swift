// The demo itself: one process, one loop; an origin, a front, and customers.

import Glibc
import Rondo
import RondoInsight
import SystemPackage

/// The orders of one run, and how they went.
struct RunOutcome: Sendable {
    var outcomes: [OrderOutcome] = []
    var seconds = 0.0

    var verified: [OrderOutcome] { outcomes.filter { $0.failure == nil } }
    /// Bytes that customers have got and found to be right.
    var bytesVerified: Int { verified.reduce(0) { $0 + $1.order.file.size } }
    var ordersPerSecond: Double { seconds > 0 ? Double(verified.count) / seconds : 0 }
}

/// From the arguments to the result.
struct DemoRun {
    /// Descriptors of an order: both ends of two connections, and a file.
    private static let descriptorsPerOrder = 5
    private static let otherDescriptors = 64
    /// Customers who come at once; then the front gets a turn to let them in. The kernel's queue at the door is finite,
    /// and who does not fit waits a whole second.
    private static let crowd = 32
    private static let eventsPerOrder = 256
    private static let eventsKept = 1 << 23

    let command: DemoCommand

    init(_ command: DemoCommand) { self.command = command }

    /// All that is there before the first order.
    private struct Stage {
        var folder: ServedFolder
        var notes: [String]
        var files: [IndexedFile]
        var orders: [Order]
        var customer: Customer
        var threads: ThreadWitness
        var servers: [Task<Void, Never>]

        /// Ends the origin and the front.
        func close() async {
            for server in servers { server.cancel() }
            for server in servers { await server.value }
        }
    }

    private func setUp() async throws -> Stage {
        let folder = try await ServedFolder.find(command.folder)
        let (index, notes) = try await makeIndex(of: folder)
        let files = try await index.files()
        let orders = (0..<command.orders).map { Order(number: $0 + 1, file: files[$0 % files.count]) }
        let threads = ThreadWitness()
        let latency = Duration.nanoseconds(Int64(command.latency * 1e6))
        let origin = try await Origin(
            root: folder.root, latency: latency, breaksAfter: command.breakOriginAfter, threads: threads)
        let front = try await Front(
            index: index, origin: origin.address, ordersAtOnce: orders.count, threads: threads)
        let customer = Customer(
            front: front.address, patience: latency * 4 + .seconds(60), threads: threads)
        let servers = [
            Task(name: "origin") { await origin.run() }, Task(name: "front") { await front.run() },
        ]
        return Stage(
            folder: folder, notes: notes, files: files, orders: orders, customer: customer, threads: threads,
            servers: servers)
    }

    /// Orders as long as somebody watches.
    func runWatched() async throws -> DemoTop.Tally {
        let stage = try await setUp()
        let watched = Array(stage.orders.prefix(ordersAtOnce(stage.orders.count)))
        let tally = try await DemoTop(watched, stage.customer).run()
        await stage.close()
        return tally
    }

    func run() async throws -> DemoResult {
        let stage = try await setUp()
        let (orders, customer) = (stage.orders, stage.customer)
        let loop = EventLoop.current!
        var result = DemoResult(
            loop: loop, folder: stage.folder.root.string, files: stage.files, orders: command.orders)
        result.notes = stage.notes
        result.latencyMilliseconds = command.latency
        result.sequential = await oneAfterAnother(orders, customer)

        result.ordersAtOnce = ordersAtOnce(orders.count)
        let before = await loop.statistics
        let programRecording = loop.recording
        let room = min(orders.count * Self.eventsPerOrder, Self.eventsKept)
        if let memory = try? EventMemory(eventCapacity: room) { await loop.record(into: memory) }
        result.concurrent = await allAtOnce(orders, customer, limit: result.ordersAtOnce)
        let recorded = try loop.recording.map { try TraceFile($0.bytes) }
        loop.recording = programRecording
        let after = await loop.statistics
        result.turns = Int(after.turns - before.turns)
        result.systemCalls = Int(after.systemCalls - before.systemCalls)

        await stage.close()
        result.loopThreads = stage.threads.count
        result.recording = Recording(recorded?.rings.first)
        result.trace = recorded
        return result
    }

    /// How many of so many orders the limit of open files lets be open together.
    private func ordersAtOnce(_ count: Int) -> Int {
        let files = OpenFiles.raise(toHold: count * Self.descriptorsPerOrder + Self.otherDescriptors)
        return max(1, min(count, (files - Self.otherDescriptors) / Self.descriptorsPerOrder))
    }

    // MARK: The index

    private func makeIndex(of folder: ServedFolder) async throws -> (OrderIndex, notes: [String]) {
        let scan = try await FolderScan.of(folder, largestFile: command.largestFile)
        let index = try await OrderIndex.open(try indexPlace(), folder: folder.root.string)
        let known = Set(try await index.files().map(\.path))
        var new: [IndexedFile] = []
        for path in scan.paths where !known.contains(path) {
            let content = try await File.contents(of: folder.root.appending(path))
            new.append(IndexedFile(path: path, size: content.count, sha256: await Checksum.of(content)))
        }
        if !new.isEmpty { try await index.add(new) }

        var notes: [String] = []
        if scan.tooLarge > 0 { notes.append("\(scan.tooLarge.grouped) larger than --largest-file were left out") }
        if scan.unspeakable > 0 { notes.append("\(scan.unspeakable.grouped) with a broken name were left out") }
        return (index, notes)
    }

    /// Where the index is: where the caller wants to keep it, or in a new folder that is removed at the end.
    private func indexPlace() throws -> String {
        if let path = command.database { return path }
        let parent = environmentValue("TMPDIR") ?? "/tmp"
        var template = Array("\(parent)/rondo-demo.XXXXXX".utf8CString)
        // SAFETY: mkdtemp changes the six letters within the array.
        guard unsafe mkdtemp(&template) != nil else {
            throw CommandFailure("make a folder for the index in \(parent): \(Errno(rawValue: errno)) (set TMPDIR)")
        }
        let folder = FilePath(String(decoding: template.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self))
        let path = folder.appending("index.sqlite")
        Interrupt.willRemove(index: path, in: folder)
        return path.string
    }

    // MARK: The two runs

    /// As many orders as fit the budget, and one at least; each begins when the one before has ended.
    private func oneAfterAnother(_ orders: [Order], _ customer: Customer) async -> RunOutcome {
        let progress = Progress("one after another", total: orders.count)
        var run = RunOutcome()
        let start = ContinuousClock.now
        for order in orders {
            run.outcomes.append(await customer.place(order))
            run.seconds = Self.seconds(since: start)
            let share = run.seconds / command.sequentialBudget
            progress.advance(fraction: max(share, Double(run.outcomes.count) / Double(orders.count)))
            if share >= 1 { break }
        }
        progress.finish()
        return run
    }

    /// All orders together, or as many as the limit of open files lets be open together.
    private func allAtOnce(_ orders: [Order], _ customer: Customer, limit: Int) async -> RunOutcome {
        let progress = Progress("all at once", total: orders.count)
        var run = RunOutcome()
        run.outcomes.reserveCapacity(orders.count)
        let start = ContinuousClock.now
        await withTaskGroup(of: OrderOutcome.self) { group in
            for (index, order) in orders.enumerated() {
                if index >= limit, let outcome = await group.next() {
                    run.outcomes.append(outcome)
                    progress.advance()
                }
                group.addTask(name: "customer \(order.number)") { await customer.place(order) }
                if index % Self.crowd == Self.crowd - 1 { await EventLoop.yield() }
            }
            for await outcome in group {
                run.outcomes.append(outcome)
                progress.advance()
            }
        }
        run.seconds = Self.seconds(since: start)
        progress.finish()
        return run
    }

    private static func seconds(since start: ContinuousClock.Instant) -> Double {
        Double(start.duration(to: .now).nanosecondsRoundedUp) / 1e9
    }
}

/// The limit of open files of this process.
enum OpenFiles {
    /// Raises the soft limit as far as `count` asks for and the hard limit allows.
    ///
    /// - Returns: how many files may be open now.
    static func raise(toHold count: Int) -> Int {
        var limit = rlimit()
        // SAFETY: the calls read and fill in the one value.
        guard unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit) == 0 else { return 1024 }
        if limit.rlim_cur < rlim_t(count) {
            limit.rlim_cur = min(rlim_t(count), limit.rlim_max)
            _ = unsafe setrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
            _ = unsafe getrlimit(__rlimit_resource_t(RLIMIT_NOFILE.rawValue), &limit)
        }
        return Int(clamping: limit.rlim_cur)
    }
}

/// The folder that relative paths start from.
func workingDirectory() throws -> String {
    // SAFETY: getcwd allocates the string that it answers.
    guard let path = unsafe getcwd(nil, 0) else {
        throw CommandFailure("find the working directory: \(Errno(rawValue: errno))")
    }
    defer { unsafe free(path) }
    return unsafe String(cString: path)
}
