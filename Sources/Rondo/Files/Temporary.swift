import CRondo
import Glibc
public import SystemPackage

/// Files that are gone when they are closed.
public enum TemporaryFile {
    /// Runs `body` with an empty file that has no name, open for reading and writing, and closes it.
    ///
    /// Nobody else can open it. Its space is free again when it is closed, and also if the process ends before.
    ///
    /// - Parameter folder: on which file system; nil for the folder that `TMPDIR` names, or `/tmp`.
    public static func with<Value>(
        in folder: FilePath? = nil, _ body: (File) async throws -> Value
    ) async throws -> Value {
        let calls = PathCalls(for: "TemporaryFile.with")
        let file = try await calls.makeUnnamedFile(in: folder ?? defaultFolder)
        do {
            let value = try await body(file)
            await file.close()
            return value
        } catch {
            await file.close()
            throw error
        }
    }

    /// Where temporary files go.
    static var defaultFolder: FilePath {
        FilePath(environmentValue("TMPDIR").flatMap { $0.isEmpty ? nil : $0 } ?? "/tmp")
    }
}

/// Folders that are gone at the end of a scope.
public enum TemporaryDirectory {
    /// Makes an empty folder that only this user may enter, runs `body` with its path, and removes it with all that is
    /// in it: also if `body` throws or the task is cancelled.
    ///
    /// - Parameters:
    ///   - folder: where; nil for the folder that `TMPDIR` names, or `/tmp`.
    ///   - prefix: how its name begins.
    /// - Throws: what `body` throws; else `IOError` if something in it can't be removed.
    public static func with<Value>(
        in folder: FilePath? = nil, prefix: String = "rondo-", _ body: (FilePath) async throws -> Value
    ) async throws -> Value {
        let calls = PathCalls(for: "TemporaryDirectory.with")
        let parent = folder ?? TemporaryFile.defaultFolder
        let path = try await calls.makeName(in: parent, "make a folder in", parent, prefix: prefix) { path in
            // SAFETY: the path lives until the completion.
            await unsafe calls.answer(path) { unsafe .makeFolder(in: .workingDirectory, $0, mode: 0o700) }
        }.path
        let value: Value
        do {
            value = try await body(path)
        } catch {
            try? await calls.shielded.removeTree(path)
            throw error
        }
        do throws(IOError) {
            try await calls.shielded.removeTree(path)
        } catch {
            if error.errno != .noSuchFileOrDirectory { throw error }  // the body has removed it
        }
        return value
    }
}

extension PathCalls {
    /// An open file without a name.
    ///
    /// - Parameter allowsUnnamed: false to do as on a file system that has no such files.
    func makeUnnamedFile(in folder: FilePath, allowsUnnamed: Bool = true) async throws(IOError) -> File {
        let flags = O_RDWR | rondo_open_unnamed_flag()
        // SAFETY: the path lives until the completion.
        let answer =
            allowsUnnamed
            ? await unsafe answer(folder) { unsafe .open(in: .workingDirectory, $0, flags: flags, mode: 0o600) }
            : -EOPNOTSUPP
        let name = folder.appending("(a temporary file)")
        // Where it is not known at all, the kernel sees a folder that is to be opened for writing.
        guard answer == -EOPNOTSUPP || answer == -EISDIR else {
            try Self.check(answer, "make a temporary file in", folder.string)
            return File(Descriptor(rawValue: answer), path: name, loop: loop)
        }
        let file = try await makeFile(in: folder, permissions: .ownerReadWrite, for: name)
        do throws(IOError) {
            try await shielded.remove(file.path)
        } catch {
            await file.close()
            throw error
        }
        return file
    }
}
