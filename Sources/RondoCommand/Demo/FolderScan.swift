// Which files the demo serves.

import Rondo
import SystemPackage

/// A folder, and where in it the files are.
struct ServedFolder: Sendable {
    /// As an absolute path.
    var root: FilePath
    /// The folders within `root` whose files are served, relative to it; "" for all of it.
    var parts: [FilePath]

    /// The folder that was asked for, or else this package's own sources and documents.
    static func find(_ asked: String?) async throws -> ServedFolder {
        let here = try FilePath(workingDirectory())
        if let asked {
            let root = here.pushing(FilePath(asked)).lexicallyNormalized()
            let status = try await FileStatus.of(root)
            guard status.kind == .directory else {
                throw CommandFailure("--folder \(asked): it is not a folder")
            }
            return ServedFolder(root: root, parts: [""])
        }
        var candidate = here
        while true {
            if await isRondoPackage(candidate) {
                var parts: [FilePath] = []
                for part in ["Sources", "docs"] where await isFolder(candidate.appending(part)) {
                    parts.append(FilePath(part))
                }
                return ServedFolder(root: candidate, parts: parts)
            }
            guard candidate.removeLastComponent() else {
                throw CommandFailure(
                    "the working directory is not in the Rondo package, whose files the demo serves by default "
                        + "(say which files to serve: --folder PATH)")
            }
        }
    }

    private static func isRondoPackage(_ folder: FilePath) async -> Bool {
        guard let text = try? await File.contents(of: folder.appending("Package.swift"), limit: 1 << 20) else {
            return false
        }
        return String(decoding: text, as: UTF8.self).contains("name: \"rondo\"")
    }

    private static func isFolder(_ path: FilePath) async -> Bool {
        (try? await FileStatus.of(path))?.kind == .directory
    }
}

/// The files that were found, and what was left out.
struct FolderScan: Sendable {
    /// Relative to the folder, sorted.
    var paths: [String] = []
    /// Files that are too large, and files whose names can't stand in a request.
    var tooLarge = 0
    var unspeakable = 0

    /// Finds every file, in all folders.
    static func of(_ folder: ServedFolder, largestFile: Int) async throws -> FolderScan {
        var scan = FolderScan()
        for part in folder.parts { try await scan.add(part, in: folder.root, largestFile: largestFile) }
        scan.paths.sort()
        if scan.paths.isEmpty {
            let why = scan.tooLarge > 0 ? " (\(scan.tooLarge.grouped) are larger than --largest-file)" : ""
            throw CommandFailure("there is no file to serve in \(folder.root)\(why)")
        }
        return scan
    }

    private mutating func add(_ part: FilePath, in root: FilePath, largestFile: Int) async throws {
        for entry in try await Directory.entries(of: root.pushing(part)) where !entry.name.hasPrefix(".") {
            let path = part.appending(entry.name)
            var kind = entry.kind
            if kind == .unknown { kind = try await FileStatus.of(root.pushing(path)).kind }
            switch kind {
            case .directory: try await add(path, in: root, largestFile: largestFile)
            case .regular:
                if entry.name.contains(where: \.isNewline) || entry.name.contains("\u{FFFD}") {
                    unspeakable += 1
                } else if try await FileStatus.of(root.pushing(path)).size > Int64(largestFile) {
                    tooLarge += 1
                } else {
                    paths.append(path.string)
                }
            default: break
            }
        }
    }
}
