// A file that is not whole yet: NAME.part, and beside it a note of what it is a part of, so that a later run can go on.

import Crypto
import Rondo
import RondoHTTPClient
import SystemPackage

/// The part of one download that is on the disk.
@MainActor
final class PartFile {
    private static let permissions: FilePermissions = [.ownerReadWrite, .groupRead, .otherRead]
    /// Files from this size on get their note at once; smaller ones when they are interrupted.
    private static let noteFrom: Int64 = 1 << 20

    let path: FilePath
    private let notePath: FilePath
    private let url: String
    private var file: File?
    private var hash = SHA256()
    private var hasNote: Bool
    /// How much of it is there, and in the hash.
    private(set) var count: Int64 = 0
    /// What the server calls this state of the file: an `ETag`, or a date; nil if it can't go on.
    private(set) var validator: String?

    /// - Parameter mayExist: whether an earlier run has left something.
    init(_ name: String, in folder: FilePath, url: String, mayExist: Bool) {
        path = folder.appending(name + FetchNames.partSuffix)
        notePath = folder.appending(name + FetchNames.noteSuffix)
        self.url = url
        hasNote = mayExist
    }

    /// Where the next request may go on; 0 for the beginning.
    var resumePoint: Int64 { validator == nil ? 0 : count }

    /// Opens what an earlier run has left, if it is of this URL, and reads it for the checksum.
    func openOld() async throws {
        guard let note = try? await File.contents(of: notePath, limit: 64 * 1024) else { return }
        let lines = String(decoding: note, as: UTF8.self).split(separator: "\n", omittingEmptySubsequences: false)
        guard lines.count >= 2, lines[0] == url, !lines[1].isEmpty else { return }
        guard try await open(), let file else { return }
        for try await chunk in file.chunks() {
            add(chunk)
            await EventLoop.yieldIfNeeded()
        }
        validator = String(lines[1])
    }

    /// Begins at the beginning.
    func startOver(validator: String?, expected: Int64?) async throws {
        let wasThere = if file == nil { try await open() } else { true }
        if wasThere { try await file?.truncate(to: 0) }
        hash = SHA256()
        count = 0
        self.validator = validator
        if let expected, expected >= Self.noteFrom { try await writeNote() }
    }

    /// Opens the file, or makes it. One that another process is at work on is an error; what is no file is too.
    ///
    /// - Returns: whether it was there.
    private func open() async throws -> Bool {
        var wasThere = false
        let file: File
        do throws(IOError) {
            file = try await File.open(path, .createNew(permissions: Self.permissions))
        } catch {
            if error.errno != .fileExists { throw error }
            // Not through a link that somebody has put here.
            guard try await Files.status(of: path, followingLinks: false).kind == .regular else {
                throw CommandFailure("\(path) is there and is no file: remove it")
            }
            file = try await File.open(path, .update(permissions: Self.permissions))
            wasThere = true
        }
        guard try await file.tryLock(.exclusive) else {
            await file.close()
            throw CommandFailure("\(path): another process downloads it")
        }
        self.file = file
        return wasThere
    }

    private func add(_ chunk: [UInt8]) {
        hash.update(data: chunk)
        count += Int64(chunk.count)
    }

    /// Writes chunks behind what is there, until they end or fail.
    func write(_ chunks: HTTPClientBody, progress: (Int) -> Void) async throws {
        guard let writer = try file?.writer(at: count) else { return }
        do {
            for try await chunk in chunks {
                try await writer.write(chunk)
                add(chunk)
                progress(chunk.count)
            }
        } catch {
            // What has come before is kept, if it could be written.
            if !Task.isCancelled { try await writer.finish() }
            throw error
        }
        try await writer.finish()
    }

    var sha256: [UInt8] { Array(hash.finalize()) }

    /// All is there: makes it durable, and gives it its name in one step.
    func finish(as name: FilePath, replacing: Bool) async throws {
        guard let file else { return }
        try await file.synchronize()
        await file.close()
        self.file = nil
        try await Files.rename(path, to: name, replacing: replacing)
        if hasNote { try? await Files.remove(notePath) }
    }

    /// Leaves it for a later run, or removes what no later run could use.
    ///
    /// - Returns: whether something was left.
    func leave() async -> Bool {
        // Also for a task that was cancelled: the work is another's.
        await Task { () -> Bool in
            await file?.close()
            guard validator != nil, count > 0 else {
                await remove()
                return false
            }
            try? await writeNote()
            return true
        }.value
    }

    /// Removes it.
    func remove() async {
        guard file != nil || hasNote else { return }
        await file?.close()
        file = nil
        try? await Files.remove(path)
        if hasNote { try? await Files.remove(notePath) }
        hasNote = false
    }

    private func writeNote() async throws {
        guard let validator else { return }
        hasNote = true
        try await File.write(Array("\(url)\n\(validator)\n".utf8), to: notePath)
    }
}

extension PartFile {
    /// The checksum of a file.
    static func checksum(of path: FilePath) async throws -> [UInt8] {
        var hash = SHA256()
        let file = try await File.open(path)
        do {
            for try await chunk in file.chunks() {
                hash.update(data: chunk)
                await EventLoop.yieldIfNeeded()
            }
        } catch {
            await file.close()
            throw error
        }
        await file.close()
        return Array(hash.finalize())
    }
}
