public import SystemPackage

/// Folders.
public enum Directory {
    /// One name in a folder.
    public struct Entry: Hashable, Sendable {
        /// The name, without the folder's path.
        public var name: String
        /// What it names; `.unknown` where the file system does not note it in the folder.
        public var kind: FileStatus.Kind
    }

    /// The names in a folder, sorted, without `.` and `..`.
    ///
    /// The kernel has no asynchronous call for this: it runs in the offload pool with every driver.
    ///
    /// - Throws: `IOError`: `list /none: No such file or directory`.
    public static func entries(of path: FilePath) async throws(IOError) -> [Entry] {
        let loop = EventLoop.required(for: "Directory.entries")
        let listing = DirectoryListing()
        // SAFETY: `listing` is used after the wait, so it lives until the last completion.
        let answer = unsafe await path.withCopy {
            await unsafe loop.perform(.list($0, .passUnretained(listing)))
        }
        if answer < 0 { throw IOError("list", path.string, IOError.cause(ofAnswer: answer)) }
        return listing.entries
            .map { Entry(name: $0.name, kind: FileStatus.Kind(directoryType: $0.type)) }
            .sorted { $0.name < $1.name }
    }

    /// As ``entries(of:)``, of a folder below another one. Nothing leads out of that: see ``File/open(_:beneath:)``.
    ///
    /// - Parameters:
    ///   - path: relative to `folder`; `.` for itself.
    ///   - folder: may be relative to the working directory.
    public static func entries(of path: FilePath, beneath folder: FilePath) async throws(IOError) -> [Entry] {
        let calls = PathCalls(for: "Directory.entries")
        let opened = try await calls.openBeneath(folder, path, "list")
        let part = FolderPart()
        var answer: Int32 = 1
        // SAFETY: `part` is used after the wait, so it lives until the last completion.
        while answer > 0 { answer = await unsafe calls.loop.perform(.file(.listNext(opened, .passUnretained(part)))) }
        await calls.close(opened)
        try PathCalls.check(answer, "list", folder.pushing(path).string)
        return part.entries
            .map { entry in
                let name = String(decoding: entry.name.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self)
                return Entry(name: name, kind: FileStatus.Kind(directoryType: entry.type))
            }
            .sorted { $0.name < $1.name }
    }
}
