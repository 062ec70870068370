import CRondo
import Glibc
public import SystemPackage

/// The changes of a folder, as they happen: an asynchronous sequence of events.
///
/// ```
/// let watch = try await DirectoryWatch.start("/etc/app", recursive: true)
/// for try await event in watch { print(event) }
/// ```
///
/// Events come in the order in which they happened, and wait in the kernel while nobody asks; when there are too many
/// (`fs.inotify.max_queued_events`) some are lost, and ``Event/Kind/overflow`` says so: then look at everything anew.
///
/// With `recursive`, folders below are watched too, and those that come later. What was made in a new folder before it
/// could be watched is looked up and reported as created, so nothing is missed; something may be reported as created
/// twice.
///
/// One task at a time may iterate. End with ``close()``; what is dropped is closed all the same.
@safe
public final class DirectoryWatch: AsyncSequence, @unchecked Sendable {
    // SAFETY: `root`, `calls`, `poll` and `isRecursive` never change; the rest belongs to the loop's thread, and each
    // step goes there first. Memory and paths live until the completion: the functions wait for it.

    /// What watching may throw.
    public typealias Failure = IOError

    /// One change.
    public struct Event: Hashable, Sendable {
        /// What has happened.
        public enum Kind: Hashable, Sendable {
            /// A name has appeared: a file, folder or link was made.
            case created
            /// A file's content has changed.
            case modified
            /// Somebody who had it open for writing has closed it. Of a file that was written through io_uring the
            /// kernel may say so a moment after the close has completed: behind a rename that came next, and under
            /// the new name.
            case written
            /// A name has gone to another name, or out of the folder. An event with the same cookie, right behind, says
            /// where to, if that is watched too.
            case movedFrom(cookie: UInt32)
            /// A name has come from another name, or from outside.
            case movedTo(cookie: UInt32)
            /// A name was removed.
            case removed
            /// The watched folder itself was removed, moved away or unmounted: nothing more will be known of it. Of a
            /// removed folder the kernel says so when nobody has a file open that was in it.
            case gone
            /// Events were lost: look at everything anew.
            case overflow
        }

        /// What has happened.
        public var kind: Kind
        /// To what: the watched path and the names from there.
        public var path: FilePath
        /// Whether it is a folder.
        public var isDirectory: Bool
    }

    /// The folder that is watched.
    public let root: FilePath
    private let calls: PathCalls
    private let poll: WatchPoll
    private let isRecursive: Bool
    /// The folders that are watched, by the kernel's number.
    private var folders: [Int32: FilePath] = [:]
    /// Folders that have left their place, by cookie, until it is known whether they have come to another one.
    private var leaving: [UInt32: FilePath] = [:]
    /// What has been read and not been handed out, from `nextEvent` on.
    private var events: [Event] = []
    private var nextEvent = 0
    private var isBusy = false
    private var isClosed = false
    private var closer: UnsafeContinuation<Void, Never>?

    private init(_ root: FilePath, _ descriptor: Descriptor, isRecursive: Bool, _ calls: PathCalls) {
        self.root = root
        poll = WatchPoll(descriptor, loop: calls.loop)
        self.isRecursive = isRecursive
        self.calls = calls
    }

    deinit {
        if isClosed { return }
        let poll = poll
        poll.loop.detach { await poll.close() }
    }

    /// Begins to watch a folder. What happens from now on is reported.
    ///
    /// - Throws: `IOError`: `watch x: No space left on device` if there are too many watches
    ///   (`fs.inotify.max_user_watches`); `Operation not supported` in a simulation.
    public static func start(_ path: FilePath, recursive: Bool = false) async throws(IOError) -> DirectoryWatch {
        let calls = PathCalls(for: "DirectoryWatch.start")
        // SAFETY: no pointer.
        let answer = await unsafe calls.loop.perform(.file(.openWatch))
        try PathCalls.check(answer, "watch", path.string)
        let watch = DirectoryWatch(path, Descriptor(rawValue: answer), isRecursive: recursive, calls)
        do throws(IOError) {
            try await watch.add(path)
            if recursive { try await watch.addAll(below: path, reporting: false) }
        } catch {
            await watch.close()
            throw error
        }
        return watch
    }

    /// Ends it. A task that waits for an event gets the end of the sequence.
    public func close() async {
        await calls.loop.onLoop {
            if isClosed { return }
            isClosed = true
            poll.cancel()
            await unsafe park(unless: !isBusy) { unsafe closer = $0 }
            await poll.close()
        }
    }

    /// Begins where the last one has stopped.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(watch: self) }

    /// Takes events one by one; several iterators share them.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let watch: DirectoryWatch

        /// The next event, waited for; nil when the watch was closed.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(IOError) -> Event? {
            try await watch.next()
        }
    }
}

extension DirectoryWatch {
    // SAFETY: memory and paths live until the completion: the functions wait for it. A record's name ends with a zero.

    private static let mask: UInt32 = [
        IN_MODIFY, IN_CLOSE_WRITE, IN_MOVED_FROM, IN_MOVED_TO, IN_CREATE, IN_DELETE, IN_DELETE_SELF, IN_MOVE_SELF,
    ].reduce(RONDO_WATCH_ONLY_FOLDERS) { $0 | UInt32($1) }

    fileprivate func next() async throws(IOError) -> Event? {
        try await calls.loop.onLoop { () async throws(IOError) in
            if calls.loop.spendOperation() { await calls.loop.yieldInTurn() }
            while true {
                if nextEvent < events.count {
                    nextEvent += 1
                    return events[nextEvent - 1]
                }
                if isClosed { return nil }
                if isBusy { throw IOError("watch", root.string, .busy) }
                isBusy = true
                defer { endStep() }
                try await collect()
            }
        }
    }

    private func endStep() {
        isBusy = false
        let waiting = unsafe closer
        unsafe closer = nil
        unsafe waiting?.resume()
    }

    /// Waits for events, and takes them in.
    private func collect() async throws(IOError) {
        let answer = await poll.wait()
        if isClosed { return }
        try PathCalls.check(answer, "watch", root.string)
        events.removeAll(keepingCapacity: true)
        nextEvent = 0
        let size = 64 * 1024
        let memory = UnsafeMutableRawPointer.allocate(byteCount: size, alignment: 8)
        defer { unsafe memory.deallocate() }
        let count = await unsafe calls.loop.perform(.read(poll.descriptor, memory, count: size, offset: .max))
        if count == -EAGAIN || isClosed { return }
        try PathCalls.check(count, "watch", root.string)
        var offset = 0
        while offset < Int(count) {
            let record = unsafe memory + offset
            let event = unsafe record.loadUnaligned(as: inotify_event.self)
            let start = MemoryLayout<inotify_event>.size
            let name =
                unsafe event.len == 0 ? "" : String(cString: (record + start).assumingMemoryBound(to: CChar.self))
            offset += start + Int(event.len)
            try await note(event, name)
        }
    }

    private func note(_ event: inotify_event, _ name: String) async throws(IOError) {
        func has(_ flag: Int) -> Bool { event.mask & UInt32(flag) != 0 }
        if has(Int(IN_Q_OVERFLOW)) { return report(.overflow, root, isDirectory: true) }
        guard let folder = folders[event.wd] else { return }
        if has(Int(IN_IGNORED)) {
            folders[event.wd] = nil
            return
        }
        if has(Int(IN_DELETE_SELF)) || has(Int(IN_UNMOUNT)) || has(Int(IN_MOVE_SELF)) {
            if folder == root { return report(.gone, root, isDirectory: true) }
            if has(Int(IN_MOVE_SELF)) { await noteMoved(folder) }
            return
        }
        let path = folder.appending(name)
        let isDirectory = has(Int(RONDO_WATCH_IS_FOLDER))
        if has(Int(IN_CREATE)) { report(.created, path, isDirectory: isDirectory) }
        if has(Int(IN_MODIFY)) { report(.modified, path, isDirectory: isDirectory) }
        if has(Int(IN_CLOSE_WRITE)) { report(.written, path, isDirectory: isDirectory) }
        if has(Int(IN_DELETE)) { report(.removed, path, isDirectory: isDirectory) }
        if has(Int(IN_MOVED_FROM)) {
            report(.movedFrom(cookie: event.cookie), path, isDirectory: isDirectory)
            if isDirectory, isRecursive { leaving[event.cookie] = path }
        }
        if has(Int(IN_MOVED_TO)) { report(.movedTo(cookie: event.cookie), path, isDirectory: isDirectory) }
        guard isDirectory, isRecursive, has(Int(IN_CREATE)) || has(Int(IN_MOVED_TO)) else { return }
        let wasWatched = leaving.removeValue(forKey: event.cookie) != nil
        try await addNew(path, reporting: !wasWatched)
    }

    /// A watched folder was moved. If it has come to no other place, it is watched no more, nor is what is below it.
    private func noteMoved(_ folder: FilePath) async {
        guard let cookie = leaving.first(where: { $0.value == folder })?.key else { return }
        leaving[cookie] = nil
        for (number, path) in folders where path.starts(with: folder) {
            folders[number] = nil
            _ = await unsafe calls.loop.perform(
                .file(.removeWatch(poll.descriptor, number: number)), toTheEnd: true)
        }
    }

    private func report(_ kind: Event.Kind, _ path: FilePath, isDirectory: Bool) {
        events.append(Event(kind: kind, path: path, isDirectory: isDirectory))
    }

    /// Watches a folder.
    private func add(_ path: FilePath) async throws(IOError) {
        let number = try await unsafe calls.run("watch", path) {
            unsafe .addWatch(poll.descriptor, $0, mask: Self.mask)
        }
        folders[number] = path
    }

    /// Watches a folder that has come, and all below it.
    private func addNew(_ path: FilePath, reporting: Bool) async throws(IOError) {
        do throws(IOError) {
            try await add(path)
            try await addAll(below: path, reporting: reporting)
        } catch {
            // It has gone again, and there are events that say so.
            if error.errno != .noSuchFileOrDirectory && error.errno != .notDirectory { throw error }
        }
    }

    /// Watches all folders below one that is watched, and reports what is there.
    private func addAll(below path: FilePath, reporting: Bool) async throws(IOError) {
        for try await entry in Directory.walk(path) {
            let isDirectory = entry.kind == .directory
            if reporting { report(.created, entry.path, isDirectory: isDirectory) }
            if !isDirectory || entry.error != nil { continue }
            do throws(IOError) {
                try await add(entry.path)
            } catch {
                if error.errno != .noSuchFileOrDirectory && error.errno != .notDirectory { throw error }
            }
        }
    }
}

/// Waits until a descriptor can be read. At most one poll is under way, and outlives a task that waits for it no more.
@safe
private final class WatchPoll: WaitingSink, @unchecked Sendable {
    // SAFETY: belongs to the loop's thread; the table of pending operations retains it while a poll is under way.
    private var operation: OperationID?
    private var answer: Int32 = 0
    private var closer: UnsafeContinuation<Void, Never>?

    /// - Returns: the events, or a negated errno: `ECANCELED` if the task or the poll was cancelled.
    func wait() async -> Int32 {
        if operation == nil { operation = unsafe loop.start(.poll(descriptor, events: Int16(POLLIN)), sink: self) }
        while operation != nil {
            if await !waitForNews() { return -ECANCELED }
        }
        return answer
    }

    override var hasNewsAlready: Bool { operation == nil }

    override func deliver(_ completion: Completion) {
        operation = nil
        answer = completion.result
        let waiting = unsafe closer
        unsafe closer = nil
        unsafe waiting?.resume()
        wake()
    }

    func cancel() {
        if let operation { loop.cancel(operation) }
    }

    /// Ends the poll, and closes the descriptor.
    func close() async {
        cancel()
        await unsafe park(unless: operation == nil) { unsafe closer = $0 }
        _ = await unsafe loop.performToTheEnd(.close(descriptor))
    }
}
