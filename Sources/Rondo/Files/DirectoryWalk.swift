import CRondo
import Glibc
public import SystemPackage

extension Directory {
    /// Everything below a folder, folder by folder: each folder comes before what is in it, in no particular order.
    ///
    /// Symbolic links are reported and not followed (but `path` itself may be one). Folders are kept open while they
    /// are read, so renaming them meanwhile does not mislead the walk; what comes or goes meanwhile may be reported or
    /// not, but nothing that stays is left out or reported twice.
    ///
    /// Memory: the names of one part of a folder (32 KB) for each level, and one open descriptor for each level.
    ///
    /// ```
    /// for try await entry in Directory.walk("/srv", skipping: { $0.name == ".git" }) where entry.kind == .regular { …
    /// }
    /// ```
    ///
    /// - Parameters:
    ///   - maximumDepth: how many levels of names are reported: 1 for what is in the folder itself.
    ///   - stopsAtErrors: whether a folder that can't be read ends the walk. Else it is reported with its error, and
    ///     the walk goes on. That `path` itself can't be read, and cancellation, always end it.
    ///   - skipping: what is not to be reported, nor entered.
    public static func walk(
        _ path: FilePath, maximumDepth: Int = .max, stopsAtErrors: Bool = false,
        skipping: @escaping @Sendable (DirectoryWalk.Entry) -> Bool = { _ in false }
    ) -> DirectoryWalk {
        DirectoryWalk(root: path, maximumDepth: maximumDepth, stopsAtErrors: stopsAtErrors, skipping: skipping)
    }
}

/// Everything below a folder: see ``Directory/walk(_:maximumDepth:stopsAtErrors:skipping:)``.
public struct DirectoryWalk: AsyncSequence, Sendable {
    /// What the walk may throw.
    public typealias Failure = IOError

    /// Something that was found.
    public struct Entry: Hashable, Sendable {
        /// Where it is: the path that the walk began with, and the names from there.
        public var path: FilePath
        /// What it is.
        public var kind: FileStatus.Kind
        /// 1 for what is in the first folder.
        public var depth: Int
        /// Why a folder could not be entered, or not be read to its end; then it is reported a second time.
        public var error: IOError?

        /// Its name, without the folder's path.
        public var name: String { path.lastComponent?.string ?? path.string }
    }

    let root: FilePath
    let maximumDepth: Int
    let stopsAtErrors: Bool
    let skipping: @Sendable (Entry) -> Bool

    /// Begins a walk.
    public func makeAsyncIterator() -> AsyncIterator { AsyncIterator(walker: Walker(self)) }

    /// One walk.
    public struct AsyncIterator: AsyncIteratorProtocol {
        let walker: Walker

        /// What comes next; nil at the end.
        public mutating func next(
            isolation actor: isolated (any Actor)? = #isolation
        ) async throws(IOError) -> Entry? {
            try await walker.next()
        }
    }
}

/// A walk under way.
@safe
final class Walker: @unchecked Sendable {
    // SAFETY: used by the one task that has the iterator, one step after the other; each step is on the loop's thread.

    /// A folder that is being read.
    private struct Level {
        var folder: Descriptor
        var path: FilePath
        /// What was listed and not reported yet.
        var entries: [(name: [CChar], type: UInt8)] = []
    }

    private let walk: DirectoryWalk
    private let calls: PathCalls
    private var levels: [Level] = []
    private var hasBegun = false

    init(_ walk: DirectoryWalk) {
        self.walk = walk
        calls = PathCalls(for: "Directory.walk")
    }

    deinit {
        let (levels, calls) = (levels, calls)
        if levels.isEmpty { return }
        calls.loop.detach { for level in levels { await calls.close(level.folder) } }
    }

    func next() async throws(IOError) -> DirectoryWalk.Entry? {
        try await calls.loop.onLoop { () async throws(IOError) in
            do throws(IOError) {
                return try await step()
            } catch {
                while let level = levels.popLast() { await calls.close(level.folder) }
                throw error
            }
        }
    }

    private func step() async throws(IOError) -> DirectoryWalk.Entry? {
        if !hasBegun {
            hasBegun = true
            // SAFETY: the path lives until the completion.
            let answer = try await unsafe calls.run("walk", walk.root) {
                unsafe .open(in: .workingDirectory, $0, flags: O_RDONLY | O_DIRECTORY, mode: 0)
            }
            levels.append(Level(folder: Descriptor(rawValue: answer), path: walk.root))
        }
        while let level = levels.indices.last {
            if calls.loop.spendOperation() { await calls.loop.yieldInTurn() }
            if let (name, type) = levels[level].entries.popLast() {
                if let entry = try await visit(name, type, in: levels[level]) { return entry }
                continue
            }
            let part = FolderPart()
            let answer = await unsafe calls.loop.perform(
                .file(.listNext(levels[level].folder, .passUnretained(part))))
            levels[level].entries = part.entries
            if answer > 0 { continue }
            let left = levels.removeLast()
            await calls.close(left.folder)
            if answer == 0 { continue }
            let error = IOError("walk", left.path.string, IOError.cause(ofAnswer: answer))
            if walk.stopsAtErrors || error.isCancellation || levels.isEmpty { throw error }
            return DirectoryWalk.Entry(path: left.path, kind: .directory, depth: levels.count, error: error)
        }
        return nil
    }

    /// Looks at a name, and enters it if it is a folder.
    ///
    /// - Returns: nil if it is not to be reported.
    private func visit(
        _ name: [CChar], _ type: UInt8, in level: Level
    ) async throws(IOError) -> DirectoryWalk.Entry? {
        let path = level.path.appending(FilePath(platformString: name).components)
        var entry = DirectoryWalk.Entry(
            path: path, kind: FileStatus.Kind(directoryType: type), depth: levels.count, error: nil)
        if entry.kind == .unknown {
            let (status, answer) = await calls.linkStatus(in: level.folder, name: name)
            if answer == -ENOENT { return nil }
            if answer == -ECANCELED { try PathCalls.check(answer, "walk", path.string) }
            entry.kind = status?.kind ?? .unknown
        }
        if walk.skipping(entry) { return nil }
        guard entry.kind == .directory, levels.count < walk.maximumDepth else { return entry }
        // SAFETY: the name lives until the completion.
        let answer = await unsafe calls.answer(name: name) {
            unsafe .open(in: level.folder, $0, flags: O_RDONLY | O_DIRECTORY | O_NOFOLLOW, mode: 0)
        }
        if answer >= 0 {
            levels.append(Level(folder: Descriptor(rawValue: answer), path: path))
            return entry
        }
        if answer == -ENOENT { return nil }
        if answer == -ENOTDIR || answer == -ELOOP {
            // Something else has taken the folder's place.
            entry.kind = await calls.linkStatus(in: level.folder, name: name).0?.kind ?? .unknown
            return entry
        }
        let error = IOError("walk", path.string, IOError.cause(ofAnswer: answer))
        if walk.stopsAtErrors || error.isCancellation { throw error }
        entry.error = error
        return entry
    }
}
