// The files of a folder, as a handler. What is asked for is found below the folder or not at all.

import HTTPTypes
import Rondo
public import SystemPackage
import Synchronization

/// Answers requests with the files below a folder: whole or a range, compressed or as they are, with validators, and
/// folders as lists.
///
/// ```
/// let files = try await StaticFiles(root: "/srv/www")
/// try await server.serve { request, response in try await files.answer(request, with: response) }
/// ```
///
/// A request can't leave the folder: neither by `..`, nor by an encoded slash, nor by a symbolic link that points out
/// of it, nor by one that is put there while the request is answered: the kernel sees to that (`openat2`). Symbolic
/// links within the folder are followed, if they are relative. Names that begin with a dot are hidden.
public struct StaticFiles: Sendable {
    /// The folder, as it was given.
    public let root: FilePath
    /// Whether a folder without an `index.html` is answered with the list of what is in it; else with 404.
    public var listsFolders = true
    /// How many files may be compressed at a time, for clients that ask for gzip; 0 for none. When there are so many,
    /// further clients get their files as they are. Each takes half a megabyte.
    public var compressionsAtOnce = 64

    let compressions = Compressions()

    /// - Throws: `IOError` if there is no such folder.
    public init(root: FilePath) async throws {
        self.root = root
        if try await Files.status(of: root).kind != .directory {
            throw IOError("serve", root.string, .system(.notDirectory))
        }
    }

    /// Answers a request, whatever it is.
    public func answer(_ request: ServerRequest, with response: ServerResponse) async throws {
        guard request.method == .get || request.method == .head else {
            response.headers[.allow] = "GET, HEAD"
            return try await response.send(.methodNotAllowed)
        }
        guard let names = RequestPath.names(in: request.path) else { return try await response.send(.badRequest) }
        if names.contains(where: RequestPath.isHidden) { return try await response.send(.notFound) }
        let path = names.isEmpty ? FilePath(".") : FilePath(names.joined(separator: "/"))
        guard let file = try await open(path, response) else { return }
        try await using(file) {
            let status = try await file.status()
            switch status.kind {
            case .regular where !request.path.hasSuffix("/"): try await send(file, status, request, response)
            case .directory: try await sendFolder(path, request, response)
            default: try await response.send(.notFound)
            }
        }
    }

    // MARK: Opening

    /// - Returns: nil if the client has been told that it gets none.
    private func open(_ path: FilePath, _ response: ServerResponse) async throws -> File? {
        do throws(IOError) {
            return try await File.open(path, beneath: root)
        } catch {
            if error.isCancellation { throw error }
            switch error.cause {
            case .system(.tooManyOpenFiles), .system(.tooManyOpenFilesInSystem), .system(.noMemory):
                response.headers[.retryAfter] = "1"
                try await response.send(.serviceUnavailable)
            default: try await response.send(.notFound)
            }
            return nil
        }
    }

    private func using(_ file: File, _ body: () async throws -> Void) async throws {
        do {
            try await body()
            await file.close()
        } catch {
            await file.close()
            throw error
        }
    }

    // MARK: Folders

    private func sendFolder(_ path: FilePath, _ request: ServerRequest, _ response: ServerResponse) async throws {
        guard request.path.hasSuffix("/") else {
            // The names of the list are relative to it. A second slash would name another host.
            let target = "/" + request.path.drop { $0 == "/" } + "/"
            response.headers[.location] = target + (request.query.map { "?\($0)" } ?? "")
            return try await response.send(.movedPermanently)
        }
        if let index = try? await File.open(path.appending("index.html"), beneath: root) {
            var isSent = false
            try await using(index) {
                let status = try await index.status()
                if status.kind == .regular {
                    isSent = true
                    try await send(index, status, request, response)
                }
            }
            if isSent { return }
        }
        guard listsFolders else { return try await response.send(.notFound) }
        try await sendList(path, request, response)
    }
}

/// How many files are being compressed.
final class Compressions: Sendable {
    private let count = Atomic(0)

    /// - Returns: false if there are `limit` already. Else `end` must follow.
    func begin(limit: Int) -> Bool {
        if count.add(1, ordering: .relaxed).newValue <= limit { return true }
        end()
        return false
    }

    func end() { count.subtract(1, ordering: .relaxed) }
}
