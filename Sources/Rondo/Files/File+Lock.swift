import Glibc

/// Who else may have a lock at the same time.
public enum FileLock: Sendable {
    /// Others may share it, to read.
    case shared
    /// Nobody else may have it.
    case exclusive

    var flag: Int32 { self == .shared ? LOCK_SH : LOCK_EX }
}

/// Advisory locks on whole files (`flock`): they keep out who asks for one, in any process, and nobody else.
///
/// A lock belongs to the open file: another `File` for the same path is somebody else, also in the same process. It
/// ends with ``unlock()``, when the file is closed, and when the process ends, however it ends.
extension File {
    // SAFETY: no operation here has a pointer.

    /// Waits for the lock.
    ///
    /// A wait for a lock that somebody holds takes a thread of its own, not one of the offload pool's. A task that is
    /// cancelled goes on at once, without the lock.
    ///
    /// - Throws: `IOError`; if this `File` has the lock already, or another task waits for it here, that is an error:
    ///   to wait for each other, two tasks open the file twice.
    public func lock(_ kind: FileLock = .exclusive) async throws(IOError) {
        if try await tryLock(kind, "lock") { return }
        try await loop.onLoop { () async throws(IOError) in
            try beginLocking("lock")
            do throws(IOError) {
                _ = try await run("lock") { file in
                    await unsafe file.loop.perform(.file(.lock(file.descriptor, kind.flag)))
                }
            } catch {
                isLocked = false
                throw error
            }
        }
    }

    /// Takes the lock if nobody is in the way.
    ///
    /// - Returns: whether it has the lock now.
    public func tryLock(_ kind: FileLock = .exclusive) async throws(IOError) -> Bool {
        try await tryLock(kind, "try to lock")
    }

    private func tryLock(_ kind: FileLock, _ verb: String) async throws(IOError) -> Bool {
        try await loop.onLoop { () async throws(IOError) in
            try beginLocking(verb)
            do throws(IOError) {
                _ = try await run(verb) { file in
                    await unsafe file.loop.perform(.file(.lock(file.descriptor, kind.flag | LOCK_NB)))
                }
                return true
            } catch {
                isLocked = false
                if error.errno == .wouldBlock { return false }
                throw error
            }
        }
    }

    private func beginLocking(_ verb: String) throws(IOError) {
        if isLocked {
            throw IOError(
                verb, path.string, .invalid("it is locked here already: open the file once more for a second holder"))
        }
        isLocked = true
    }

    /// Gives the lock up; nothing happens if there is none. Not ended by cancellation.
    public func unlock() async throws(IOError) {
        _ = try await run("unlock") { file in
            let answer = await unsafe file.loop.perform(.file(.lock(file.descriptor, LOCK_UN)), toTheEnd: true)
            if answer >= 0 { file.isLocked = false }
            return answer
        }
    }

    /// Runs `body` with the lock, and gives it up in any case.
    public func withLock<Value>(
        _ kind: FileLock = .exclusive, _ body: () async throws -> Value
    ) async throws -> Value {
        try await lock(kind)
        do {
            let value = try await body()
            try? await unlock()  // closed by the body: then the lock is gone too
            return value
        } catch {
            try? await unlock()
            throw error
        }
    }
}
