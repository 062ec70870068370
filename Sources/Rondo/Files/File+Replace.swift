import CRondo
import Glibc
public import SystemPackage

extension File {
    /// Writes a file anew, so that everybody sees the old content or the whole new one, also after a power cut.
    ///
    /// `body` writes into a new file in the same folder. When it has returned, the new file is made durable (fsync),
    /// takes the old one's name in one step, and that is made durable as well. If something goes wrong before the last
    /// step, or the task is cancelled, the new file is gone and the old one was not touched.
    ///
    /// A symbolic link at `path` is replaced itself; hard links to the old file keep the old content.
    ///
    /// - Parameter permissions: of the new file; nil for those of the old one, or else read and write for the owner.
    /// - Throws: what `body` throws, or `IOError`. An error of the last step (`synchronize /folder`) means that the new
    ///   content is in place but may not outlive a power cut.
    public static func replace<Value>(
        at path: FilePath, permissions: FilePermissions? = nil, _ body: (File) async throws -> Value
    ) async throws -> Value {
        let calls = PathCalls(for: "File.replace")
        var mode = permissions
        if mode == nil {
            do throws(IOError) {
                mode = try await FileStatus.of(path).permissions
            } catch {
                if error.errno != .noSuchFileOrDirectory { throw error }
            }
        }
        let parent = path.removingLastComponent()
        let folder = parent.isEmpty ? FilePath(".") : parent
        let file = try await calls.makeFile(in: folder, permissions: .ownerReadWrite, for: path)
        let value: Value
        do {
            value = try await body(file)
            // The umask has no say in what the old file had.
            if let mode { try await file.setPermissions(mode) }
            try await file.synchronize()
            await file.close()
            try await calls.rename(file.path, to: path)
        } catch {
            await file.close()
            try? await calls.shielded.remove(file.path)
            throw error
        }
        try await calls.shielded.synchronizeFolder(folder)
        return value
    }

    /// As ``replace(at:permissions:_:)-(FilePath,_,_)``, with content that is there.
    public static func replace(
        at path: FilePath, permissions: FilePermissions? = nil, with bytes: [UInt8]
    ) async throws(IOError) {
        do {
            try await replace(at: path, permissions: permissions) { try await $0.write(bytes) }
        } catch let error as IOError {
            throw error
        } catch {
            crash("replacing a file threw \(error)")
        }
    }
}

extension PathCalls {
    /// Makes an empty file with a name of its own.
    ///
    /// - Parameter subject: on whose behalf, for errors.
    func makeFile(
        in folder: FilePath, permissions: FilePermissions, for subject: FilePath
    ) async throws(IOError) -> File {
        let path = try await makeName(in: folder, "replace", subject) { path in
            // SAFETY: the path lives until the completion.
            await unsafe answer(path) {
                unsafe .open(
                    in: .workingDirectory, $0, flags: O_RDWR | O_CREAT | O_EXCL, mode: UInt32(permissions.rawValue))
            }
        }
        return File(Descriptor(rawValue: path.answer), path: path.path, loop: loop)
    }

    /// Finds a name that nobody has, by trying to make something with it.
    func makeName(
        in folder: FilePath, _ verb: String, _ subject: FilePath, prefix: String = ".rondo-",
        _ make: (FilePath) async -> Int32
    ) async throws(IOError) -> (path: FilePath, answer: Int32) {
        // From the driver's clock, so that a simulation has the same names every time. What is made must not be there,
        // so a name that others have guessed does no harm.
        var number = loop.driver.now
        while true {
            number = (number ^ number >> 29) &* 0xbf58_476d_1ce4_e5b9 &+ 1
            let path = folder.appending("\(prefix)\(String(number, radix: 36))")
            let answer = await make(path)
            if answer == -EEXIST { continue }
            try Self.check(answer, verb, subject.string)
            return (path, answer)
        }
    }
}
