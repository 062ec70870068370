// Removing a folder with all that is in it. Everything below the root is named relative to an open folder, so a link
// that somebody puts in a folder's place is removed and never followed.

import CRondo
import Glibc
import SystemPackage

extension PathCalls {
    /// See `Files.removeTree`.
    func removeTree(_ path: FilePath) async throws(IOError) {
        // SAFETY: the path lives until the completion.
        let answer = await unsafe answer(path) { unsafe .remove(in: .workingDirectory, $0, flags: 0) }
        if answer != -EISDIR { return _ = try Self.check(answer, "remove", path.string) }
        let removal = TreeRemoval(self, path)
        do throws(IOError) {
            try await removal.run()
        } catch {
            await removal.closeAll()
            throw error
        }
    }
}

/// One removal of a tree under way.
private final class TreeRemoval {
    // SAFETY: names, paths and parts live until the completion: the functions wait for it.

    /// A folder that is being emptied.
    private struct Level {
        var folder: Descriptor
        /// Its name in the folder above; empty for the root.
        var name: [CChar]
        /// What was listed and is still to be removed.
        var entries: [(name: [CChar], type: UInt8)] = []
        /// Whether something was removed since its listing began.
        var hasChanged = false
    }

    private let calls: PathCalls
    private let root: FilePath
    private var levels: [Level] = []

    init(_ calls: PathCalls, _ root: FilePath) {
        self.calls = calls
        self.root = root
    }

    private static let folderFlags = O_RDONLY | O_DIRECTORY | O_NOFOLLOW

    func run() async throws(IOError) {
        try await openRoot()
        while let level = levels.indices.last {
            if calls.loop.spendOperation() { await calls.loop.yieldInTurn() }
            if let entry = levels[level].entries.popLast() {
                try await remove(entry.name, entry.type, at: level)
            } else if try await listNext(at: level) == 0 {
                try await leave(level)
            }
        }
    }

    func closeAll() async {
        while let level = levels.popLast() { await calls.close(level.folder) }
    }

    private func openRoot() async throws(IOError) {
        let answer = try await unsafe calls.run("remove", root) {
            unsafe .open(in: .workingDirectory, $0, flags: Self.folderFlags, mode: 0)
        }
        levels.append(Level(folder: Descriptor(rawValue: answer), name: []))
    }

    private func listNext(at level: Int) async throws(IOError) -> Int32 {
        let part = FolderPart()
        let answer = await unsafe calls.loop.perform(
            .file(.listNext(levels[level].folder, .passUnretained(part))), toTheEnd: calls.toTheEnd)
        try PathCalls.check(answer, "remove", path(of: nil))
        levels[level].entries = part.entries
        return answer
    }

    private func remove(_ name: [CChar], _ type: UInt8, at level: Int) async throws(IOError) {
        let folder = levels[level].folder
        if type != UInt8(DT_DIR) {
            let answer = await unsafe calls.answer(name: name) { unsafe .remove(in: folder, $0, flags: 0) }
            if answer >= 0 { levels[level].hasChanged = true }
            if answer >= 0 || answer == -ENOENT { return }
            // The file system notes no types, or a folder has taken the file's place.
            if answer != -EISDIR { try PathCalls.check(answer, "remove", path(of: name)) }
        }
        let answer = await unsafe calls.answer(name: name) {
            unsafe .open(in: folder, $0, flags: Self.folderFlags, mode: 0)
        }
        switch -answer {
        case ENOENT: return
        case ENOTDIR, ELOOP: levels[level].entries.append((name, UInt8(DT_UNKNOWN)))  // no folder any more
        default:
            try PathCalls.check(answer, "remove", path(of: name))
            levels.append(Level(folder: Descriptor(rawValue: answer), name: name))
        }
    }

    /// A folder has been listed to its end.
    private func leave(_ level: Int) async throws(IOError) {
        let left = levels.removeLast()
        await calls.close(left.folder)
        guard let above = levels.indices.last else {
            do throws(IOError) {
                return try await calls.removeEmptyFolder(root)
            } catch {
                guard error.errno == .directoryNotEmpty, left.hasChanged else { throw error }
                return try await openRoot()  // names have come, or the listing has left some out: once more
            }
        }
        let folder = levels[above].folder
        let answer = await unsafe calls.answer(name: left.name) {
            unsafe .remove(in: folder, $0, flags: RONDO_AT_REMOVEDIR)
        }
        if answer == -ENOTEMPTY, left.hasChanged {
            levels[above].entries.append((left.name, UInt8(DT_DIR)))
            return
        }
        if answer != -ENOENT { try PathCalls.check(answer, "remove", path(of: left.name)) }
        levels[above].hasChanged = true
    }

    private func path(of name: [CChar]?) -> String {
        var path = root
        for part in levels.map(\.name) + [name ?? []] where !part.isEmpty {
            path.append(FilePath(platformString: part).string)
        }
        return path.string
    }
}
