import CRondo
import Glibc
public import SystemPackage

/// What can be done to files and folders by their paths.
///
/// All of it runs on the event loop of the calling task. With io_uring it goes through the ring; reading a symbolic
/// link, and everything with epoll, through the offload pool. A task that is cancelled while it waits goes on when the
/// call has ended: the call has happened as a whole, or not at all and the error is a cancellation.
public enum Files {
    // SAFETY: what an operation points to is kept by the function that waits for it, here and in all functions below.

    /// Gives a file or folder another name, in another folder of the same file system perhaps, in one step.
    ///
    /// A symbolic link is renamed itself.
    ///
    /// - Parameter replacing: whether a file (or an empty folder, by a folder) that has the new name already is
    ///   replaced.
    /// - Throws: `IOError`: `rename a to b: File exists`, if it may not be replaced.
    public static func rename(
        _ path: FilePath, to newPath: FilePath, replacing: Bool = true
    ) async throws(IOError) {
        try await PathCalls(for: "Files.rename").rename(path, to: newPath, replacing: replacing)
    }

    /// Exchanges two names in one step: each then stands for what the other did.
    public static func exchange(_ path: FilePath, _ other: FilePath) async throws(IOError) {
        let calls = PathCalls(for: "Files.exchange")
        let here = Descriptor.workingDirectory
        let answer = await unsafe calls.answer(path, other) {
            unsafe .rename(in: here, $0, to: here, $1, flags: RONDO_RENAME_EXCHANGE)
        }
        try PathCalls.check(answer, "exchange", "\(path.string) and \(other.string)")
    }

    /// Gives a file one more name.
    public static func link(_ path: FilePath, to newPath: FilePath) async throws(IOError) {
        let calls = PathCalls(for: "Files.link")
        let here = Descriptor.workingDirectory
        let answer = await unsafe calls.answer(path, newPath) { unsafe .link(in: here, $0, to: here, $1) }
        try PathCalls.check(answer, "link", "\(path.string) to \(newPath.string)")
    }

    /// Makes a symbolic link.
    ///
    /// - Parameter target: what it points to; a relative path is relative to the link's folder, and need not exist.
    public static func makeSymbolicLink(at path: FilePath, to target: FilePath) async throws(IOError) {
        let calls = PathCalls(for: "Files.makeSymbolicLink")
        let answer = await unsafe calls.answer(target, path) { unsafe .symbolicLink($0, in: .workingDirectory, $1) }
        try PathCalls.check(answer, "make symbolic link", "\(path.string) to \(target.string)")
    }

    /// What a symbolic link points to, as it was written.
    public static func readLink(_ path: FilePath) async throws(IOError) -> FilePath {
        let calls = PathCalls(for: "Files.readLink")
        // No path is longer than PATH_MAX, so a text that fills it was cut off by nobody.
        let size = Int(PATH_MAX)
        let text = UnsafeMutablePointer<CChar>.allocate(capacity: size + 1)
        defer { unsafe text.deallocate() }
        let count = try await unsafe calls.run("read link", path) {
            unsafe .readLink(in: .workingDirectory, $0, UnsafeMutableRawPointer(text), count: size)
        }
        unsafe text[Int(count)] = 0
        return unsafe FilePath(platformString: text)
    }

    /// Removes a file, a symbolic link or an empty folder.
    ///
    /// - Throws: `IOError`: `remove b: Directory not empty (remove what is in it first, …)`.
    public static func remove(_ path: FilePath) async throws(IOError) {
        try await PathCalls(for: "Files.remove").remove(path)
    }

    /// Removes a file, a symbolic link, or a folder with all that is in it.
    ///
    /// Symbolic links are removed, never followed, also if somebody puts one in the place of a folder meanwhile. What
    /// others add to a folder while it is being emptied is removed too. If something can't be removed this stops there
    /// and throws; what was removed until then stays so, also after a cancellation.
    ///
    /// It holds one open descriptor for each level of folders.
    public static func removeTree(_ path: FilePath) async throws(IOError) {
        try await PathCalls(for: "Files.removeTree").removeTree(path)
    }

    /// Makes a folder.
    ///
    /// - Parameters:
    ///   - permissions: who may use it; the process's umask takes away from that.
    ///   - withParents: make the folders above that are not there, too; then a folder that is there is no error.
    public static func makeDirectory(
        _ path: FilePath,
        permissions: FilePermissions = [.ownerReadWriteExecute, .groupReadExecute, .otherReadExecute],
        withParents: Bool = false
    ) async throws(IOError) {
        let calls = PathCalls(for: "Files.makeDirectory")
        if !withParents { return try await calls.makeDirectory(path, permissions) }
        // From the longest path that can be made, down again.
        var missing: [FilePath] = []
        var next = path
        // Where the folder above is there and no folder can be made in it (/proc), the errno is the same.
        var isParentThere = false
        while true {
            do throws(IOError) {
                try await calls.makeDirectory(next, permissions)
            } catch {
                if error.errno == .fileExists, let status = try? await FileStatus.of(next), status.kind == .directory {
                } else if error.errno == .noSuchFileOrDirectory, !isParentThere,
                    !next.removingLastComponent().isEmpty, next.lastComponent != nil
                {
                    missing.append(next)
                    next = next.removingLastComponent()
                    continue
                } else {
                    throw error
                }
            }
            guard let deeper = missing.popLast() else { return }
            next = deeper
            isParentThere = true
        }
    }

    /// Size, kind, times and the like of what a path names.
    ///
    /// - Parameter followingLinks: whether a symbolic link stands for what it points to, or for itself.
    public static func status(of path: FilePath, followingLinks: Bool = true) async throws(IOError) -> FileStatus {
        if followingLinks { return try await FileStatus.of(path) }
        let calls = PathCalls(for: "Files.status")
        let raw = UnsafeMutablePointer<rondo_statx>.allocate(capacity: 1)
        unsafe raw.initialize(to: rondo_statx())
        defer { unsafe raw.deallocate() }
        try await unsafe calls.run("stat", path) { unsafe .linkStatus(in: .workingDirectory, $0, raw) }
        return unsafe FileStatus(raw.pointee)
    }

    /// Whether a path names something. What can't be told is an error: `stat /root/x: Permission denied`.
    ///
    /// The answer may be out of date when it arrives: to use a file, open it and see.
    public static func exists(_ path: FilePath, followingLinks: Bool = true) async throws(IOError) -> Bool {
        do throws(IOError) {
            _ = try await status(of: path, followingLinks: followingLinks)
            return true
        } catch {
            if error.errno == .noSuchFileOrDirectory || error.errno == .notDirectory { return false }
            throw error
        }
    }
}

extension PathCalls {
    func rename(_ path: FilePath, to newPath: FilePath, replacing: Bool = true) async throws(IOError) {
        let here = Descriptor.workingDirectory
        // SAFETY: the paths live until the completion; so below.
        let answer = await unsafe answer(path, newPath) {
            unsafe .rename(in: here, $0, to: here, $1, flags: replacing ? 0 : RONDO_RENAME_NOREPLACE)
        }
        try Self.check(answer, "rename", "\(path.string) to \(newPath.string)")
    }

    func makeDirectory(_ path: FilePath, _ permissions: FilePermissions) async throws(IOError) {
        try await unsafe run("make folder", path) {
            unsafe .makeFolder(in: .workingDirectory, $0, mode: UInt32(permissions.rawValue))
        }
    }

    func remove(_ path: FilePath) async throws(IOError) {
        let answer = await unsafe answer(path) { unsafe .remove(in: .workingDirectory, $0, flags: 0) }
        if answer != -EISDIR { return _ = try Self.check(answer, "remove", path.string) }
        try await removeEmptyFolder(path)
    }

    func removeEmptyFolder(_ path: FilePath) async throws(IOError) {
        try await unsafe run("remove", path) {
            unsafe .remove(in: .workingDirectory, $0, flags: RONDO_AT_REMOVEDIR)
        }
    }

    /// Makes what is in a folder durable: which names there are.
    func synchronizeFolder(_ path: FilePath) async throws(IOError) {
        let flags = O_RDONLY | O_DIRECTORY
        let folder = Descriptor(
            rawValue: try await unsafe run("open", path) {
                unsafe .open(in: .workingDirectory, $0, flags: flags, mode: 0)
            })
        let answer = await unsafe loop.perform(.synchronize(folder, dataOnly: false), toTheEnd: toTheEnd)
        await close(folder)
        // Some file systems have nothing to do for folders, and say so.
        if answer != -EINVAL { try Self.check(answer, "synchronize", path.string) }
    }
}
